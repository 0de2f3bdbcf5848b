"""``trivium predict``: answers for rows, in their order, in bounded memory however many they are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trivium.cli import applying
from trivium.cli.further import Predicted
from trivium.cli.screen import Screen
from trivium.cli.sinks import sink
from trivium.errors import PlanError
from trivium.observe.figures import count

if TYPE_CHECKING:
    from trivium.data.table import Table
    from trivium.face.trained import Run

__all__ = ["columns", "predict"]


def predict(asked: Predicted) -> int:
    """Carry out ``trivium predict``; returns the exit code."""
    screen, run = Screen(), applying.load(asked.run, trust=asked.trust)
    if asked.proba and run.model.output != "probability":
        raise PlanError(
            f"--proba: {run.model.name} gives {run.model.output}s, no probabilities; leave it out, or train logistic, "
            "softmax or mlp"
        )
    total = 0
    with sink(asked.out, screen) as put:
        for piece in applying.pieces(run, asked):
            total += len(piece)
            if not put.write(columns(run, piece, asked.proba)):
                break
    if asked.out is not None:
        screen.told([("rows", f"{count(total)} predicted"), ("file", str(asked.out))])
    return 0


def columns(run: Run, piece: Table, proba: bool) -> dict[str, Any]:
    """``prediction``, and with ``proba`` one column ``p_CLASS`` a class."""
    if not proba:
        answers = run.predict(piece)
        if answers.ndim == 1:
            return {"prediction": answers}
        return {f"prediction_{at + 1}": answers[:, at].copy() for at in range(answers.shape[1])}
    shares = run.predict_proba(piece)
    found: dict[str, Any] = {"prediction": run.classes[shares.argmax(axis=1)]}
    return found | {f"p_{name}": shares[:, at].copy() for at, name in enumerate(run.classes.tolist())}
