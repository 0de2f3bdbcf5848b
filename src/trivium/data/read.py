"""One way in: a path or a name to a ``Table``, whatever the format; and the cut into training and validation rows."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from trivium.data.sources import idx, labels, synthetic
from trivium.data.sources.arrays import from_arrays
from trivium.data.sources.libsvm import read_libsvm
from trivium.data.sources.stream import ByteStream, is_folder
from trivium.data.table import Table
from trivium.errors import DataError, unknown

__all__ = ["FORMATS", "READABLE", "from_arrays", "part_of_test", "read", "read_libsvm", "split"]

FORMATS = ("libsvm", "idx", "synthetic", "sklearn")
READABLE = (
    "LIBSVM text or IDX (MNIST) files, plain, gzip or xz; a folder of IDX files; synthetic:ROWSxCOLUMNS[:SEED]; "
    + "; ".join(synthetic.SKLEARN_NAMES)
)
_FOREIGN = {
    b"PAR1": "a Parquet file",
    b"ARROW1": "an Arrow file",
    b"\x93NUMPY": "a NumPy file; load it and use from_arrays",
    b"PK\x03\x04": "a zip archive (or .npz); unpack it",
    b"\x89HDF": "an HDF5 file",
    b"BZh": "packed with bzip2; unpack it or pack it with gzip",
    b"\x28\xb5\x2f\xfd": "packed with zstd; unpack it or pack it with gzip",
    b"\x80\x04": "a pickle, which is never read",
    b"\x80\x05": "a pickle, which is never read",
    b"{": "JSON",
    b"[": "JSON or a settings file",
}


def read(
    source: str | os.PathLike[str],
    *,
    format: str | None = None,  # noqa: A002 - the field's word for it
    part: str = "train",
    features: int | None = None,
    classes: Sequence[float | str] | None = None,
    threads: int | None = None,
) -> Table:
    """Read ``source``: a path, ``synthetic:ROWSxCOLUMNS[:SEED]`` or ``sklearn:NAME``.

    ``format`` is one of ``FORMATS`` (default: from the content). ``part`` is "train" or "test", where the source has
    both. Read a test set with ``features`` and ``classes`` of the training set's ``spec``; ``classes=()`` asks for
    regression. ``threads`` at most (default: all allowed cores).

    >>> read("synthetic:1000x20").spec.features
    20

    Raises ``DataError``: which file, which line, what was found, what was expected.
    """
    name = os.fspath(source)
    if format is not None and format not in FORMATS:
        raise DataError(unknown("format", format, FORMATS))
    if part not in synthetic.PARTS:
        raise DataError(unknown("part", part, synthetic.PARTS))
    kind = format or _format_of(name)
    if kind == "libsvm":
        if part != "train":
            raise DataError(f"part={part!r}: a LIBSVM file has no parts; give the path of the test file")
        return read_libsvm(name, features=features, classes=classes, threads=threads)
    if kind == "idx":
        return idx.read_idx(name, part=part, features=features, classes=classes)
    made = synthetic.read_synthetic(name, part) if kind == "synthetic" else synthetic.read_sklearn(name, part)
    return _as_expected(made, features, classes)


def part_of_test(source: str) -> str:
    """The part that is meant by ``source`` as test rows: "test" where it has parts, else "train", which is all of it.

    >>> part_of_test("sklearn:digits"), part_of_test("a9a.t")
    ('test', 'train')
    """
    parted = source.startswith(("synthetic:", "sklearn:")) or Path(source).is_dir()
    return "test" if parted else "train"


def split(table: Table, fraction: float, seed: int = 0) -> tuple[Table, Table]:
    """``table`` without, and with, a random ``fraction`` of its rows: (training rows, validation rows).

    A seeded permutation decides; rows keep their order. Raises ``DataError`` where either would be empty.

    >>> [len(side) for side in split(read("synthetic:1000x20"), 0.1)]
    [900, 100]
    """
    rows = len(table)
    if not 0 < fraction < 1:
        raise DataError(f"a validation part of {fraction} of the rows: expected a number between 0 and 1, as 0.1")
    held = round(rows * fraction)
    if not 0 < held < rows:
        raise DataError(f"a validation part of {fraction} of {rows} rows leaves one side empty; change it or add rows")
    order = np.random.default_rng(seed).permutation(rows)
    sides = []
    for side, index in (("train", order[held:]), ("valid", order[:held])):
        mark = hashlib.sha256(f"{table.fingerprint}:{side}:{fraction!r}:{seed}".encode()).hexdigest()
        sides.append(dataclasses.replace(table.rows(np.sort(index)), fingerprint=mark))
    return sides[0], sides[1]


def _format_of(name: str) -> str:
    scheme = name.partition(":")[0]
    if scheme in ("synthetic", "sklearn") and ":" in name:
        return scheme
    path = Path(name)
    if is_folder(path):
        if any(path.glob("*-images*")):
            return "idx"
        raise DataError(f"{path}: a folder without IDX files (train-images*); can be read: {READABLE}")
    if scheme.isalpha() and scheme != name and not path.exists():
        raise DataError(f"{name}: no such file, nor a name that is known; can be read: {READABLE}")
    start = ByteStream(path).head(4096)
    if idx.is_idx(start):
        return "idx"
    foreign = _foreign(start)
    if foreign:
        raise DataError(f"{path}: this is {foreign}; can be read: {READABLE}")
    return "libsvm"


def _foreign(start: bytes) -> str | None:
    """What a file is that cannot be read; None if it may be LIBSVM text, whose reader words its own errors."""
    for magic, what in _FOREIGN.items():
        if start.startswith(magic):
            return what
    if b"\0" in start:
        return f"no known format (it starts with {start[:8]!r})"
    line = next((line for line in start.splitlines() if line.strip() and not line.lstrip().startswith(b"#")), b"")
    if b":" not in line and (b"," in line or b"\t" in line.strip()):
        return "a table with commas or tabs; load it and use from_arrays"
    return None


def _as_expected(table: Table, features: int | None, classes: Sequence[float | str] | None) -> Table:
    if features is not None and features != table.spec.features:
        raise DataError(f"{table.name}: has {table.spec.features} features, expected features={features}")
    y, found = labels.recode(table.name, np.asarray(table.columns["y"]), table.classes, classes)
    return dataclasses.replace(table, columns={**table.columns, "y": y}, classes=found)
