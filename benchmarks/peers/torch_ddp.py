"""PyTorch DistributedDataParallel over gloo: two processes of one thread each, batch 128 each, mlp:500 on MNIST.

Both ranks take the same number of steps (each step is a meeting), so windows are counted in steps: as many as the
warm-up says fill about 1.5 seconds. Run: ``.venv-torch/bin/python -m benchmarks.peers.torch_ddp``
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from benchmarks import measure
from benchmarks.peers.torch_net import network, stepper

WORKERS, BATCH, WINDOWS, WINDOW, WARM = 2, 128, 3, 1.5, 50


def work(rank: int, meeting: str) -> None:
    """One rank, pinned to a core of its own; rank 0 writes the line."""
    measure.pin(1, rank % len(os.sched_getaffinity(0)))
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=WORKERS)
    step = stepper(torch.nn.parallel.DistributedDataParallel(network()), rank, WORKERS, BATCH)
    spent = _time(step, WARM)
    steps = torch.tensor([int(WINDOW * WARM / spent)])
    dist.broadcast(steps, 0)
    count = int(steps)
    _time(step, WARM)
    rates = [count * BATCH * WORKERS / _time(step, count) for _ in range(WINDOWS)]
    if rank == 0:
        case = f"{WORKERS}x{BATCH}"
        measure.emit("torch", torch.__version__, {case: {"value": statistics.median(rates), "unit": "samples/s"}})
    dist.destroy_process_group()


def _time(step: object, count: int) -> float:
    dist.barrier()
    start = time.perf_counter()
    for _ in range(count):
        step()  # type: ignore[operator]
    return time.perf_counter() - start


def main() -> None:
    """Start both ranks; they meet in a file."""
    with tempfile.TemporaryDirectory() as place:
        mp.spawn(work, args=(str(Path(place) / "meeting"),), nprocs=WORKERS)


if __name__ == "__main__":
    main()
