"""Will it be clicked? Hashed crosses of columns, a table of a million rows, FTRL: how such models are often trained.

    python examples/ctr.py ../shared/data/libsvm/a9a ../shared/data/libsvm/a9a.t             # any categorical rows
    python examples/ctr.py train.libsvm test.libsvm --model fm:8 --workers 4 --nodes 2

Each row gets, beside its own columns, every pair of them, hashed to 2^20 keys. Few of these say anything: FTRL with an
L1 penalty leaves many weights at 0. The table lives on the parameter server; a worker sees the rows of its batch.
McMahan et al., *Ad click prediction: a view from the trenches*, KDD 2013; Rendle, *Factorization machines*, ICDM 2010.

On the census data (a9a: who earns more than $50,000; 16,281 test rows), 5 epochs, two workers, ssp:3:

    model                                    log loss   right   weights that are not 0
    logistic --plain (columns alone)           0.3263   85.1%     116 of   123
    logistic                                   0.3209   85.2%   3,577 of 5,439
    logistic --l1 0.1                          0.3207   85.3%   1,231 of 5,439
    fm:8 --plain --lr 0.1                      0.3238   85.1%

Pairs say a little more than columns do, and a third of them is enough. No pair was chosen by hand.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

import trivium as tv
from trivium.program.hashed import HashedFM, HashedLogistic
from trivium.program.row_updates import RowFTRL
from trivium.program.tables import TableSpec

BITS = 20
MIX = np.uint64(0x9E3779B97F4A7C15)


def crossed(table: Any) -> Any:
    """``table`` with its columns and all pairs of them as hashed columns of weight 1, and one for the intercept."""
    from scipy.sparse import csr_matrix

    x = table.columns["x"]
    counts, columns, starts = np.diff(x.indptr), [], []
    for count in np.unique(counts):
        some = np.flatnonzero(counts == count)
        own = x.indices[x.indptr[some][:, None] + np.arange(count)].astype(np.uint64)
        i, j = np.triu_indices(count, 1)
        pairs = ((own[:, i] * np.uint64(1 << 32) + own[:, j] + np.uint64(1)) * MIX) >> np.uint64(64 - BITS)
        columns.append(np.hstack([own, pairs, np.full((len(some), 1), x.width)]).astype(np.int64))
        starts.append(some)
    rows = np.concatenate([np.repeat(some, part.shape[1]) for some, part in zip(starts, columns, strict=True)])
    found = np.concatenate([part.ravel() for part in columns])
    made = csr_matrix((np.ones(len(found), np.float32), (rows, found)), shape=(len(counts), 1 << BITS))
    made.data[:] = 1.0  # two columns that fall together count once
    return tv.from_arrays(made, table.columns["y"])


def model_named(name: str, l1: float, lr: float) -> Any:
    """``logistic``, or ``fm:K``."""
    if name == "logistic":
        return HashedLogistic(TableSpec("w", rows=1 << BITS, update=RowFTRL(lr=lr, l1=l1)))
    factors = int(name.removeprefix("fm:"))
    spec = TableSpec("w", rows=1 << BITS, width=1 + factors, update="adagrad", lr=lr, init="zeros:1+normal:0.01")
    return HashedFM(spec)


def worker_on(model: Any, data: Any, epochs: int, batch_size: int) -> Any:
    """The function that each worker runs."""

    def worker(ctx: Any) -> None:
        w = ctx.table(model.table)
        for batch in ctx.batches(data, batch_size, epochs=epochs):
            ready = model.read(batch.rows)
            made = model.delta(w.pull(ready.keys), ready)
            w.push(ready.keys, made.deltas)
            ctx.report(loss=made.loss / made.weight)
            ctx.clock()

    return worker


def main() -> None:
    """Train and say how well."""
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("train", type=Path, help="rows of columns that are there or not, as LIBSVM has them")
    ask.add_argument("test", type=Path)
    ask.add_argument("--model", default="logistic", help="logistic, or fm:K")
    ask.add_argument("--plain", action="store_true", help="columns alone, no pairs")
    ask.add_argument("--workers", type=int, default=2)
    ask.add_argument("--nodes", type=int, default=1)
    ask.add_argument("--consistency", default="ssp:3")
    ask.add_argument("--epochs", type=int, default=5)
    ask.add_argument("--batch-size", type=int, default=256)
    ask.add_argument("--l1", type=float, default=0.01)
    ask.add_argument("--lr", type=float, default=0.3)
    ask.add_argument("--out")
    said = ask.parse_args()
    train = tv.read(said.train).table()
    test = tv.read(said.test, features=train.spec.features).table()
    if not said.plain:
        train, test = crossed(train), crossed(test)
    model = model_named(said.model, said.l1, said.lr)
    plan = tv.Plan("ps", workers=said.workers, nodes=said.nodes, consistency=said.consistency)
    run = tv.run(worker_on(model, train, said.epochs, said.batch_size), plan=plan, out=said.out)
    ready = model.read(tv_batch(test))
    rows, weight, loss, right = model.evaluate(run.tables["w"].pull(ready.keys), ready)
    held = run.tables["w"].block()
    used = int((held.rows[:, 0] != 0).sum())
    print(f"{said.model}: log loss {loss / weight:.4f}, {100 * right / weight:.1f}% of {rows:,.0f} test rows right")
    print(f"{used:,} weights are not 0, of {len(held):,} rows that were pushed to")


def tv_batch(table: Any) -> Any:
    """All rows of ``table`` as one batch."""
    from trivium.data.batches import Batch

    return Batch(table, 0, len(table))


if __name__ == "__main__":
    main()
