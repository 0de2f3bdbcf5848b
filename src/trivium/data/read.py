"""One way in: a path, a pattern, a folder, a URL or a name to a ``Dataset``, whatever the format."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from trivium.data.cache import Cache
from trivium.data.dataset import Dataset, Share, Wanted, share_index
from trivium.data.frame import Source
from trivium.data.reading import Reading
from trivium.data.sources.arrays import from_arrays
from trivium.data.sources.formats import FORMATS
from trivium.data.sources.libsvm import read_libsvm
from trivium.data.table import Table
from trivium.data.transforms.base import Transform
from trivium.errors import DataError, unknown

__all__ = [
    "FORMATS",
    "PARTS",
    "from_arrays",
    "from_arrow",
    "from_generator",
    "from_pandas",
    "from_polars",
    "from_recipe",
    "part_of_test",
    "read",
    "read_libsvm",
    "split",
]

PARTS = ("train", "test")


def read(
    source: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    *,
    label: str | None = None,
    weight: str | None = None,
    format: str | None = None,  # noqa: A002 - the field's word for it
    features: int | Sequence[str] | None = None,
    classes: Sequence[float | str] | None = None,
    types: Mapping[str, str] | None = None,
    missing: Sequence[str] | None = None,
    prep: str | Sequence[Transform] | None = None,
    dtype: str | None = None,
    max_bad_rows: int = 0,
    resize: tuple[int, int] | None = None,
    part: str = "train",
    like: Dataset | Reading | None = None,
    threads: int | None = None,
    cache: bool | Cache = True,
) -> Dataset:
    """The rows at ``source``; they are read when somebody needs them.

    ``source``: a path, a pattern (``part-*.csv``), a folder, a list of these, a URL (``s3://…``, ``gs://…``,
    ``hdfs://…``), ``synthetic:ROWSxCOLUMNS[:SEED]`` or ``sklearn:NAME``. ``format`` is one of ``FORMATS`` (default:
    from the content).

    ``label`` and ``weight`` name columns (default: a column called label, target, y or class). ``features``: how many
    there are (LIBSVM), or which columns. ``classes``: the labels in order; ``()`` asks for regression. ``types``:
    column to "number", "category", "text", "time" or "skip". ``missing``: what stands for a missing value. ``prep``:
    steps, as ``"log1p,normalize"`` or objects of ``trivium.transforms``. ``dtype``: "float32" or "float64".

    At most ``max_bad_rows`` rows that cannot be read are passed over. ``resize``: (height, width) that images are
    brought to. ``part``: "train" or "test", where the source has both. ``like``: what these rows are to be read like,
    as test rows like training rows. ``threads`` at most (default: all allowed cores). ``cache``: whether parsed rows
    are kept on the disk, or which cache keeps them.

    >>> read("synthetic:1000x20").spec.features
    20

    Raises ``DataError``: which file, which line, what was found, what was expected.
    """
    from trivium.data.transforms import parse_prep

    if part not in PARTS:
        raise DataError(unknown("part", part, PARTS))
    steps = parse_prep(prep or ())
    fit = like.reading if isinstance(like, Dataset) else like
    if fit is not None:
        _refuse_both(label=label, weight=weight, features=features, classes=classes, prep=prep, dtype=dtype)
    given: dict[str, Any] = {"types": dict(types)} if types else {}
    if missing is not None:
        given["missing"] = tuple(missing)
    if max_bad_rows:
        given["max_bad_rows"] = max_bad_rows
    if resize is not None:
        given["resize"] = resize
    if part == "test":
        given["part"] = part
    made = _source(source, format, given, features, fit)
    columns = features if features is None or isinstance(features, int) else tuple(features)
    wanted = Wanted(label, weight, columns, None if classes is None else tuple(classes), dtype)
    kept = cache if isinstance(cache, Cache) else Cache() if cache else None
    asked = {
        "source": _lasting(source),
        "options": _said(
            format=format,
            types=dict(types or {}),
            missing=missing,
            max_bad_rows=max_bad_rows,
            resize=resize,
            part=part if part != "train" else None,
            cache=cache and None,
        )
        | ({"features": features} if isinstance(features, int) else {}),
    }
    return Dataset(made, wanted, steps, fit, cache=kept, threads=threads, asked=asked)


def _said(**options: Any) -> dict[str, Any]:
    """Those that say something, in JSON's types; ``cache=False`` does."""
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in options.items()
        if value or value is False
    }


def _lasting(source: Any) -> str | list[str]:
    """``source`` as it can be said in any folder."""
    if not isinstance(source, (str, os.PathLike)):
        return [str(_lasting(one)) for one in source]
    name = os.fspath(source)
    named = name.startswith(("synthetic:", "sklearn:")) or "://" in name
    return name if named else str(Path(name).expanduser().absolute())


def from_recipe(recipe: Mapping[str, Any], reading: Reading) -> Dataset:
    """The rows that ``Dataset.recipe`` told of, read as ``reading`` says.

    Raises ``DataError`` where they are not there any more, or ``recipe`` is none.
    """
    try:
        source, options = recipe["source"], dict(recipe["options"])
        shares = tuple(Share(**one) for one in recipe["shares"])
    except (KeyError, TypeError) as error:
        raise DataError(f"this is no recipe of a data set ({error}): {str(recipe)[:80]}") from None
    features = options.pop("features", None)
    if "resize" in options:
        options["resize"] = tuple(options["resize"])
    data = read(source, like=reading, **options)
    if features is not None and hasattr(data.source, "features"):
        data = dataclasses.replace(data, source=dataclasses.replace(data.source, features=features))  # type: ignore[type-var]
    return dataclasses.replace(data, shares=shares)


def _refuse_both(**given: Any) -> None:
    for name, value in given.items():
        if value is not None:
            raise DataError(f"{name}={value!r}: follows from like= already; give one of the two")


def from_pandas(frame: Any, **options: Any) -> Dataset:
    """The rows of a pandas ``DataFrame``; its index is not a column. Options as those of ``read``.

    >>> import pandas as pd
    >>> data = from_pandas(pd.DataFrame({"age": [31, 64], "city": ["Rome", "Oslo"], "label": [0, 1]}))
    >>> data.reading.encoding.names()
    ['age', 'city=Oslo', 'city=Rome']
    """
    return _in_memory(frame, options)


def from_polars(frame: Any, **options: Any) -> Dataset:
    """The rows of a Polars ``DataFrame``. Options as those of ``read``.

    >>> import polars as pl
    >>> from_polars(pl.DataFrame({"x": [1.0, 2.0], "y": [0, 1]})).spec.rows
    2
    """
    return _in_memory(frame, options)


def from_arrow(table: Any, **options: Any) -> Dataset:
    """The rows of a pyarrow ``Table`` or ``RecordBatch``. Options as those of ``read``.

    >>> import pyarrow as pa
    >>> from_arrow(pa.table({"x": [1.0, 2.0], "y": [0, 1]})).spec.classes
    (0.0, 1.0)
    """
    return _in_memory(table, options)


def from_generator(make: Callable[[], Any], **options: Any) -> Dataset:
    """The rows that ``make()`` gives each time it is called: pairs (x, y) of arrays or rows, or mappings of columns.

    Options as those of ``read``.

    >>> import numpy as np
    >>> def batches():
    ...     for seed in range(3):
    ...         yield np.full((2, 4), seed, np.float32), np.array([0, 1])
    >>> from_generator(batches).spec.rows
    6
    """
    from trivium.data.sources.generated import GeneratedSource

    return _dataset(GeneratedSource(make), options)


def _in_memory(frame: Any, options: dict[str, Any]) -> Dataset:
    from trivium.data.sources.inmemory import InMemorySource

    kinds = {name: options.pop(name) for name in ("types",) if name in options}
    return _dataset(InMemorySource(frame, **kinds), options)


def _dataset(source: Source, options: dict[str, Any]) -> Dataset:
    """A data set of ``source``, with what of ``read``'s options has a meaning for it."""
    from trivium.data.transforms import parse_prep

    prep = options.pop("prep", None)
    steps = parse_prep(prep or ())
    like, threads = options.pop("like", None), options.pop("threads", None)
    fit = like.reading if isinstance(like, Dataset) else like
    names = [field.name for field in dataclasses.fields(Wanted)]
    for name in options:
        if name not in names:
            raise DataError(unknown("option", name, [*names, "prep", "like", "threads", "types"]))
    for name in ("features", "classes"):
        if options.get(name) is not None and not isinstance(options[name], int):
            options[name] = tuple(options[name])
    return Dataset(source, Wanted(**options), steps, fit, threads=threads)


def _source(
    source: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    format: str | None,  # noqa: A002 - as in read
    given: dict[str, Any],
    features: int | Sequence[str] | None,
    fit: Reading | None,
) -> Source:
    """The source that ``source`` is, by its format."""
    from trivium.data.sources.places import format_of, resolve
    from trivium.data.sources.registry import source_of, takes

    places = resolve(source)
    kind = format_of(places, format)
    if kind == "libsvm" and isinstance(features, int):
        given["features"] = features  # else an index far beyond all others is taken for a slip
    if fit is not None and "types" not in given and takes(kind, "types"):
        given["types"] = fit.encoding.types
    return source_of(kind, places, given)


def part_of_test(source: str) -> str:
    """The part that is meant by ``source`` as test rows: "test" where it has parts, else "train", which is all of it.

    >>> part_of_test("sklearn:digits"), part_of_test("a9a.t")
    ('test', 'train')
    """
    parted = source.startswith(("synthetic:", "sklearn:"))
    return "test" if parted or (Path(source).is_dir() and any(Path(source).glob("*images*idx*"))) else "train"


def split(table: Table, fraction: float, seed: int = 0) -> tuple[Table, Table]:
    """``table`` without, and with, a random ``fraction`` of its rows: (training rows, validation rows).

    A seeded permutation decides; rows keep their order. Raises ``DataError`` where either would be empty.

    >>> [len(side) for side in split(read("synthetic:1000x20").table(), 0.1)]
    [900, 100]
    """
    import hashlib

    sides = []
    for side in ("train", "valid"):
        index = share_index(len(table), [Share(fraction, seed, side)])
        mark = hashlib.sha256(f"{table.fingerprint}:{side}:{fraction!r}:{seed}".encode()).hexdigest()
        sides.append(dataclasses.replace(table.rows(index), fingerprint=mark))
    return sides[0], sides[1]
