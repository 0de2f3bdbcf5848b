"""Fixed-order sums: which block is added to which, so that the same lanes give the same bits.

With whole subtrees as parts, additions follow the tree over the lanes: the result is that of summing lane by lane up
the tree, whoever computed the subtrees. Other parts (fused ranges) are added from left to right.
"""

from __future__ import annotations

from collections.abc import Iterable

from trivium.core.lanes import Part, middle

__all__ = ["additions", "sum_in_order", "tree_additions"]


def tree_additions(node: Part) -> list[tuple[int, int]]:
    """(into, from) pairs that sum the single lanes of ``node`` up the tree into its first lane.

    >>> tree_additions(Part(0, 4))
    [(0, 1), (2, 3), (0, 2)]
    """
    if node.hi - node.lo == 1:
        return []
    mid = middle(node)
    left, right = Part(node.lo, mid), Part(mid, node.hi)
    return [*tree_additions(left), *tree_additions(right), (node.lo, mid)]


def additions(lanes: int, parts: Iterable[Part]) -> list[tuple[int, int]]:
    """(into, from) pairs over part names (their first lanes) that leave the sum of all lanes in lane 0's block.

    ``parts`` must cover each lane once.

    >>> additions(8, [Part(4, 8), Part(0, 2), Part(2, 4)])
    [(0, 2), (0, 4)]
    >>> additions(8, [Part(3, 8), Part(0, 3)])
    [(0, 3)]
    """
    have = {part.lo: part.hi for part in parts}
    pairs: list[tuple[int, int]] = []

    def fold(node: Part) -> bool:
        if have.get(node.lo) == node.hi:
            return True
        if node.hi - node.lo == 1:
            return False
        mid = middle(node)
        if not (fold(Part(node.lo, mid)) and fold(Part(mid, node.hi))):
            return False
        pairs.append((node.lo, mid))
        return True

    if fold(Part(0, lanes)):
        return pairs
    order = sorted(have)
    return [(order[0], other) for other in order[1:]]


def sum_in_order(rows: list[tuple[float, ...]]) -> tuple[float, ...]:
    """Sum float64 rows up the tree over their positions.

    >>> sum_in_order([(1.0, 2.0), (3.0, 4.0), (5.0, 6.0)])
    (9.0, 12.0)
    """
    if len(rows) == 1:
        return rows[0]
    mid = len(rows) // 2
    left, right = sum_in_order(rows[:mid]), sum_in_order(rows[mid:])
    return tuple(a + b for a, b in zip(left, right, strict=True))
