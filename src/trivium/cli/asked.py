"""What was typed: every option as given, None where nothing was said."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from trivium.errors import UsageError

__all__ = ["Asked", "validation"]


@dataclass(frozen=True)
class Asked:
    """The options of ``trivium train``; see its help for the meaning of each."""

    model: str
    data: str
    test: str | None = None
    valid: str | None = None
    design: str = "sequential"
    workers: int | None = None
    threads: int | None = None
    pin: bool = False
    consistency: str = "bsp"
    lanes: int | None = None
    shards: int | None = None
    combine: str = "sum"
    every: int | None = None
    reproducible: bool = False
    batch_size: int | str | None = None
    batch_per_worker: int | None = None
    epochs: int | None = None
    max_iter: int | None = None
    max_time: float | None = None
    tol: float | None = None
    patience: int | None = None
    target_loss: float | None = None
    optimizer: str | None = None
    lr: float | None = None
    l1: float | None = None
    l2: float | None = None
    seed: int = 0
    out: Path | None = None
    dry_run: bool = False
    as_json: bool = False
    quiet: bool = False


def validation(text: str | None) -> str | float | None:
    """``--valid``: a share of the rows (0 turns validation off), or a source of rows.

    >>> validation("0.1"), validation("valid.libsvm")
    (0.1, 'valid.libsvm')
    """
    if text is None:
        return None
    try:
        share = float(text)
    except ValueError:
        return text
    if not 0 <= share < 1:
        raise UsageError(f"--valid {text}: a share of the rows lies between 0 and 1 (0.1, say); or give a file")
    return share
