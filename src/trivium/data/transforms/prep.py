"""Steps by name, as on the command line and in what is saved with a model."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

from trivium.data.transforms.base import Transform
from trivium.data.transforms.hashing import Hash
from trivium.data.transforms.impute import Impute
from trivium.data.transforms.onehot import OneHot
from trivium.data.transforms.scaling import Log1p, Normalize, Standardize
from trivium.data.transforms.tfidf import Tfidf
from trivium.errors import DataError, unknown

__all__ = ["NAMES", "check_order", "load_prep", "parse_prep", "save_prep"]


def parse_prep(prep: str | Transform | Iterable[str | Transform] | None) -> tuple[Transform, ...]:
    """The steps of ``prep``, in order: names separated by ``,`` or ``|``, or steps, or both in a list.

    >>> parse_prep("hash:2^20|tfidf") == (Hash(2**20), Tfidf())
    True

    Raises ``DataError``: an unknown step, an argument that makes no sense, an order that does.
    """
    if prep is None:
        return ()
    given: Iterable[str | Transform] = (prep,) if isinstance(prep, (str, Transform)) else prep
    steps: list[Transform] = []
    for one in given:
        if isinstance(one, Transform):
            steps.append(one)
        elif isinstance(one, str):
            steps += [_step(name.strip()) for name in re.split(r"[,|]", one) if name.strip() or one.strip()]
        else:
            raise DataError(f"prep: {one!r} is no step; give names such as 'log1p,normalize', or trivium.transforms")
    check_order(steps)
    return tuple(steps)


def check_order(steps: Sequence[Transform]) -> None:
    """Raises ``DataError`` where a step comes twice, or with or after one that spoils what it needs."""
    if {"hash", "log1p"} <= set(map(_word, steps)):
        raise DataError(
            "prep: hash and log1p do not go together: hash adds features with a sign, log1p is for numbers above -1; "
            "leave one of them out, or use tfidf"
        )
    for at, step in enumerate(steps):
        before = [_word(other) for other in steps[:at]]
        if _word(step) in before:
            raise DataError(f"prep: {_word(step)} is there twice; give each step once")
        wrong = next((word for word in before if word in step.never_after), None)
        if wrong is not None:
            raise DataError(f"prep: {_word(step)} comes after {wrong}, {_why(step)}; write {_word(step)},{wrong}")


def save_prep(steps: Iterable[Transform]) -> tuple[list[dict[str, Any]], dict[str, NDArray[Any]]]:
    """What JSON holds of ``steps``, and the arrays that were fitted; ``load_prep`` takes both back.

    >>> save_prep((Log1p(),))
    ([{'name': 'log1p'}], {})
    """
    steps = tuple(steps)
    arrays = {f"{at}.{key}": array for at, step in enumerate(steps) for key, array in step.state().items()}
    return [{"name": step.name} for step in steps], arrays


def load_prep(about: Iterable[Mapping[str, Any]], arrays: Mapping[str, NDArray[Any]]) -> tuple[Transform, ...]:
    """The steps that ``save_prep`` was given."""
    steps = []
    for at, one in enumerate(about):
        step, start = _step(one["name"]), f"{at}."
        state = {key.removeprefix(start): array for key, array in arrays.items() if key.startswith(start)}
        steps.append(step.restored(state) if state else step)
    return tuple(steps)


def _step(name: str) -> Transform:
    word, colon, argument = name.partition(":")
    if word in _PLAIN:
        if colon:
            raise DataError(f"prep: {name!r}: {word} takes no argument; write {word}")
        return _PLAIN[word]()
    if word not in _WITH:
        raise DataError(unknown("step of prep", word, NAMES))
    return _WITH[word](argument)


def _hash(argument: str) -> Hash:
    if not argument:
        return Hash()
    found = re.fullmatch(r"(\d{1,10})(?:(?:\^|\*\*)(\d{1,2}))?", argument)
    if found is None or (size := int(found[1]) ** int(found[2] or 1)) < 1:
        raise DataError(f"prep: hash:{argument}: expected a number of buckets, as hash:1048576 or hash:2^20")
    return Hash(size)


def _impute(argument: str) -> Impute:
    strategy, _, constant = argument.partition(":")
    if strategy != "constant":
        if constant:
            raise DataError(
                f"prep: impute:{argument}: only a constant takes a number; write impute:constant:{constant}"
            )
        return Impute(strategy or "mean")
    try:
        return Impute("constant", float(constant))
    except ValueError as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"prep: impute:{argument}: expected a number, as impute:constant:0.5") from None


_PLAIN: dict[str, Callable[[], Transform]] = {
    "log1p": Log1p, "normalize": Normalize, "standardize": Standardize, "tfidf": Tfidf,
}  # fmt: skip
_WITH: dict[str, Callable[[str], Transform]] = {
    "hash": _hash,
    "onehot": lambda argument: OneHot(argument or "error"),
    "impute": _impute,
}
NAMES = (*_PLAIN, *_WITH)


def _word(step: Transform) -> str:
    return step.name.partition(":")[0]


def _why(step: Transform) -> str:
    if isinstance(step, Impute):
        return "but missing numbers are filled in before anything is done with them"
    if isinstance(step, (Hash, OneHot)):
        return "which changes the numbers that it tells features apart by"
    return "which makes negative numbers of counts"
