"""Speed of the kernels on one core, with the peer beside each, measured in the same run (medians; best in brackets).

    python benchmarks/kernels.py [--rows 500000] [--repeats 15]

Peers: ``np.copyto`` of the same memory (it reads what a pass over the rows reads), BLAS in two passes (X @ w, r @ X),
SciPy's sparse products, a bare ``jax.jit(jax.value_and_grad)`` on a batch that was gathered before.
"""

# ruff: noqa: E402  BLAS takes its number of threads when NumPy loads

from __future__ import annotations

import os

for _name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
    os.environ[_name] = "1"

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.sparse

from trivium.data.batches import Batch
from trivium.data.table import Csr, Table
from trivium.program.kernels import xla
from trivium.program.logistic import Logistic
from trivium.program.mlp import Mlp
from trivium.program.softmax import Softmax


def timed(work: Callable[[], Any], repeats: int) -> tuple[float, float]:
    """Median and best, in ms, after one call to warm up."""
    work()
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        work()
        times.append((time.perf_counter() - begin) * 1e3)
    return float(np.median(times)), min(times)


def line(name: str, times: tuple[float, float], nbytes: float = 0.0, rows: float = 0.0) -> None:
    rate = f"{nbytes / times[0] / 1e6:8.1f} GB/s" if nbytes else " " * 13
    speed = f"{rows / times[0] * 1e3:12,.0f} rows/s" if rows else ""
    print(f"  {name:<44}{times[0]:9.3f} ms [{times[1]:8.3f}] {rate} {speed}")


def stepper(program: Any, table: Table, batch: Batch, threads: int = 1) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """Functions that make one Δ and one evaluation of ``batch``."""
    program = program.for_data(table.spec)
    kernel, a, out = program.kernel(threads, len(batch), False), program.init(0), program.layout.empty()
    return (
        lambda: kernel.delta(a, kernel.read(batch), out, 0),
        lambda: kernel.evaluate(a, kernel.read(batch)),
    )


def dense_logistic(rows: int, repeats: int, stream: np.random.Generator) -> None:
    x = stream.standard_normal((rows, 54), dtype=np.float32)
    table = Table({"x": x, "y": stream.integers(0, 2, rows).astype(np.int32)}, ("0", "1"))
    print(f"logistic, dense {rows:,} x 54 float32, full batch ({x.nbytes / 1e6:.0f} MB)")
    for dtype in ("float64", "float32"):
        delta, score = stepper(Logistic(dtype=dtype), table, Batch(table, 0, rows))
        line(f"delta, parameters {dtype}", timed(delta, repeats), x.nbytes, rows)
        line(f"evaluate, parameters {dtype}", timed(score, repeats), x.nbytes, rows)
    half, _ = stepper(Logistic(), table, Batch(table, 0, rows // 2))
    line("delta of half the rows, float64", timed(half, repeats), x.nbytes / 2, rows / 2)
    copy, w, r = np.empty_like(x), np.ones(54, np.float32), np.ones(rows, np.float32)
    line("np.copyto (reads these bytes, writes as many)", timed(lambda: np.copyto(copy, x), repeats), x.nbytes)
    line("BLAS, two passes: X @ w, r @ X", timed(lambda: (x @ w, r @ x), repeats), x.nbytes, rows)


def sparse_logistic(repeats: int, stream: np.random.Generator) -> None:
    rows, width, nnz = 25_000, 79_769, 140
    columns = (np.exp(stream.random(rows * nnz) * np.log(width)) - 1).astype(np.int64)  # frequency ~ 1 / rank
    m = scipy.sparse.csr_matrix(
        (np.ones(rows * nnz, np.float32), columns, np.arange(rows + 1) * nnz), shape=(rows, width)
    )
    m.sum_duplicates()
    for name, x in (("words drawn by Zipf's law", m), ("columns drawn evenly", _even(rows, width, nnz, stream))):
        csr = Csr(x.indptr.astype(np.int64), x.indices.astype(np.int32), x.data, width)
        table = Table({"x": csr, "y": stream.integers(0, 2, rows).astype(np.int32)}, ("0", "1"))
        print(f"logistic, CSR {rows:,} x {width:,}, {x.nnz / 1e6:.1f} M non-zeros, {name}")
        for dtype in ("float64", "float32"):
            delta, score = stepper(Logistic(dtype=dtype), table, Batch(table, 0, rows))
            line(f"delta, parameters {dtype}", timed(delta, repeats), 8 * x.nnz, rows)
            line(f"evaluate, parameters {dtype}", timed(score, repeats), 8 * x.nnz, rows)
        w, r = np.ones(width), np.ones(rows)
        line("SciPy, two passes: X @ w, X.T @ r, float64", timed(lambda: (x @ w, x.T @ r), repeats), 8 * x.nnz, rows)  # noqa: B023


def _even(rows: int, width: int, nnz: int, stream: np.random.Generator) -> Any:
    columns = stream.integers(0, width, rows * nnz)
    x = scipy.sparse.csr_matrix(
        (np.ones(rows * nnz, np.float32), columns, np.arange(rows + 1) * nnz), shape=(rows, width)
    )
    x.sum_duplicates()
    return x


def pixels(stream: np.random.Generator) -> Table:
    x = stream.integers(0, 256, (60_000, 784), dtype=np.uint8)
    return Table({"x": x, "y": stream.integers(0, 10, 60_000).astype(np.int32)}, tuple("0123456789"), scale=1 / 255)


def softmax(table: Table, repeats: int) -> None:
    print("softmax, dense 60,000 x 784 uint8, 10 classes, full batch")
    delta, score = stepper(Softmax(), table, Batch(table, 0, len(table)))
    line("delta", timed(delta, repeats), 47e6, len(table))
    line("evaluate", timed(score, repeats), 47e6, len(table))
    x, W = np.asarray(table.columns["x"]).astype(np.float32), np.ones((784, 10), np.float32)
    r = np.ones((60_000, 10), np.float32)
    line("BLAS, two passes on float32: X @ W, X.T @ R", timed(lambda: (x @ W, x.T @ r), repeats), 188e6, len(table))


def network(table: Table, repeats: int, stream: np.random.Generator) -> None:
    import jax
    import jax.numpy as jnp

    def loss(params: Any, x: Any, y: Any) -> Any:
        logits = jax.nn.relu(x @ params[0] + params[1]) @ params[2] + params[3]
        return -jnp.sum(jnp.where(jnp.arange(10) == y[:, None], jax.nn.log_softmax(logits), 0.0))

    bare = jax.jit(jax.value_and_grad(loss))
    program = Mlp((500,)).for_data(table.spec)
    a, out = program.init(0), program.layout.empty()
    params = jax.device_put(tuple(np.array(view) for view in program.layout.views(a).values()))
    print("mlp:500, rows of 784 uint8 picked at random: 1.6 MFLOP a row")
    for rows in (32, 64, 128, 256, 512):
        kernel = program.kernel(1, rows, False)
        batch = Batch(table, index=stream.permutation(len(table))[:rows])
        x = jax.device_put(np.asarray(table.columns["x"])[batch.index].astype(np.float32) / 255)
        y = jax.device_put(np.asarray(table.columns["y"])[batch.index])
        ours = timed(lambda: kernel.delta(a, kernel.read(batch), out, 0), 4 * repeats)  # noqa: B023
        read = timed(lambda: kernel.read(batch), 4 * repeats)  # noqa: B023
        peer = timed(lambda: jax.block_until_ready(bare(params, x, y)), 4 * repeats)  # noqa: B023
        line(f"{rows} rows: read + delta (read {read[0]:.3f} ms)", ours, 0, rows)
        line(f"{rows} rows: bare jax.jit, batch gathered before", peer, 0, rows)
    kernel = program.kernel(1, 256, False)
    line("evaluate 60,000 rows", timed(lambda: kernel.evaluate(a, kernel.read(Batch(table, 0, 60_000))), 3), 0, 60_000)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rows", type=int, default=500_000, help="rows of the dense logistic problem")
    parser.add_argument("--repeats", type=int, default=15)
    given = parser.parse_args()
    xla.configure(1)
    stream = np.random.default_rng(0)
    dense_logistic(given.rows, given.repeats, stream)
    sparse_logistic(given.repeats, stream)
    table = pixels(stream)
    softmax(table, given.repeats)
    network(table, given.repeats, stream)


if __name__ == "__main__":
    main()
