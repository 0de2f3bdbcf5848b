"""From labels as they are written to class indices, and back to what the classes are called.

Rule: integers are classes, as in scikit-learn's ``type_of_target``; anything else is a number to be predicted. The
caller decides otherwise by ``classes``: the empty tuple asks for numbers, a tuple of labels for those classes in that
order.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trivium.errors import DataError

__all__ = ["MANY_CLASSES", "checked_classes", "class_names", "encode", "encode_as", "many_classes_note", "recode"]

MANY_CLASSES = 100
_MOST_SHOWN = 8


def encode(labels: NDArray[np.float64]) -> tuple[NDArray[Any], tuple[float, ...]]:
    """``labels`` (n,) to int32 class indices and the sorted classes, or to float32 and () if one is no integer.

    >>> encode(np.array([1.0, -1.0, 1.0]))
    (array([1, 0, 1], dtype=int32), (-1.0, 1.0))
    """
    if np.any(labels != np.rint(labels)):
        return labels.astype(np.float32), ()
    classes, index = np.unique(labels, return_inverse=True)
    return index.astype(np.int32), tuple(classes.tolist())


def encode_as(labels: NDArray[Any], classes: Sequence[float | str]) -> NDArray[np.int32]:
    """Index of each label in ``classes``; -1 where it is none of them."""
    known = np.asarray(classes)
    order = np.argsort(known)
    place = np.searchsorted(known, labels, sorter=order)
    found = order[np.minimum(place, len(known) - 1)]
    return np.where(known[found] == labels, found, -1).astype(np.int32)


def recode(
    where: object, y: NDArray[Any], old: tuple[float | str, ...], new: Sequence[float | str] | None
) -> tuple[NDArray[Any], tuple[float | str, ...]]:
    """Labels ``y`` encoded by ``old`` as they are under ``new`` (None: as they are): (y, classes).

    Raises ``DataError``, which begins with ``where``, if ``new`` lacks a label that is there.
    """
    if new is None:
        return y, old
    new = checked_classes(new)
    if new == old:
        return y, old
    if not old:
        raise DataError(
            f"{where}: classes={class_names(new)}, but the labels are numbers to be predicted; leave classes out"
        )
    if not new:
        if isinstance(old[0], str):
            raise DataError(
                f"{where}: classes=() asks for numbers, but the labels are text {class_names(old)}; encode them"
            )
        return np.asarray(old, np.float32)[y], ()
    index = encode_as(np.asarray(old), new)
    absent = [name for name, at in zip(old, index, strict=True) if at < 0]
    if absent:
        raise DataError(
            f"{where}: label {absent[0]!r} is none of classes={class_names(new)}; give all classes, or leave it out"
        )
    return index[y], new


def checked_classes(classes: Sequence[float | str]) -> tuple[float | str, ...]:
    """``classes`` as a tuple of floats or of strings, without doubles."""
    if isinstance(classes, str):
        raise DataError(f"classes={classes!r}: expected a sequence of labels, as in ({classes!r}, …)")
    names = tuple(name if isinstance(name, str) else float(name) for name in classes)
    if len({isinstance(name, str) for name in names}) > 1:
        raise DataError(f"classes={class_names(names)}: mixes numbers and text; give labels of one kind")
    if len(set(names)) != len(names):
        raise DataError(f"classes={class_names(names)}: a label is there twice; give each label once")
    return names


def class_names(classes: Sequence[float | str]) -> str:
    """The classes for a message, shortened."""
    shown = ", ".join(name if isinstance(name, str) else f"{name:.12g}" for name in classes[:_MOST_SHOWN])
    return f"({shown}{', …' if len(classes) > _MOST_SHOWN else ''})"


def many_classes_note(classes: Sequence[float | str]) -> tuple[str, ...]:
    """A note where integer labels make so many classes that numbers may have been meant."""
    if len(classes) <= MANY_CLASSES:
        return ()
    return (f"{len(classes)} distinct integer labels were read as classes; for regression give classes=()",)
