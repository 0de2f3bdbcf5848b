"""IDX files, the format of MNIST: a magic number, the sizes, then the bytes; plain or gzip.

The magic is four bytes: two zeros, a type code (8 for unsigned bytes, the only one read here) and the number of
dimensions; each size is a big-endian 32-bit integer. Images and labels are two files beside each other.
Format: LeCun, Cortes, Burges, *The MNIST database of handwritten digits* (1998).
"""

from __future__ import annotations

import hashlib
import math
import os
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trivium.data.sources import labels as labelling
from trivium.data.sources.stream import ByteStream, is_folder
from trivium.data.table import Table
from trivium.errors import DataError, unknown

__all__ = [
    "find_images",
    "image_pieces",
    "image_sizes",
    "is_idx",
    "labels_beside",
    "read_idx",
    "read_idx_array",
    "read_labels",
]

PREFIXES = {"train": "train", "test": "t10k"}
_UNSIGNED_BYTE = 8
_TYPES = {8: "uint8", 9: "int8", 11: "int16", 12: "int32", 13: "float32", 14: "float64"}
_MOST_BYTES = 1 << 36
_LEAST_PIECE = 4 << 20


def read_idx(
    path: str | os.PathLike[str],
    *,
    part: str = "train",
    features: int | None = None,
    classes: Sequence[float | str] | None = None,
) -> Table:
    """Read images with their labels.

    ``path`` is a folder with ``train-images*``, ``train-labels*`` (``t10k-…`` for ``part="test"``), or a file of images
    whose labels lie beside it under the same name with ``labels`` for ``images`` and ``idx1`` for ``idx3``.

    Returns a table with ``x`` uint8 (n, pixels), ``scale`` 1/255, and ``y`` int32. Raises ``DataError``.
    """
    folder = Path(path)
    images_path = find_images(folder, part) if is_folder(folder) else folder
    images, images_hash = read_idx_array(images_path, least_dimensions=2)
    labels_path, labels, labels_hash = _labels_of(images_path, len(images))
    if not images.size:
        raise DataError(f"{images_path}: holds no pixel (sizes {images.shape}), expected at least one image")
    x = images.reshape(len(images), -1)
    if features is not None and features != x.shape[1]:
        raise DataError(f"{images_path}: has {x.shape[1]} pixels an image, expected features={features}")
    y, found = labelling.recode(labels_path, *labelling.encode(labels.astype(np.float64)), classes)
    both = hashlib.sha256(f"{images_hash}\n{labels_hash}\n".encode()).hexdigest()
    name = folder.resolve().name if is_folder(folder) else images_path.name
    return Table({"x": x, "y": y}, found, scale=1 / 255, name=name, fingerprint=both)


def is_idx(start: bytes) -> bool:
    """Whether a file that unpacks to ``start`` (4 bytes or more) says that it is IDX."""
    return len(start) >= 4 and start[:2] == b"\0\0" and start[2] in _TYPES and 1 <= start[3] <= 8


def find_images(folder: Path, part: str) -> Path:
    """The file of images of ``part`` in ``folder``; the plain one where there is a packed one too."""
    if part not in PREFIXES:
        raise DataError(unknown("part", part, PREFIXES))
    found = sorted(folder.glob(f"{PREFIXES[part]}-images*"), key=lambda path: (path.suffix == ".gz", path.name))
    if not found:
        raise DataError(f"{folder}: has no {PREFIXES[part]}-images* file, expected one for part={part!r}; fetch it")
    return found[0]


def read_idx_array(path: str | os.PathLike[str], least_dimensions: int = 1) -> tuple[NDArray[np.uint8], str]:
    """The array of one IDX file of unsigned bytes, and the file's fingerprint. Raises ``DataError``."""
    stream = ByteStream(path)
    pieces = iter(stream)
    shape, rest = _sizes(stream.path, pieces, least_dimensions)
    try:
        data = np.empty(math.prod(shape), np.uint8)
    except MemoryError:
        raise DataError(f"{stream.path}: says it holds {shape}, more than the memory of this machine") from None
    at = 0
    for piece in _checked(stream.path, shape, rest, pieces):
        data[at : at + len(piece)] = np.frombuffer(piece, np.uint8)
        at += len(piece)
    return data.reshape(shape), stream.fingerprint


def image_sizes(path: Path) -> tuple[int, int]:
    """Images in an IDX file, and pixels of each, as its head says. Raises ``DataError``."""
    shape, _ = _sizes(path, iter(ByteStream(path)), 2)
    if not math.prod(shape):
        raise DataError(f"{path}: holds no pixel (sizes {shape}), expected at least one image")
    return shape[0], math.prod(shape[1:])


def image_pieces(path: Path) -> Iterator[NDArray[np.uint8]]:
    """The images of an IDX file in order, some at a time, each a row of pixels. Raises ``DataError``."""
    stream = ByteStream(path)
    pieces = iter(stream)
    shape, rest = _sizes(path, pieces, 2)
    pixels = math.prod(shape[1:])
    left = b""
    for piece in _checked(path, shape, rest, pieces):
        data = left + piece
        whole = len(data) // pixels * pixels if len(data) >= _LEAST_PIECE else 0
        if whole:
            yield np.frombuffer(data, np.uint8, whole).reshape(-1, pixels)
        left = data[whole:]
    if left:
        yield np.frombuffer(left, np.uint8).reshape(-1, pixels)


def read_labels(images: Path, rows: int) -> NDArray[np.uint8]:
    """The labels of a file of ``rows`` images. Raises ``DataError``: none beside it, not so many, something else."""
    return _labels_of(images, rows)[1]


def _labels_of(images: Path, rows: int) -> tuple[Path, NDArray[np.uint8], str]:
    path = labels_beside(images)
    if path is None:
        names = " or ".join(_label_names(images))
        raise DataError(f"{images}: its labels are missing, expected {names} beside it; fetch them")
    found, mark = read_idx_array(path)
    if found.ndim != 1:
        raise DataError(f"{path}: has {found.ndim} dimensions, expected 1 label a row; is it the images' file?")
    if len(found) != rows:
        raise DataError(f"{images}: holds {rows} images, but {path.name} {len(found)} labels; fetch both again")
    return path, found, mark


def _checked(path: Path, shape: tuple[int, ...], rest: bytes, pieces: Iterator[bytes]) -> Iterator[bytes]:
    """What follows the head, if it is as long as the head says."""
    at, size = 0, math.prod(shape)
    while rest or (rest := next(pieces, b"")):
        at += len(rest)
        if at > size:
            raise DataError(f"{path}: goes on behind its {size} bytes of data ({shape}); fetch it again")
        yield rest
        rest = b""
    if at < size:
        raise DataError(
            f"{path}: ends after {at} bytes of data, expected {size} ({shape}); it was cut short: fetch it again"
        )


def _sizes(path: Path, pieces: Iterator[bytes], least_dimensions: int) -> tuple[tuple[int, ...], bytes]:
    """The sizes in the head, and what was read behind them."""
    start = _at_least(path, pieces, b"", 4)
    if not is_idx(start):
        raise DataError(f"{path}: starts with {start[:4]!r}, expected an IDX magic (0, 0, type, dimensions)")
    if start[2] != _UNSIGNED_BYTE:
        raise DataError(
            f"{path}: holds {_TYPES[start[2]]} (type code {start[2]:#04x}), expected uint8 (0x08); load it with NumPy "
            "and use from_arrays"
        )
    dimensions = start[3]
    if dimensions < least_dimensions:
        raise DataError(f"{path}: has {dimensions} dimension, expected images; give the images' file, not the labels'")
    start = _at_least(path, pieces, start, 4 + 4 * dimensions)
    shape: tuple[int, ...] = struct.unpack_from(f">{dimensions}I", start, 4)
    if math.prod(shape) > _MOST_BYTES:
        raise DataError(f"{path}: says it holds {shape}, more than {_MOST_BYTES} bytes; the head is damaged")
    return shape, start[4 + 4 * dimensions :]


def _at_least(path: Path, pieces: Iterator[bytes], start: bytes, size: int) -> bytes:
    while len(start) < size:
        piece = next(pieces, b"")
        if not piece:
            raise DataError(f"{path}: ends after {len(start)} bytes, within its head of {size}; fetch it again")
        start += piece
    return start


def labels_beside(images: Path) -> Path | None:
    """The file of labels that belongs to a file of images, None where it is not there. Raises ``DataError``."""
    for name in _label_names(images):
        if (beside := images.with_name(name)).exists():
            return beside
    return None


def _label_names(images: Path) -> list[str]:
    if "images" not in images.name:
        raise DataError(
            f"{images}: cannot tell its labels' file; expected 'images' in the name, and a file with 'labels' beside it"
        )
    name = images.name.replace("images", "labels").replace("idx3", "idx1")
    return [name, name.removesuffix(".gz") if name.endswith(".gz") else f"{name}.gz"]
