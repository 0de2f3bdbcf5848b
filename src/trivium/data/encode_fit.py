"""Find out what the columns of a source mean: the label, the features, and what values categories and text have.

Rules
-----
* The label is the column that was named, else the source's own, else one called label, target, class or y in whatever
  case. The last column is never taken for it silently.
* All other columns are features, unless some were named. A column called weight is a feature until it is named so.
* Only categories and text that are not hashed cost a pass over the data, and only their columns are read for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from trivium.data import encode_columns as columns
from trivium.data.encoding import Encoding, Feature, dense_is_cheaper
from trivium.data.frame import Field, Source
from trivium.data.sources import labels as labelling
from trivium.errors import DataError, unknown

__all__ = ["LABELS", "MOST_VALUES", "fit_encoding"]

LABELS = ("label", "target", "class", "y")
MOST_VALUES = 10_000  # of one category: beyond, it is more likely an identifier
DTYPES = (None, "float32", "float64")


def fit_encoding(
    source: Source,
    *,
    label: str | None = None,
    weight: str | None = None,
    features: int | Sequence[str] | None = None,
    classes: Sequence[float | str] | None = None,
    dtype: str | None = None,
    prep: Iterable[Any] = (),
    threads: int | None = None,
) -> Encoding:
    """The encoding that the columns of ``source`` ask for.

    ``features``: the columns to use, or how many columns x is to have. ``classes``: the labels in order, the empty
    tuple for regression. ``dtype`` of x (default: float32, or as a matrix has it). ``prep``: steps; ``Hash``,
    ``OneHot`` and ``Impute`` say what becomes of categories, text and missing numbers. Raises ``DataError``.
    """
    if dtype not in DTYPES:
        raise DataError(f"dtype={dtype!r}: expected 'float32', 'float64' or None")
    if hasattr(source, "check_types"):
        source.check_types()
    fields = {one.name: one for one in source.fields()}
    label = _label(source, fields, label)
    weight = _weight(source, fields, weight)
    known = None if classes is None else labelling.checked_classes(classes)
    kind = _label_kind(fields[label]) if label is not None else "number"
    if kind == "text" and known == ():
        raise DataError(
            f"{source.name}: classes=() asks for numbers, but the label {label!r} is text; leave classes out"
        )
    if label is not None and label == weight:
        raise DataError(f"{source.name}: {label!r} is named as the label and as the weight; name two columns")
    chosen = _chosen(source, fields, {label, weight}, features)
    used = {*chosen, label, weight}
    steps = tuple(prep)
    made = Encoding(
        tuple(Feature(name, _kind(fields[name])) for name in chosen),
        label,
        kind,
        weight,
        known,
        dtype,
        unseen=next((step.unseen for step in steps if hasattr(step, "unseen")), "error"),
        missing=any(getattr(step, "takes_missing", False) for step in steps),
        ignored=tuple(name for name in fields if name not in used),
        source=source.name,
    )
    if any(one.kind == "matrix" for one in made.features):
        return _matrix(source, made, fields, features)
    return _table(source, made, steps, features, threads)


def _label(source: Source, fields: dict[str, Field], label: str | None) -> str | None:
    if label is not None:
        if label not in fields:
            raise DataError(f"{source.name}: label={label!r}: {unknown('column', label, fields)}")
        return label
    if source.label is not None and source.label in fields:
        return source.label
    if any(_kind(one) == "matrix" for one in fields.values()):
        return None
    for wanted in LABELS:
        for name in fields:
            if name.lower() == wanted:
                return name
    raise DataError(
        f"{source.name}: no column is called {', '.join(LABELS[:-1])} or {LABELS[-1]}; "
        f"say which is the label, label=… (--label …): {_list(fields)}"
    )


def _weight(source: Source, fields: dict[str, Field], weight: str | None) -> str | None:
    if weight is not None and weight not in fields:
        raise DataError(f"{source.name}: weight={weight!r}: {unknown('column', weight, fields)}")
    if weight is None and "weight" in fields and any(_kind(one) == "matrix" for one in fields.values()):
        return "weight"
    return weight


def _label_kind(field: Field) -> str:
    return "text" if field.kind in ("category", "text") else "number"


def _kind(field: Field) -> str:
    return "matrix" if field.kind in ("pixels", "sparse") or field.shape else field.kind


def _chosen(
    source: Source, fields: dict[str, Field], taken: set[str | None], features: int | Sequence[str] | None
) -> tuple[str, ...]:
    if features is None or isinstance(features, int):
        rest = tuple(name for name in fields if name not in taken)
        matrices = tuple(name for name in rest if _kind(fields[name]) == "matrix")
        chosen = matrices[:1] or rest
        if not chosen:
            raise DataError(f"{source.name}: has no column beside the label, expected features: {_list(fields)}")
        return chosen
    chosen = (features,) if isinstance(features, str) else tuple(features)
    for name in chosen:
        if name not in fields:
            raise DataError(f"{source.name}: features: {unknown('column', name, fields)}")
        if name in taken:
            raise DataError(f"{source.name}: features: {name!r} is the label or the weight; leave it out")
    if not chosen or len(set(chosen)) < len(chosen):
        raise DataError(f"{source.name}: features={list(chosen)}: expected one column or more, each once")
    return tuple(name for name in fields if name in chosen)


def _matrix(source: Source, made: Encoding, fields: dict[str, Field], features: int | Sequence[str] | None) -> Encoding:
    import dataclasses
    import math

    matrix = made.features[0]
    if len(made.features) > 1:
        others = [one.name for one in made.features if one is not matrix]
        raise DataError(
            f"{source.name}: column {matrix.name!r} is a matrix and stands alone; leave out {_list(others)}"
        )
    field = fields[matrix.name]
    shape = () if field.kind == "sparse" else field.shape
    width = math.prod(shape) if shape else (field.shape[0] if field.shape else None)
    if isinstance(features, int):
        if shape and features != width:
            raise DataError(f"{source.name}: features={features}: its rows have {width} features; leave it out")
        width = features
    return dataclasses.replace(made, width=width, sparse=field.kind == "sparse", shape=shape)


def _table(
    source: Source,
    made: Encoding,
    steps: Sequence[Any],
    features: int | Sequence[str] | None,
    threads: int | None,
) -> Encoding:
    import dataclasses

    buckets = next((step.buckets for step in steps if hasattr(step, "buckets")), 0)
    values = {one.name for one in made.features if one.kind in ("category", "text")}
    if not values:
        buckets = 0
    found = made.features if buckets or not values else _vocabularies(source, made, threads)
    width = sum(one.width for one in found) + buckets
    words = buckets or any(one.kind == "text" for one in found)
    sparse = bool(values) and (bool(words) or not dense_is_cheaper(found))
    if isinstance(features, int) and features != width:
        raise DataError(f"{source.name}: features={features}: its columns make {width} features; leave it out")
    return dataclasses.replace(made, features=found, width=width, sparse=sparse, buckets=buckets)


def _vocabularies(source: Source, made: Encoding, threads: int | None) -> tuple[Feature, ...]:
    """The features with what values they have, from one pass over those columns."""
    import dataclasses

    kinds = {one.name: one.kind for one in made.features if one.kind in ("category", "text")}
    found: dict[str, set[str]] = {name: set() for name in kinds}
    numeric: dict[str, bool] = {}
    for frame in source.frames(tuple(kinds), threads):
        for name, kind in kinds.items():
            if not frame.rows:
                continue
            column = frame.columns[name]
            found[name].update(columns.tokens(column)[2].to_pylist() if kind == "text" else columns.levels_of(column))
            numeric[name] = numeric.get(name, True) and columns.of_integers(column)
            if kind == "category" and len(found[name]) > MOST_VALUES and source.format != "ratings":
                raise DataError(
                    f"{source.name}: column {name!r} has more than {MOST_VALUES} values, expected a category; "
                    f"hash it (--prep hash:2^20), or leave it out (types={{{name!r}: 'skip'}})"
                )
    order: dict[str, Any] = {name: int if numeric.get(name) else None for name in kinds}
    return tuple(
        dataclasses.replace(one, vocabulary=tuple(sorted(found[one.name], key=order[one.name])))
        if one.name in kinds
        else one
        for one in made.features
    )


def _list(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names[:12]) + (f", … ({len(names)} in all)" if len(names) > 12 else "")
