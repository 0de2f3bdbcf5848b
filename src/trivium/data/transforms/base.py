"""What is done to features between file and program: fitted once on the training rows, saved with the model.

A transform sees the matrix ``x`` of some rows at a time (dense (n, d), or CSR), never labels. ``fit`` goes over all
training rows in pieces and returns a fitted copy; ``apply`` maps a piece. Instances are frozen, and equal where
name and state are.

Some say what becomes of columns before they are numbers: ``OneHot`` and ``Hash`` of categories and text, ``Impute`` of
missing numbers. The encoding asks: a step that is ``consumed`` for the kinds of columns it has is not applied again.
"""

from __future__ import annotations

import abc
from collections.abc import Collection, Iterable, Mapping
from typing import Any, ClassVar, TypeAlias

import numpy as np
from numpy.typing import NDArray

from trivium.data.table import Csr

__all__ = ["Matrix", "Transform"]

Matrix: TypeAlias = NDArray[Any] | Csr


class Transform(abc.ABC):
    """One step. Subclasses are frozen dataclasses, final, and are made by ``parse_prep`` from their ``name``."""

    needs_fit: ClassVar[bool] = False
    takes_missing: ClassVar[bool] = False  # NaN may be in what it is given: missing numbers are no error then
    never_after: ClassVar[frozenset[str]] = frozenset()  # the first words of names it must not follow

    @property
    @abc.abstractmethod
    def name(self) -> str:
        """As on the command line: ``log1p``, ``hash:1048576``."""

    @property
    def fitted(self) -> bool:
        """Whether ``apply`` may be called."""
        return not self.needs_fit or bool(self.state())

    def consumed(self, kinds: Collection[str]) -> bool:  # noqa: ARG002 - most are never
        """Whether encoding columns of ``kinds`` (some of ``frame.KINDS``) does all that this step asks for."""
        return False

    def fit(self, pieces: Iterable[Matrix]) -> Transform:  # noqa: ARG002 - most need none
        """A fitted copy, from all rows, a piece at a time; the same bits for the same pieces."""
        return self

    @abc.abstractmethod
    def apply(self, x: Matrix) -> Matrix:
        """The transformed rows: a new matrix (``x`` is never written to); float32, or float64 where ``x`` is."""

    def width(self, features: int) -> int:
        """Features that come out where ``features`` go in."""
        return features

    def state(self) -> Mapping[str, NDArray[Any]]:
        """What was fitted, by name; ``restored`` takes it back."""
        return {}

    def restored(self, state: Mapping[str, NDArray[Any]]) -> Transform:  # noqa: ARG002 - most have none
        """The transform with what ``state()`` gave."""
        return self

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Transform) or self.name != other.name:
            return False
        mine, theirs = self.state(), other.state()
        return mine.keys() == theirs.keys() and all(np.array_equal(mine[key], theirs[key]) for key in mine)

    def __hash__(self) -> int:
        return hash(self.name)
