"""Row tables: named rows of numbers keyed by 64-bit integers, of which a worker holds only those it needs.

Rules
-----
* A row that nobody pushed to exists all the same: it is what the initialiser gives for (seed, key), whoever asks and
  when. It takes memory from the first push on.
* **Shards own ranges of the hashed key** (``kernels.keys.hash_of``, a fixed 64-bit mix). A cut is named by where its
  shards start, uint64, ascending from 0; so shards can be cut anew at any hash, and rows go over with the same bits.
* **Combine**: what is pushed to one row within a push is summed first, in the order handed in; rows then lie in
  ascending order of key. Combining what was combined, first a then b, gives a's sum plus b's.
* ``RowBlock`` is rows at rest: sorted by key, with state and counts. It depends on what rows hold, never on the order
  in which they came or on how large the arrays were.

Prior art: Li et al., *Scaling distributed machine learning with the parameter server*, OSDI 2014 (ranges of sorted
keys); Wei et al., *Managed communication and consistency for fast data-parallel iterative analytics*, SoCC 2015
(Bösen's tables of rows).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trivium.errors import DataError, PlanError, unknown
from trivium.program.row_updates import Function, RowFunction, RowUpdate, named

__all__ = [
    "Initial",
    "RowBlock",
    "TableSpec",
    "Unique",
    "combine",
    "even_starts",
    "keys_of",
    "shard_of",
    "split",
    "unique",
]

Flat = NDArray[Any]
Keys = NDArray[np.int64]
Starts = NDArray[np.uint64]

DTYPES = ("float32", "float64", "int64")
WIDEST = 1 << 16
HASHES = 1 << 64
_KINDS = {"zeros": 0, "normal": 1, "uniform": 2}  # as kernels.keys has them


@dataclass(frozen=True)
class Initial:
    """What rows begin with: zeros, or numbers of a distribution of ``scale`` after ``lead`` columns of zeros.

    >>> Initial.of("normal:0.01"), Initial.of("zeros:1+uniform:0.05").lead
    (Initial(kind='normal', scale=0.01, lead=0), 1)
    """

    kind: str = "zeros"
    scale: float = 0.0
    lead: int = 0

    @classmethod
    def of(cls, text: str) -> Initial:
        """``zeros``, ``normal:DEVIATION`` or ``uniform:BOUND``, or one of the two after ``zeros:COLUMNS+``."""
        head, plus, rest = text.rpartition("+")
        lead = 0
        if plus:
            word, _, count = head.partition(":")
            if word != "zeros" or not count.isdigit():
                raise PlanError(f"init={text!r}: before the + comes zeros:COLUMNS, as in zeros:1+normal:0.01")
            lead = int(count)
        kind, colon, number = rest.partition(":")
        if kind not in _KINDS:
            raise PlanError(unknown("initialiser", kind, _KINDS))
        if kind == "zeros":
            if colon:
                raise PlanError(f"init={text!r}: zeros takes no number")
            return cls()
        return cls(kind, _scale(text, number), lead)

    @property
    def code(self) -> int:
        """The number by which kernels know it."""
        return _KINDS[self.kind]

    def rows(self, keys: Keys, width: int, seed: int, dtype: str = "float32") -> Flat:
        """The first values of the rows of ``keys``, (keys, width)."""
        from trivium.program.kernels.keys import begin_rows

        out = np.empty((len(keys), width), dtype)
        begin_rows(keys, seed, self.code, self.scale, self.lead, out)
        return out


def _scale(text: str, number: str) -> float:
    try:
        scale = float(number)
    except ValueError:
        scale = math.nan
    if not (math.isfinite(scale) and scale > 0):
        raise PlanError(f"init={text!r}: expected a number above 0 after the colon, as in normal:0.01")
    return scale


@dataclass(frozen=True)
class TableSpec:
    """One row table: its shape, what its rows begin with, and how a push changes them.

    ``rows``    keys are 0 to rows − 1; None: any 64-bit integer
    ``width``   values a row
    ``dtype``   float32, float64, or int64 (of ``add`` and functions)
    ``update``  ``adagrad``, ``adam``, ``add``, ``ftrl``, ``sgd``; a ``RowUpdate``; or a function that numba compiles,
                ``update(row, delta, state, step)``, with ``state`` elements of its own beside each row
    ``lr``, ``l1``, ``l2``  of the update, where it is given by name; None: its own
    ``init``    as ``Initial.of`` reads it; ``seed`` is that of the run

    >>> TableSpec("w", rows=2**20, update="ftrl", l1=1.0).rule
    RowFTRL(lr=0.1, l1=1.0, l2=0.0, beta=1.0)
    """

    name: str
    rows: int | None = None
    width: int = 1
    dtype: str = "float32"
    update: str | RowUpdate | Function = "adagrad"
    lr: float | None = None
    l1: float | None = None
    l2: float | None = None
    init: str = "zeros"
    seed: int = 0
    state: int = 0
    rule: RowUpdate = field(init=False, repr=False)
    initial: Initial = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if not (isinstance(self.name, str) and self.name.isidentifier()):
            raise PlanError(f"table {self.name!r}: a name is letters, digits and _, as in 'w'")
        for option, most in (("width", WIDEST), ("rows", 1 << 63)):
            value = getattr(self, option)
            if (value is not None or option == "width") and not (_whole(value) and 1 <= value <= most):
                raise self._refused(f"{option}={value!r}: a whole number from 1 to {most:,}")
        if not (_whole(self.seed) and -(1 << 63) <= self.seed < 1 << 63):
            raise self._refused(f"seed={self.seed!r}: a whole number of 64 bits")
        if self.dtype not in DTYPES:
            raise self._refused(unknown("dtype", self.dtype, DTYPES))
        object.__setattr__(self, "initial", Initial.of(self.init))
        object.__setattr__(self, "rule", self._rule())
        if self.dtype == "int64" and not (self.rule.integers and self.initial.kind == "zeros"):
            raise self._refused("rows of int64 begin at zeros and take the update 'add' or a function; use float32")

    def _refused(self, why: str) -> PlanError:
        return PlanError(f"table {self.name!r}: {why}")

    def _rule(self) -> RowUpdate:
        options = {k: v for k in ("lr", "l1", "l2") if (v := getattr(self, k)) is not None}
        by_name = isinstance(self.update, str)
        if self.state and (by_name or isinstance(self.update, RowUpdate)):
            raise self._refused(f"state={self.state}: only a function has state to be sized; leave it out")
        if isinstance(self.update, str):
            try:
                return named(self.update, **options)
            except PlanError as error:
                raise self._refused(str(error)) from None
        if options:
            raise self._refused(f"{', '.join(options)}: given beside the update {self.update!r}, which has its own")
        return self.update if isinstance(self.update, RowUpdate) else RowFunction(self.update, self.state)

    @property
    def size(self) -> int:
        """Elements of a row: values and state."""
        return self.width + self.rule.state(self.width)

    @property
    def stride(self) -> int:
        """Elements from one row to the next: up to 64 bytes a power of two, so that no row straddles a cache line."""
        item = np.dtype(self.dtype).itemsize
        nbytes = self.size * item
        return (1 << (nbytes - 1).bit_length() if nbytes <= 64 else -(-nbytes // 16) * 16) // item

    def checked(self, keys: Any) -> Keys:
        """``keys`` as int64; DataError where they are no integers, or lie outside of ``rows``."""
        from trivium.program.kernels.keys import extremes

        found = keys_of(keys)
        if self.rows is not None and len(found):
            least, most = extremes(found)
            if least < 0 or most >= self.rows:
                wrong = least if least < 0 else most
                raise DataError(f"table {self.name!r}: key {wrong}: expected 0 to {self.rows - 1} (rows={self.rows})")
        return found


def _whole(value: object) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def keys_of(keys: Any) -> Keys:
    """``keys`` as a contiguous int64 array, uint64 by their bits; DataError unless they are integers, (n,).

    >>> keys_of([3, 1])
    array([3, 1])
    """
    found = np.asarray(keys)
    if found.ndim != 1 or not (found.dtype.kind in "iu" or not found.size):
        raise DataError(f"keys: an array of {found.dtype} of shape {found.shape}: expected integers, (n,)")
    if found.dtype == np.uint64:
        return np.ascontiguousarray(found).view(np.int64)
    return np.ascontiguousarray(found, np.int64)


@dataclass(frozen=True)
class Unique:
    """The distinct ``keys`` in ascending order, and for each key handed in where it is among them."""

    keys: Keys
    inverse: NDArray[np.int32]


def unique(keys: Any) -> Unique:
    """As ``np.unique(keys, return_inverse=True)``, several times as fast.

    >>> unique([5, 2, 5])
    Unique(keys=array([2, 5]), inverse=array([1, 0, 1], dtype=int32))
    """
    from trivium.program.kernels.keys import unique_sorted

    return Unique(*unique_sorted(keys_of(keys)))


def combine(keys: Any, deltas: Flat) -> tuple[Keys, Flat]:
    """Sorted distinct keys, and for each the sum of its ``deltas`` (n, width), in the order in which they came.

    What is so already is handed back as it is.

    >>> combine([7, 2, 7], np.array([[1.0], [2.0], [3.0]]))
    (array([2, 7]), array([[2.],
           [4.]]))
    """
    from trivium.program.kernels.keys import increasing, sum_rows, unique_sorted

    found, rows = keys_of(keys), np.ascontiguousarray(deltas)
    if rows.ndim != 2 or len(rows) != len(found):
        raise DataError(f"{len(found)} keys with deltas of shape {rows.shape}: expected ({len(found)}, width)")
    if increasing(found):
        return found, rows
    distinct, inverse = unique_sorted(found)
    return distinct, sum_rows(inverse, rows, len(distinct))


def even_starts(shards: int) -> Starts:
    """Where ``shards`` equal ranges of the hash start.

    >>> even_starts(4) >> np.uint64(60)
    array([ 0,  4,  8, 12], dtype=uint64)
    """
    if shards < 1:
        raise PlanError(f"shards={shards}: a table is cut into 1 shard or more")
    return np.array([-(-HASHES * i // shards) for i in range(shards)], np.uint64)


def _starts(shards: int | Sequence[int] | Starts) -> Starts:
    if isinstance(shards, int | np.integer):
        return even_starts(int(shards))
    starts = np.asarray(shards, np.uint64)
    if not len(starts) or starts[0] != 0 or (starts[1:] <= starts[:-1]).any():
        raise PlanError("shards: their starts are hashes that ascend from 0, as even_starts gives them")
    return starts


def shard_of(keys: Any, shards: int | Sequence[int] | Starts) -> NDArray[np.int32]:
    """The shard of each key: of that many equal ones, or of those that start at the hashes given.

    >>> shard_of([0, 1, 2], 4)
    array([0, 3, 1], dtype=int32)
    """
    from trivium.program.kernels.keys import owners

    return owners(keys_of(keys), _starts(shards))


def split(keys: Any, shards: int | Sequence[int] | Starts) -> list[Keys]:
    """For each shard the positions in ``keys`` of those that it owns, ascending: sorted keys stay so.

    >>> [part.tolist() for part in split([0, 1, 2, 3], 4)]
    [[0, 3], [2], [], [1]]
    """
    from trivium.program.kernels.keys import group, owners

    starts = _starts(shards)
    order, ends = group(owners(keys_of(keys), starts), len(starts))
    return [order[ends[i] : ends[i + 1]] for i in range(len(starts))]


@dataclass(frozen=True)
class RowBlock:
    """Rows at rest. ``keys`` ascending (n,); ``rows`` (n, values and state); ``counts`` of updates, int64 (n,)."""

    keys: Keys
    rows: Flat
    counts: Keys

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def nbytes(self) -> int:
        """Bytes of its arrays."""
        return self.keys.nbytes + self.rows.nbytes + self.counts.nbytes

    @property
    def digest(self) -> str:
        """Of every bit in it: equal where the rows are."""
        made = hashlib.blake2b(f"{self.rows.dtype.str} {self.rows.shape}".encode(), digest_size=16)
        for array in (self.keys, self.rows, self.counts):
            made.update(np.ascontiguousarray(array).data)
        return made.hexdigest()

    def take(self, positions: Keys) -> RowBlock:
        """The rows at ascending ``positions``."""
        return RowBlock(self.keys[positions], self.rows[positions], self.counts[positions])

    def split(self, shards: int | Sequence[int] | Starts) -> list[RowBlock]:
        """The rows of each shard."""
        return [self.take(part) for part in split(self.keys, shards)]

    def split_at(self, start: int) -> tuple[RowBlock, RowBlock]:
        """The rows whose hash is below ``start``, and the others."""
        if not 0 < start < HASHES:
            raise PlanError(f"split at {start}: expected a hash from 1 to 2^64 - 1")
        below, above = self.split([0, start])
        return below, above

    @staticmethod
    def merge(blocks: Sequence[RowBlock]) -> RowBlock:
        """The rows of all, sorted; DataError where two have a row of the same key."""
        if not blocks:
            raise DataError("merge: no blocks; give one or more")
        keys = np.concatenate([block.keys for block in blocks])
        order = np.argsort(keys, kind="stable")
        merged = keys[order]
        twice = np.flatnonzero(merged[1:] == merged[:-1])
        if len(twice):
            raise DataError(f"merge: key {merged[twice[0]]} is in two blocks; merge shards that own different rows")
        rows, counts = (np.concatenate([getattr(b, part) for b in blocks])[order] for part in ("rows", "counts"))
        return RowBlock(merged, rows, counts)
