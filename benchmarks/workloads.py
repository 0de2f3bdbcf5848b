"""The data of the benchmarks, in one place, so that ours and the peers read the same rows.

Needs NumPy alone: each peer runs in an environment of its own. What is slow to make is kept below the temporary folder
as ``.npz``; delete the folder to make it anew. The real data lie in ``../shared/data`` beside the repository.
"""

from __future__ import annotations

import gzip
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Sparse", "dense", "folder", "imdb", "imdb_text", "log_loss", "mnist", "need", "scratch", "unit_log_rows"]

DENSE_ROWS, DENSE_COLUMNS, DENSE_SEED = 500_000, 54, 20_150
IMDB_COLUMNS = 79_769


class Sparse(NamedTuple):
    """Rows in CSR form with labels -1 and 1: the pieces of ``scipy.sparse.csr_matrix``, without SciPy."""

    indptr: NDArray[np.int64]
    indices: NDArray[np.int32]
    values: NDArray[np.float64]
    y: NDArray[np.float64]


def folder() -> Path:
    """Where the real data lie."""
    return Path(__file__).resolve().parents[2] / "shared" / "data"


def need(name: str) -> Path:
    """The path of one real file; FileNotFoundError says what to do where it is missing."""
    path = folder() / name
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing; put the shared data folder beside the repository")
    return path


def scratch() -> Path:
    """The folder of what the benchmarks make: below the temporary folder, one for each user."""
    path = Path(tempfile.gettempdir()) / f"trivium-benchmarks-{os.getuid()}"
    path.mkdir(exist_ok=True)
    return path


def dense() -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """500,000 rows of 54 float32 columns with labels 0 and 1, about one in five against the model.

    Columns are mixed from 54 independent normals whose scales fall from 1 to 0.1, so that the problem has the poor
    conditioning of real measurements and is no one-step affair for a quasi-Newton method.
    """

    def make() -> dict[str, NDArray[Any]]:
        rng = np.random.default_rng(DENSE_SEED)
        scales = np.geomspace(1.0, 0.1, DENSE_COLUMNS)
        turn, _ = np.linalg.qr(rng.standard_normal((DENSE_COLUMNS, DENSE_COLUMNS)))
        x = (rng.standard_normal((DENSE_ROWS, DENSE_COLUMNS)) * scales) @ turn
        score = 2.0 * (x @ (turn.T @ rng.standard_normal(DENSE_COLUMNS))) - 0.5
        y = rng.random(DENSE_ROWS) < 1.0 / (1.0 + np.exp(-score))
        return {"x": x.astype(np.float32), "y": y.astype(np.int32)}

    kept = _kept("dense-2.npz", make)
    return kept["x"], kept["y"]


def mnist(part: str = "train") -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    """Pixels (rows, 784) uint8 and digits; ``part`` is ``train`` or ``t10k``."""
    images = gzip.decompress(need(f"mnist/{part}-images-idx3-ubyte.gz").read_bytes())
    labels = gzip.decompress(need(f"mnist/{part}-labels-idx1-ubyte.gz").read_bytes())
    x = np.frombuffer(images, np.uint8, offset=16).reshape(-1, 784)
    return x, np.frombuffer(labels, np.uint8, offset=8).astype(np.int32)


def imdb(part: str = "train") -> Sparse:
    """Word counts of 25,000 film reviews, 79,769 columns; ``part`` is ``train`` or ``test``."""

    def make() -> dict[str, NDArray[Any]]:
        text = gzip.decompress(need(f"imdb/imdb_{part}.libsvm.gz").read_bytes())
        y, counts, flat = [], [], []
        for line in text.splitlines():
            numbers = np.array(line.replace(b":", b" ").split(), np.float64)
            y.append(numbers[0])
            counts.append(len(numbers) // 2)
            flat.append(numbers[1:])
        pairs = np.concatenate(flat)
        return {
            "indptr": np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
            "indices": (pairs[::2] - 1).astype(np.int32),
            "values": pairs[1::2],
            "y": np.array(y),
        }

    return Sparse(**_kept(f"imdb-{part}.npz", make))


def imdb_text(part: str = "train") -> Path:
    """The same reviews as plain LIBSVM text, unpacked once: what a parser reads."""
    path = scratch() / f"imdb_{part}.libsvm"
    if not path.exists():
        draft = path.with_suffix(".draft")
        with gzip.open(need(f"imdb/imdb_{part}.libsvm.gz")) as packed, draft.open("wb") as plain:
            shutil.copyfileobj(packed, plain)
        draft.rename(path)
    return path


def unit_log_rows(rows: Sparse) -> Sparse:
    """``log(1 + count)``, each row scaled to length 1."""
    values = np.log1p(rows.values)
    squares = np.add.reduceat(values**2, rows.indptr[:-1])
    return rows._replace(values=values / np.repeat(np.sqrt(squares), np.diff(rows.indptr)))


def log_loss(scores: NDArray[Any], signs: NDArray[Any]) -> float:
    """Mean log loss of ``scores`` (rows,) for labels -1 and 1, without overflow."""
    return float(np.logaddexp(0.0, -signs * scores).mean())


def _kept(name: str, make: Callable[[], dict[str, NDArray[Any]]]) -> dict[str, NDArray[Any]]:
    path = scratch() / name
    if not path.exists():
        draft = path.with_suffix(f".{os.getpid()}.draft.npz")
        np.savez(draft, allow_pickle=False, **make())
        draft.rename(path)
    with np.load(path) as stored:
        return {key: stored[key] for key in stored.files}
