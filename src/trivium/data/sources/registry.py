"""Which class reads which format, and what each can be told."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from trivium.errors import DataError

if TYPE_CHECKING:
    from trivium.data.frame import Source
    from trivium.data.sources.places import Places

__all__ = ["source_of", "takes"]

_HOME = {
    "arrow": ("columnar", "ColumnarSource"),
    "csv": ("csv", "CsvSource"),
    "idx": ("matrices", "IdxSource"),
    "images": ("images", "ImageSource"),
    "libsvm": ("matrices", "LibsvmSource"),
    "parquet": ("columnar", "ColumnarSource"),
    "ratings": ("ratings", "RatingSource"),
    "sklearn": ("matrices", "SklearnSource"),
    "synthetic": ("matrices", "SyntheticSource"),
    "text": ("text", "TextSource"),
    "tsv": ("csv", "CsvSource"),
}
_TAKES = {
    "types": ("csv", "tsv", "parquet", "arrow"),
    "missing": ("csv", "tsv"),
    "max_bad_rows": ("csv", "tsv", "libsvm", "text", "ratings"),
    "part": ("idx", "sklearn", "synthetic"),
    "features": ("libsvm",),
    "resize": ("images",),
}


def takes(kind: str, option: str) -> bool:
    """Whether sources of format ``kind`` have a use for ``option``."""
    return kind in _TAKES[option]


def source_of(kind: str, places: Places, given: dict[str, Any]) -> Source:
    """The source of format ``kind`` at ``places``; DataError where it has no use for something that was ``given``."""
    for name, value in given.items():
        if kind not in _TAKES[name]:
            raise DataError(
                f"{places.name}: {name}={value!r} is nothing that {kind} has a use for; {', '.join(_TAKES[name])} have"
            )
    module, name = _HOME[kind]
    made = getattr(importlib.import_module(f"trivium.data.sources.{module}"), name)
    if kind == "tsv":
        given = {**given, "delimiter": "\t"}
    if kind in ("parquet", "arrow"):
        given = {**given, "format": kind}
    source: Source = made(places, **given)
    return source
