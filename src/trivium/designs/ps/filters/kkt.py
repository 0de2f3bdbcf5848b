"""kkt: what an L1 penalty holds at zero is not sent.

The objective is f(w) + l1·‖w‖₁, f the mean loss over all rows. At w_j = 0 the condition of Karush, Kuhn and Tucker is
|∂f/∂w_j| ≤ l1, and there a proximal step leaves w_j where it is: soft(0 − η·g, η·l1) = 0 for each |g| ≤ l1 and each
rate η. So a zero in place of g does the same. Li et al., *Scaling distributed machine learning with the parameter
server* (OSDI 2014, §5.1), and Li, Andersen, Smola and Yu, *Communication efficient distributed machine learning with
the parameter server* (NIPS 2014): a sender leaves coordinate j out where w_j = 0 and its own mean gradient m_j has

    |m_j| ≤ l1·(1 − margin).

Why the objective is not hurt
-----------------------------
*One sender* (or the whole sum, as from a primary to its copies): m_j is the mean gradient g_j itself. Each step of a
proximal method that keeps no memory of gradients is bit for bit the step without the filter.

*Several senders.* g is the mean of their m, weighted by rows, and g_j may exceed l1 although some m_j do not.

* If each m_j is within ``margin``·l1 of g_j, and margin ≤ 1/2, no step differs: where |g_j| > l1 all senders exceed
  l1·(1 − margin) and all send. Where |g_j| ≤ l1 and some are left out, what is summed stays within l1: those left out
  have g_j's sign and only make it larger (|g_j| > margin·l1), or the sum is at most 2·margin·l1 ≤ l1.
* Where senders differ more, a coordinate may be held at zero, or be moved off it, wrongly, for a while. Two rules end
  that. (1) A coordinate at which a sender once saw w ≠ 0 is always sent by it: after one wrong move all senders send it
  for good. (2) Each ``EVERY``-th clock goes whole: a coordinate that ought to move does. Those never moved only become
  fewer, so after some clock T nothing is filtered but coordinates that stay at zero although whole clocks go on testing
  them. From T on the method is the unfiltered one on the others; in its limit the whole clocks show |g_j| ≤ l1 on those
  left out. All KKT conditions hold, and f convex, the limit is an optimum of the unfiltered problem.

A sender that joins has seen nothing; each joining may cost each coordinate one more wrong move, and the rest holds.
An l2 penalty adds nothing at w = 0. Where pushes are applied one by one (ssp, asp), each is a step of its own on its
own mean, and the case is that of one sender, but that w_j may have moved since it was read: it is sent from the next
read on.

Valid for
---------
* proximal (sub)gradient methods whose step at w_j = 0 depends on this clock's g_j alone: ISTA, proximal SGD (``sgd``,
  any schedule), FISTA (its momentum is of iterates; w must be the point that the gradient was taken at);
* ``adagrad``: its rate at j learns only of what was sent, so the path differs, but soft(0 − η·g, η·l1) does not move
  for any η: the points of rest are the same;
* with ``clip_norm``, the norm is that of what is sent.

Not for
-------
* ``ftrl``: z is the *sum* of all gradients, and w_j leaves zero when |z_j| passes its threshold. A gradient left out is
  missing from z for good: a coordinate whose mean is above l1 through a few large clocks and many small ones would stay
  at zero for ever, and n, which sets its rate, is wrong too. Whole clocks do not put back what is missing.
* ``momentum``, ``nesterov``, ``adam``, ``adamw``: the trace at w_j = 0 is fed by gradients that were left out; a single
  whole clock does not fill it, so rule 2 proves nothing.
* L-BFGS, OWL-QN, Newton: they need all of the gradient, for differences and line searches.
* ``topk`` in the same chain: it saves up what it does not send, and many small gradients sent as one pass the threshold
  that none of them would. ``int8`` and ``float16`` hold what is sent to their own accuracy; exact to it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from trivium.designs.ps.filters.base import CONDITION, Filter, Objective
from trivium.errors import PlanError, ProtocolError

__all__ = ["Kkt"]

Flat = NDArray[Any]
Mask = NDArray[np.uint8]


@dataclass(frozen=True)
class Kkt(Filter):
    """Leaves out coordinates at zero whose mean gradient is within ``l1·(1 − margin)``; see the module for the proof.

    >>> str(Kkt.parse(None)), Kkt.parse("0.3").margin
    ('kkt', 0.3)
    """

    name: ClassVar[str] = "kkt"
    stage: ClassVar[int] = CONDITION
    usage: ClassVar[str] = "kkt"

    EVERY: ClassVar[int] = 32  # each so-manieth clock goes whole
    OPTIMIZERS: ClassVar[frozenset[str]] = frozenset({"sgd", "adagrad"})

    margin: float = 0.1
    text: str = "kkt"

    @classmethod
    def parse(cls, number: str | None) -> Kkt:
        """``kkt`` or ``kkt:MARGIN``, from 0 to 0.5."""
        if number is None:
            return cls()
        try:
            margin = float(number)
        except ValueError:
            margin = math.nan
        if not 0 <= margin <= 0.5:
            raise PlanError(
                f"filter 'kkt:{number}': kkt's margin is a share of l1 from 0 to 0.5, as in 'kkt:0.1'; more sends more"
            )
        return cls(margin, f"{cls.name}:{number}")

    def keep(self, x: Flat, moved: Mask, at: Objective) -> Mask | None:
        """Which of flat ``x`` is sent (None: all). ``moved``, of the same size, learns where w was not 0."""
        from trivium.designs.ps.filters.kernels.selection import movable

        if at.w.size != x.size or moved.size != x.size:
            raise ProtocolError(f"kkt: the delta has {x.size} elements, the point that it was computed at {at.w.size}")
        ranges = np.array([[0, x.size]]) if at.penalised is None else at.penalised
        limit = at.l1 * (1 - self.margin) * at.weight
        keep = movable(x, at.w.reshape(-1), moved, ranges, limit)
        return None if at.clock % self.EVERY == 0 or at.l1 <= 0 or keep.all() else keep

    def __str__(self) -> str:
        return self.text
