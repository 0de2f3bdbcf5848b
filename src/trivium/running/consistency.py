"""Whether program and optimizer go with a plan's consistency and filters: checked before anything starts.

What needs the plan alone is checked when it is made (``trivium.plan``). Here is what needs the program, whose Δ may not
be a gradient, and the optimizer, which may need whole sums of fresh deltas: also where a run changes over on its way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trivium.core.consistency import Rule
from trivium.errors import PlanError
from trivium.plan import Plan
from trivium.program import optimizers
from trivium.program.optimizers.base import Optimizer
from trivium.program.program import Program

if TYPE_CHECKING:
    from trivium.designs.ps.filters import Chain

__all__ = ["check_consistency", "check_filters", "tolerant"]


def check_consistency(plan: Plan, program: Program, optimizer: Optimizer) -> Rule:
    """The rule of ``plan``; PlanError where the design, ``program`` (bound to its data) or ``optimizer`` cannot use it.

    ``backup`` leaves lanes out of a sum, so it is as much as staleness for who needs whole sums.

    >>> from trivium.program.null import Null, Total
    >>> check_consistency(Plan("ps", workers=2, consistency="ssp:3"), Null(), Total())
    Rule(kind='ssp', bound=3)
    """
    rule = Rule.parse(plan.consistency)
    if rule.whole and rule.kind != "backup":
        return rule  # bsp, by that name or another
    if plan.design != "ps":
        raise PlanError(f"consistency={rule}: only parameter servers have that; use design='ps'")
    if rule.kind not in program.consistencies or program.delta_layout != program.layout:
        allowed = program.consistencies if program.delta_layout == program.layout else {"bsp"}
        raise PlanError(
            f"consistency={rule}: {program.name} cannot be trained under it; it allows {', '.join(sorted(allowed))}"
        )
    if not optimizer.tolerates:
        raise PlanError(
            f"consistency={rule}: {optimizer.name} needs whole sums of fresh deltas; use consistency='bsp', or an "
            f"optimizer that takes steps as they come: {', '.join(tolerant())}"
        )
    return rule


def check_filters(plan: Plan, optimizer: Optimizer, l1: float) -> Chain:
    """The filters of ``plan``; PlanError where one is not known, or does not go with it, ``optimizer`` or ``l1``.

    >>> plan = Plan("ps", workers=2, nodes=2, filters="key-cache,int8")
    >>> check_filters(plan, optimizers.optimizer("sgd"), 0.0).lossless
    False
    """
    from trivium.designs.ps.filters import parse_filters

    chain = parse_filters(plan.filters)
    chain.check(optimizer.name, l1=l1, sums=optimizer.tolerates and plan.combine == "sum")
    if plan.reproducible and not chain.lossless:
        raise PlanError(
            f"filters={plan.filters}: what is lost depends on what each node sends, so that the bits do too; leave "
            "reproducible out, or use filters that lose nothing: key-cache"
        )
    if plan.bandwidth:
        _check_bandwidth(plan, optimizer, chain)
    return chain


def _check_bandwidth(plan: Plan, optimizer: Optimizer, chain: Chain) -> None:
    """Whether a part of each delta may go later."""
    told = f"bandwidth={plan.bandwidth}: a part of each delta is sent later"
    if plan.reproducible:
        raise PlanError(f"{told}, which one follows from the time; leave reproducible or bandwidth out")
    if not optimizer.tolerates or plan.combine != "sum":
        needs = optimizer.name if plan.combine == "sum" else f"combine={plan.combine!r}"
        raise PlanError(f"{told}, and {needs} needs all of it at once; use one of {', '.join(tolerant())}")
    if chain.kkt is not None:
        raise PlanError(
            f"{told}, and {chain.kkt} must see the small gradients of each clock apart; leave filter or bandwidth out"
        )


def tolerant() -> tuple[str, ...]:
    """Names of the optimizers that may be applied push by push.

    >>> "adam" in tolerant(), "lbfgs" in tolerant()
    (True, False)
    """
    return tuple(sorted(name for name in optimizers.NAMES if optimizers.family(name).tolerates))
