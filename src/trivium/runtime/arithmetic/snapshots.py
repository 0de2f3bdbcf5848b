"""Versions as wholes: the first one, what a checkpoint takes and gives back, and the parameters that are kept."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from trivium.runtime.arithmetic.arrays import Bench, HeldShard

__all__ = ["commit_first", "copied", "keep", "lay", "restore", "saved", "shapes"]

Saved = dict[str, NDArray[Any]]


def commit_first(bench: Bench, a: NDArray[Any], tag: int) -> None:
    """Commit ``a`` as the version of ``tag``, with a fresh optimizer state."""
    for held in bench.held:
        slot = held.versions.begin()
        held.a[slot][:] = a[held.shard.start : held.shard.stop]
        state = held.states[slot]
        state.head[:] = 0
        state.slots[:] = 0
        bench.facts.optimizer.init(held.a[slot], state)
        bench.arrays.step[slot, held.shard.index] = 0
        held.versions.commit(slot, tag)


def keep(bench: Bench, shard: int, clock: int, tag: int) -> None:
    """Copy ``shard`` as of ``clock``, whose version is ``tag``, to the kept parameters."""
    held, keeper = bench.held[shard], bench.facts.processes + bench.me
    slot = held.pinned(keeper, tag, f"clock {clock} to keep")
    bench.arrays.kept[held.shard.start : held.shard.stop] = held.a[slot]
    bench.arrays.kept_clock[shard] = clock
    held.versions.unpin(keeper)


def saved(bench: Bench, shard: int, tag: int, what: str) -> Saved:
    """A copy of ``shard``'s version ``tag``: parameters, optimizer state, scalars, and the kept parameters."""
    held, saver = bench.held[shard], 2 * bench.facts.processes + bench.me
    slot = held.pinned(saver, tag, what)
    try:
        return copied(bench, held, slot)
    finally:
        held.versions.unpin(saver)


def copied(bench: Bench, held: HeldShard, slot: int) -> Saved:
    """A copy of what lies in ``slot``, which is pinned, and of the kept parameters."""
    n, shard = bench.arrays, held.shard.index
    return {
        "a": held.a[slot].copy(),
        "slots": held.states[slot].slots.copy(),
        "ring": held.states[slot].ring.copy(),
        "head": held.states[slot].head.copy(),
        "totals": n.totals[slot, shard].copy(),
        "step": n.step[slot, shard].copy(),
        "kept": n.kept[held.shard.start : held.shard.stop].copy(),
    }


def shapes(bench: Bench, held: HeldShard) -> dict[str, tuple[Any, tuple[int, ...]]]:
    """(dtype, shape) of each array in ``saved``."""
    n, state, shard = bench.arrays, held.states[0], held.shard.index
    like = {
        "a": held.a[0],
        "slots": state.slots,
        "ring": state.ring,
        "head": state.head,
        "totals": n.totals[0, shard],
        "step": n.step[0, shard],
        "kept": held.a[0],
    }
    return {name: (array.dtype, array.shape) for name, array in like.items()}


def lay(bench: Bench, held: HeldShard, slot: int, content: Saved) -> None:
    """Put one shard's ``saved`` into a free slot, and its kept parameters where these lie."""
    n, shard, state = bench.arrays, held.shard, held.states[slot]
    held.a[slot][:] = content["a"]
    state.slots[:] = content["slots"]
    state.ring[:] = content["ring"]
    state.head[:] = content["head"]
    n.totals[slot, shard.index] = content["totals"]
    n.step[slot, shard.index] = content["step"]
    n.kept[shard.start : shard.stop] = content["kept"]


def restore(bench: Bench, held_saved: Saved, tag: int, kept_clock: int) -> None:
    """Commit what ``saved`` took, joined over shards, as the version of ``tag``."""
    n = bench.arrays
    for held in bench.held:
        slot, cut, index = held.versions.begin(), slice(held.shard.start, held.shard.stop), held.shard.index
        held.a[slot][:] = held_saved["a"][cut]
        held.states[slot].slots[:] = held_saved["slots"][..., cut]
        held.states[slot].ring[:] = held_saved["ring"][..., cut]
        held.states[slot].head[:] = held_saved["head"][min(index, len(held_saved["head"]) - 1)]
        n.totals[slot, index] = held_saved["totals"][min(index, len(held_saved["totals"]) - 1)]
        n.step[slot, index] = held_saved["step"][min(index, len(held_saved["step"]) - 1)]
        n.kept[cut] = held_saved["kept"][cut]
        n.kept_clock[index] = kept_clock
        held.versions.commit(slot, tag)
