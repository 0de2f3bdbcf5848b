"""Consistency: when a lane may start a clock, what is applied together, what a reader may count on. Pure.

======== ============================================ ================================ =============================
rule     a lane may start clock c when                F runs                           a read at clock c has
======== ============================================ ================================ =============================
bsp      every lane has finished c                    once a clock, on the whole sum   exactly the clocks before c
backup:K likewise; the K slowest lanes may be left    once a clock, on what is there   the clocks before c but for
         out of a clock                                                                dropped Δ, or later ones: then
                                                                                       its Δ may come too late
ssp:S    every lane has finished c − S                for each push that is admitted   all lanes' clocks up to
                                                                                       c − S − 1, its own up to c − 1
essp:S   likewise; servers send fresh values unasked  likewise                         likewise, mostly fresher
asp      its own push of c − 1 was taken              likewise                         no bound
======== ============================================ ================================ =============================

``ssp:0`` and ``essp:0`` are BSP: a lane that may not be a clock ahead of any other waits for all of them, so F may as
well run on the whole sum, and gives the same bits.

Prior art: Valiant, *A bridging model for parallel computation* (1990); Ho et al., *More effective distributed ML via a
stale synchronous parallel parameter server* (NIPS 2013); Dai et al., *High-performance distributed ML at scale through
parameter server consistency models* (AAAI 2015: ESSP); Chen et al., *Revisiting distributed synchronous SGD* (2016:
backup workers).
"""

from __future__ import annotations

import msgspec

from trivium.errors import PlanError, unknown

__all__ = ["BSP", "KINDS", "Rule"]

KINDS = ("bsp", "ssp:S", "essp:S", "asp", "backup:K")
BOUNDED = {"ssp": "S", "essp": "S", "backup": "K"}  # kinds that take a number, and what it is called


class Rule(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """One consistency model. ``bound``: clocks of slack of ssp and essp, lanes that backup may leave out.

    >>> Rule.parse("ssp:3")
    Rule(kind='ssp', bound=3)
    >>> str(Rule.parse("bsp")), Rule.parse("ssp:0").whole
    ('bsp', True)
    """

    kind: str = "bsp"
    bound: int = 0

    @classmethod
    def parse(cls, text: str) -> Rule:
        """``bsp``, ``ssp:3``, ``essp:3``, ``asp``, ``backup:1``; PlanError otherwise."""
        kind, colon, number = text.partition(":")
        if kind not in {"bsp", "asp", *BOUNDED}:
            raise PlanError(unknown("consistency", text, KINDS))
        if kind not in BOUNDED:
            if colon:
                raise PlanError(f"consistency {text!r}: {kind} takes no number; write {kind!r}")
            return cls(kind)
        least = 1 if kind == "backup" else 0
        if not number.isdecimal() or int(number) < least:
            raise PlanError(
                f"consistency {text!r}: {kind} wants a whole number of {least} or more, as in '{kind}:{max(least, 1)}'"
            )
        return cls(kind, int(number))

    def __str__(self) -> str:
        return f"{self.kind}:{self.bound}" if self.kind in BOUNDED else self.kind

    @property
    def whole(self) -> bool:
        """F runs once a clock, on the sum of all lanes (but for those that were left out)."""
        return self.kind in ("bsp", "backup") or (self.kind in ("ssp", "essp") and self.bound == 0)

    @property
    def exact(self) -> bool:
        """A lane's delta of clock c is computed from A as of c, no more and no less."""
        return self.whole and not self.lanewise

    @property
    def lanewise(self) -> bool:
        """Lanes are pushed one by one, so that one of them can be left out."""
        return self.kind == "backup"

    @property
    def spare(self) -> int:
        """Lanes that a clock can do without."""
        return self.bound if self.kind == "backup" else 0

    @property
    def eager(self) -> bool:
        """Servers send fresh values to the views unasked."""
        return self.kind != "ssp" or self.whole

    @property
    def own(self) -> bool:
        """A worker reads its own pushes: it waits until they are in its node's view."""
        return self.kind != "asp"

    @property
    def slack(self) -> int | None:
        """How many clocks a lane may be ahead of the slowest; None: as many as it likes."""
        if self.kind == "asp":
            return None
        return self.bound if self.kind in ("ssp", "essp") else 0

    def may_start(self, clock: int, floor: int) -> bool:
        """Whether a lane may start ``clock`` where every lane's clocks before ``floor`` are in the view.

        >>> Rule("ssp", 2).may_start(5, 3), Rule("ssp", 2).may_start(6, 3), Rule("asp").may_start(99, 0)
        (True, False, True)
        """
        return self.kind == "asp" or floor >= clock - (self.slack or 0)

    def complete(self, lanes_in: int, lanes: int) -> bool:
        """Whether a clock of which ``lanes_in`` of ``lanes`` are in can be applied; only where F runs on whole sums."""
        return lanes_in >= max(1, lanes - self.spare)


BSP = Rule()
