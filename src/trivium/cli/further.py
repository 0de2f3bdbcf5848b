"""What may be typed after the commands around training: inspect, predict, evaluate, export."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from trivium.cli import complete, options
from trivium.cli.declared import OUTPUT, Json, Reading, Source, Trained, Trust

__all__ = ["Evaluated", "Exported", "Inspected", "Predicted"]


@dataclass(frozen=True, kw_only=True)
class Inspected(Reading):
    """The options of ``trivium inspect``."""

    data: Source
    rows: Annotated[
        int,
        typer.Option(
            "--rows", parser=options.whole(0), metavar="N", rich_help_panel=OUTPUT, help="First rows to be shown."
        ),
    ] = 5
    as_json: Json = False


@dataclass(frozen=True, kw_only=True)
class _Applied:
    """A finished run on other rows: they are read as its own were."""

    run: Trained
    data: Source
    trust: Trust = False
    format: Annotated[
        str | None,
        typer.Option(
            "--format",
            metavar="F",
            autocompletion=complete.formats,
            help="csv, parquet, libsvm … Default: by content and name.",
        ),
    ] = None
    missing: Annotated[
        str | None,
        typer.Option("--missing", metavar="WORD,…", help="Words that stand for a missing value (CSV)."),
    ] = None
    unseen: Annotated[
        str | None,
        typer.Option(
            "--unseen",
            metavar="error|ignore",
            autocompletion=complete.one_of("error", "ignore"),
            help="What a category is that no training row had: an error, or none of those known. Default: as trained.",
        ),
    ] = None
    max_bad_rows: Annotated[
        int,
        typer.Option("--max-bad-rows", parser=options.whole(0), metavar="N", help="Rows that may be passed over."),
    ] = 0


@dataclass(frozen=True, kw_only=True)
class Predicted(_Applied):
    """The options of ``trivium predict``."""

    proba: Annotated[bool, typer.Option("--proba", metavar="", help="Probabilities, a column a class.")] = False
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", metavar="FILE", help="A new .csv, .tsv or .parquet file. Default: CSV to the screen."
        ),
    ] = None


@dataclass(frozen=True, kw_only=True)
class Evaluated(_Applied):
    """The options of ``trivium evaluate``."""

    metric: Annotated[
        str | None,
        typer.Option(
            "--metric",
            metavar="NAME,…",
            autocompletion=complete.metrics,
            help="auc, f1, log_loss, rmse … Default: loss and accuracy, or mse and r2.",
        ),
    ] = None
    as_json: Json = False


@dataclass(frozen=True, kw_only=True)
class Exported:
    """The options of ``trivium export``."""

    run: Trained
    trust: Trust = False
    to: Annotated[
        str,
        typer.Option(
            "--to",
            metavar="sklearn|onnx|npz",
            autocompletion=complete.one_of("sklearn", "onnx", "npz"),
            help="A joblib file of a scikit-learn estimator, an ONNX model, or the arrays.",
        ),
    ]
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE", help="The file to write. Default: RUN's name.")
    ] = None
