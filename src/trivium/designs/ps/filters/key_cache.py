"""key-cache: sorted keys go once, from then on eight bytes stand for them."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from trivium.designs.ps.filters.base import KEYS, Filter, no_number

__all__ = ["KeyCache", "KeyLists"]

Keys = NDArray[np.uint64]

KEPT = 64 << 20  # bytes of keys that a side keeps


@dataclass(frozen=True)
class KeyCache(Filter):
    """Li et al., *Scaling distributed machine learning with the parameter server* (OSDI 2014, §3.3: key caching).

    Pays where the same keys come again: passes over the same batches, blocks of features, full-batch methods. The first
    time the whole list goes with the values; both sides keep it, the least recently used ones going when there is more
    than 64 MiB. Sender and receiver do so by the same rule on the same messages, so a receiver lacks a list only when a
    message was lost or it is a new one: it raises ``UnknownKeys``, and the message is sent again, spelled out.

    With ``kkt`` or ``topk`` the list is that of all keys at hand, and what is sent of it are positions in it: the same
    list serves whatever is left out. Dense deltas have no keys, and go as if this filter were not there.
    """

    name: ClassVar[str] = "key-cache"
    stage: ClassVar[int] = KEYS
    usage: ClassVar[str] = "key-cache"
    lossless: ClassVar[bool] = True

    @classmethod
    def parse(cls, number: str | None) -> KeyCache:
        """Takes no number."""
        no_number(cls.name, number)
        return cls()


class KeyLists:
    """Lists of keys by signature, the least recently used dropped beyond ``most`` bytes; the newest always stays.

    >>> lists = KeyLists(most=16)
    >>> for signature in (1, 2, 3):
    ...     lists.put(signature, np.array([signature], np.uint64))
    >>> lists.get(1) is None, lists.get(3)
    (True, array([3], dtype=uint64))
    """

    def __init__(self, most: int = KEPT) -> None:
        self._most = most
        self._bytes = 0
        self._lists: OrderedDict[int, Keys] = OrderedDict()

    def __contains__(self, signature: int) -> bool:
        return signature in self._lists

    def get(self, signature: int) -> Keys | None:
        """The list, now the most recently used; None where it is not here."""
        found = self._lists.get(signature)
        if found is not None:
            self._lists.move_to_end(signature)
        return found

    def put(self, signature: int, keys: Keys) -> None:
        """Keep ``keys``, which must not change any more."""
        self._bytes += keys.nbytes - getattr(self._lists.pop(signature, None), "nbytes", 0)
        self._lists[signature] = keys
        while self._bytes > self._most and len(self._lists) > 1:
            self._bytes -= self._lists.popitem(last=False)[1].nbytes
