"""Options that several commands have: how data are read, and how results are shown.

A class of options is the options of a command *and* what its code is handed, so that an option is said once:
``commands`` makes the parser from the fields. None where nothing was said. Nothing heavy is imported here.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from trivium.cli import complete, options

__all__ = ["DATA", "OUTPUT", "Json", "Reading", "Source", "Trained", "Trust"]

DATA, OUTPUT = "What the data mean", "Output"
SOURCE = (
    "CSV, TSV, Parquet, Arrow, LIBSVM (plain, gzip, xz …), IDX or image folder, text; a path, pattern, folder or URL; "
    "synthetic:ROWSxCOLUMNS or sklearn:NAME."
)

Json = Annotated[
    bool, typer.Option("--json", metavar="", rich_help_panel=OUTPUT, help="One JSON object as the last line of stdout.")
]
Source = Annotated[str, typer.Argument(metavar="DATA", help=SOURCE)]
Trained = Annotated[Path, typer.Argument(metavar="RUN", help="Directory of a run that finished.")]
Trust = Annotated[
    bool,
    typer.Option("--trust", metavar="", help="Run the code of RUN's program, where that is not a model by name."),
]


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How DATA are read."""

    label: Annotated[
        str | None,
        typer.Option(
            "--label", metavar="COL", rich_help_panel=DATA, help="Column to be learned; not for LIBSVM and IDX."
        ),
    ] = None
    weight: Annotated[
        str | None,
        typer.Option("--weight", metavar="COL", rich_help_panel=DATA, help="Column that says how much a row counts."),
    ] = None
    format: Annotated[
        str | None,
        typer.Option(
            "--format",
            metavar="F",
            rich_help_panel=DATA,
            autocompletion=complete.formats,
            help="csv, parquet, libsvm … Default: by content and name.",
        ),
    ] = None
    features: Annotated[
        int | None,
        typer.Option(
            "--features",
            parser=options.whole(1),
            metavar="N",
            rich_help_panel=DATA,
            help="Features there are, where the rows may not show them all (LIBSVM).",
        ),
    ] = None
    types: Annotated[
        str | None,
        typer.Option(
            "--types",
            parser=options.types,
            metavar="COL=KIND,…",
            rich_help_panel=DATA,
            help="Columns declared: float, int, category, text, time, skip. Others are inferred.",
        ),
    ] = None
    missing: Annotated[
        str | None,
        typer.Option(
            "--missing",
            metavar="WORD,…",
            rich_help_panel=DATA,
            help="Words that stand for a missing value, beside the empty one (CSV).",
        ),
    ] = None
    prep: Annotated[
        str | None,
        typer.Option(
            "--prep",
            metavar="STEP,…",
            rich_help_panel=DATA,
            autocompletion=complete.steps,
            help="log1p, normalize, standardize, impute, onehot, hash:2^20, tfidf; fitted here, saved with the model.",
        ),
    ] = None
    dtype: Annotated[
        str | None,
        typer.Option(
            "--dtype",
            metavar="float32|float64",
            rich_help_panel=DATA,
            autocompletion=complete.one_of("float32", "float64"),
            help="Numbers that features are kept in.",
        ),
    ] = None
    max_bad_rows: Annotated[
        int,
        typer.Option(
            "--max-bad-rows",
            parser=options.whole(0),
            metavar="N",
            rich_help_panel=DATA,
            help="Rows that may be passed over because they cannot be read; more are an error.",
        ),
    ] = 0
    no_cache: Annotated[
        bool,
        typer.Option("--no-cache", metavar="", rich_help_panel=DATA, help="Read anew, and keep nothing for next time."),
    ] = False
