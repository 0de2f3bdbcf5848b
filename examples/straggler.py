"""Who waited for whom: train with one slow worker under BSP and under SSP, and see what that costs each of the others.

Run: ``python examples/straggler.py [FOLDER]``. Needs no data of its own; takes about half a minute at first. Writes a
page with the pictures of each run to FOLDER (default: a temporary one, whose name is printed).
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import trivium as tv

WORKERS, SLOW = 3, "slow:worker1:x6"  # it waits: so it takes nothing from the others on the same machine


def waits(record: tv.Record) -> str:
    """A table: a row for each worker that waited, a column for whom, in seconds."""
    workers = [one for one in record.processes if one.name.startswith("worker")]
    whom = sorted({name for one in workers for name in one.waited_for})
    lines = [f"{'waited for':<12}" + "".join(f"{name:>10}" for name in whom)]
    lines += [
        f"{one.name:<12}" + "".join(f"{one.waited_for.get(name, 0.0):8.2f} s" for name in whom) for one in workers
    ]
    return "\n".join(lines)


def main(folder: Path) -> None:
    """Both runs, one after the other, on the same processes."""
    data = tv.read("sklearn:digits")
    with tv.Session(workers=WORKERS) as session:
        for consistency in ("bsp", "ssp:3"):
            plan = tv.Plan("ps", workers=WORKERS, consistency=consistency, balance=False, inject=(SLOW,))
            out = folder / consistency.replace(":", "-")
            run = session.train(
                "mlp:256", data, epochs=6, batch_size=64, optimizer="sgd", lr=0.1, plan=plan, out=out, progress=False
            )
            record = run.record
            reads = sum(record.lags)
            stale = ", ".join(f"{k}: {count / reads:.0%}" for k, count in enumerate(record.lags))
            print(f"\n{consistency}: loss {record.loss:.4f} in {record.seconds:.2f} s")
            print(f"clocks that reads lacked: {stale}")
            print(waits(record))
            page = folder / f"{out.name}.html"
            run.report(page)
            print(f"pictures: {page}")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(tempfile.mkdtemp(prefix="straggler-")))
