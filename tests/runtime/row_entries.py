"""What the processes do that read a row table's shard in the tests."""

import msgspec
import numpy as np

from trivium.program.tables import TableSpec
from trivium.runtime.memory import Arena, ArenaPlan
from trivium.runtime.rows import RowShard, RowView, private_arrays, shard_arrays


def spec_of(width):
    return TableSpec("w", width=width, dtype="float64", update="add")


def warm():
    """Compile (or load) in the zygote, so that the children start running."""
    shard = RowShard(spec_of(4), private_arrays(spec_of(4), 8))
    shard.push([1], np.ones((1, 4)))
    shard.pull([1, 2])
    shard.counts([1])
    shard.snapshot()


def look(payload, fds):
    """Read all rows over and over; 1 at the first torn one, 2 at an older one, 0 once the first row is at its last."""
    width, capacity, last = msgspec.msgpack.decode(payload)
    spec, plan = spec_of(width), ArenaPlan()
    for name, (dtype, shape) in shard_arrays(spec, capacity).items():
        plan.add(name, dtype, shape)
    arena = Arena.attach(fds[0], plan)
    view = RowView(spec, {name: arena[name] for name in plan.entries})
    keys, seen = np.arange(capacity), np.zeros(capacity)
    while seen[0] <= last:
        rows, block = view.pull(keys), view.snapshot()
        if (rows != rows[:, :1]).any() or (block.rows != block.counts[:, None]).any():
            return 1
        if (rows[:, 0] < seen).any() or (block.counts < rows[block.keys, 0]).any():
            return 2
        seen = rows[:, 0]
    return 0
