"""``design="auto"``: which design a plan comes to, and why, as a pure function of sizes.

One process with all its cores is the fastest road wherever data and model fit one machine: nothing is sent. So that is
what is chosen, unless the plan asks for something that only several processes have, or they do not fit.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

from trivium.plan import Plan

__all__ = ["Choice", "choose", "memory_bytes", "state_bytes"]

SHARE = 0.8  # of the memory, for data, model and state; the rest is the interpreter's, and what is computed with


@dataclass(frozen=True)
class Choice:
    """A plan with its design, and in words why it has that one; no words where it was the person's own choice."""

    plan: Plan
    why: str = ""


def choose(plan: Plan, *, data: int, model: int, memory: int) -> Choice:
    """``plan`` with a design. ``data``, ``model`` (with what F remembers) and ``memory`` are in bytes.

    >>> choice = choose(Plan(cores=(0, 1)), data=10 << 20, model=1 << 20, memory=1 << 30)
    >>> choice.plan.design, choice.why
    ('sequential', 'sequential with 2 threads: data and model (11.0 MiB) fit the memory of this machine (1.0 GiB)')
    >>> choose(Plan(workers=2), data=10, model=1, memory=1 << 30).plan.design
    'ps'
    """
    if plan.design != "auto":
        return Choice(plan)
    need = f"data and model ({_size(data + model)})"
    if plan.workers not in (None, 1):
        return _chosen(plan, "ps", f"ps: workers={plan.workers} was asked for, and sequential is one process")
    if plan.shards is not None:
        return _chosen(plan, "ps", f"ps: shards={plan.shards} was asked for, and sequential does not cut the model")
    if plan.combine == "model":
        return _chosen(plan, "ps", "ps: there are models to average only where there are several workers")
    if plan.asks_servers:
        return _chosen(plan, "ps", f"ps: {plan.asks_servers} was asked for, and only parameter servers have that")
    if plan.inject:
        return _chosen(plan, "ps", f"ps: inject={plan.inject[0]} was asked for, and sequential is one process")
    if plan.threads is not None:
        return _chosen(plan, "sequential", f"sequential: threads={plan.threads} was asked for, and only it has threads")
    if data + model > SHARE * memory:
        return _chosen(plan, "ps", f"ps: {need} do not fit the memory of one machine ({_size(memory)})")
    chosen = _chosen(plan, "sequential", "")
    many = chosen.plan.thread_count
    threads = f"{many} threads" if many > 1 else "one thread"
    return replace(chosen, why=f"sequential with {threads}: {need} fit the memory of this machine ({_size(memory)})")


def _chosen(plan: Plan, design: str, why: str) -> Choice:
    return Choice(replace(plan, design=design, workers=None if design == "sequential" else plan.workers), why)


def _size(nbytes: float) -> str:
    """Bytes in binary units."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if nbytes < 1024:
            return f"{nbytes:.0f} B" if unit == "B" else f"{nbytes:.1f} {unit}"
        nbytes /= 1024
    return f"{nbytes:.1f} TiB"


def state_bytes(layout_bytes: int, *, slots: int, ring: int, versions: int) -> int:
    """Bytes of A in all its versions, with the vectors that F rewrites (``slots``) and keeps (``ring``), and of Δ."""
    return layout_bytes * (versions * (1 + slots) + ring + 2)


def memory_bytes() -> int:
    """Bytes that this process may use: the machine's, or its control group's where that is less."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        try:
            total = min(total, int((Path("/sys/fs/cgroup") / name).read_text(encoding="ascii")))
        except (OSError, ValueError):  # not there, or "max"
            continue
    return total
