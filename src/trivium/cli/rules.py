"""Which options go together, as a table: an option that the chosen design, optimizer or model cannot use is an error.

A rule names the option, says when it is broken, and what to do instead. Rules see what was typed (``Asked``) and what
follows from it (``Chosen``), and need neither data nor program.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from trivium.cli.asked import Asked
from trivium.cli.declared import Reading
from trivium.errors import PlanError

__all__ = ["DATA_RULES", "FULL_BATCH", "PLAN_RULES", "RULES", "Chosen", "Rule", "check", "check_data"]

FULL_BATCH = ("lbfgs", "owlqn")  # they search along a line: every step needs all rows
SEVERAL = ("allreduce", "ps")  # designs of several processes
NO_SLACK = ("bsp", "ssp:0", "essp:0")  # consistencies under which all keep step
TABLES = ("csv", "tsv", "parquet", "arrow")  # formats whose columns have names
MADE = ("synthetic", "sklearn")


@dataclass(frozen=True)
class Chosen:
    """What follows from the options: the optimizer's name, and whether there are validation rows."""

    optimizer: str
    validates: bool
    full_batch: bool = False  # whether the optimizer needs all rows at each step


@dataclass(frozen=True)
class Rule:
    """``option`` must not be given where ``broken``; ``says`` is what is allowed and the next step."""

    option: str
    broken: Callable[[Asked, Chosen], bool]
    says: str


def _given(value: object) -> bool:
    return value is not None


RULES = (
    Rule(
        "workers",
        lambda a, _: a.design == "sequential" and a.workers not in (None, 1),
        "the sequential design is one process; --threads sets its threads, or take --design allreduce or ps",
    ),
    Rule(
        "threads",
        lambda a, _: a.design in SEVERAL and a.threads not in (None, 1),
        "workers of {design} have one thread each: raise --workers; only --design sequential has threads",
    ),
    Rule(
        "threads",
        lambda a, _: a.design == "auto" and a.threads not in (None, 1) and a.workers not in (None, 1),
        "one process has threads (--design sequential), several have workers (--design ps); give one of the two",
    ),
    Rule(
        "shards",
        lambda a, _: a.design == "sequential" and _given(a.shards),
        "the sequential design does not cut the parameters; --design allreduce and ps do",
    ),
    Rule(
        "batch_per_worker",
        lambda a, _: _given(a.batch_size) and _given(a.batch_per_worker),
        "--batch-size {batch_size} already says it for all workers together; give one of the two",
    ),
    Rule(
        "batch_size",
        lambda a, c: c.full_batch and a.batch_size not in (None, "full"),
        "{optimizer} reads all rows at every step; sgd, momentum, adam and their kin take batches (--optimizer adam)",
    ),
    Rule(
        "batch_per_worker",
        lambda a, c: c.full_batch and _given(a.batch_per_worker),
        "{optimizer} reads all rows at every step; sgd, momentum, adam and their kin take batches (--optimizer adam)",
    ),
    Rule(
        "consistency",
        lambda a, c: c.optimizer in FULL_BATCH and a.consistency not in NO_SLACK,
        "{optimizer} needs whole sums of fresh gradients; sgd, momentum, adam and their kin take steps as they come "
        "(--optimizer adam)",
    ),
    Rule(
        "lr",
        lambda a, c: c.full_batch and _given(a.lr),
        "{optimizer} finds its own step length; sgd, momentum, adam and their kin take a rate",
    ),
    Rule(
        "tol",
        lambda a, c: c.optimizer not in FULL_BATCH and _given(a.tol),
        "{optimizer} has no test of its own, lbfgs and owlqn have; --target-loss, --patience, --epochs and --max-time "
        "end a run of {optimizer}",
    ),
    Rule(
        "l1",
        lambda a, c: c.optimizer == "lbfgs" and bool(a.l1),
        "lbfgs needs a smooth objective; --optimizer owlqn takes l1, and so do sgd and its kin",
    ),
    Rule(
        "patience",
        lambda a, c: bool(a.patience) and not c.validates,
        "there are no validation rows to watch; add --valid 0.1 or --valid FILE",
    ),
    Rule(
        "every",
        lambda a, _: a.combine != "model" and a.every not in (None, 1),
        "gradients are summed at each step; only --combine model averages every so many",
    ),
    Rule(
        "combine",
        lambda a, c: a.combine == "model" and c.full_batch,
        "{optimizer} steps for all workers at once; only sgd, momentum, adam and their kin average models",
    ),
)

PLAN_RULES = tuple(rule for rule in RULES if rule.option in ("workers", "threads", "shards", "every"))


def _said(asked: Reading) -> str | None:
    """The format, where what was typed tells it."""
    scheme = str(getattr(asked, "data", "")).partition(":")[0]
    return asked.format or (scheme if scheme in MADE else None)


def _no_table(asked: Reading) -> bool:
    return _said(asked) not in (None, *TABLES)


COLUMNS = "rows of {format} have no named columns; those of csv, tsv, parquet and arrow have"
DATA_RULES: tuple[tuple[str, Callable[[Reading], bool], str], ...] = (
    ("label", _no_table, COLUMNS),
    ("weight", _no_table, COLUMNS),
    ("types", _no_table, COLUMNS),
    (
        "missing",
        lambda a: _said(a) not in (None, "csv", "tsv"),
        "{format} says itself what is missing; csv and tsv need the words",
    ),
    (
        "features",
        lambda a: _said(a) in (*TABLES, *MADE, "idx", "images"),
        "{format} shows all its features in each row; only libsvm may leave some out",
    ),
)


def check_data(asked: Reading) -> None:
    """PlanError for an option of the data that the format, if it was said, cannot use."""
    for option, broken, says in DATA_RULES:
        value = getattr(asked, option)
        if value is not None and broken(asked):
            raise PlanError(f"--{option} {value}: {says.format(format=_said(asked))}")


def check(asked: Asked, chosen: Chosen, rules: tuple[Rule, ...] = RULES) -> None:
    """Raise PlanError for the first rule that is broken: the option as typed, who can use it, what to do."""
    for rule in rules:
        if rule.broken(asked, chosen):
            value = getattr(asked, rule.option)
            words = {**vars(asked), "optimizer": chosen.optimizer}
            raise PlanError(f"--{rule.option.replace('_', '-')} {value}: {rule.says.format(**words)}")
