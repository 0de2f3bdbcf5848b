"""Names, options and help of the commands; nothing heavy is imported before one of them runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from trivium.cli import options
from trivium.cli.asked import Asked
from trivium.cli.commands import command
from trivium.cli.declared import Json, Trust
from trivium.cli.further import Evaluated, Exported, Inspected, Predicted

__all__ = ["app"]

app = typer.Typer(
    name="trivium",
    help="One machine-learning program, trained in one process, by allreduce or by a parameter server.",
    epilog="Try: trivium train logistic sklearn:breast_cancer  ·  trivium demo",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"trivium {version('trivium')}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option("--version", metavar="", callback=_version, is_eager=True, help="Print the version and exit."),
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", metavar="", help="Show the traceback of an error (anywhere on the line).")
    ] = False,
) -> None:
    pass


TRAIN_EPILOG = """
[bold]Examples[/bold]

trivium train logistic train.libsvm --test test.libsvm

trivium train mlp:300,100 mnist/ --test mnist/ --design ps -w 4 --epochs 20

trivium train softmax sklearn:digits --design allreduce -w 2 --valid 0.2 --json

trivium train logistic train.libsvm --design ps -w 8 --dry-run
"""


@command(app, "train", Asked, epilog=TRAIN_EPILOG)
def _train(asked: Asked) -> int:
    """Train MODEL on DATA; progress on stderr, the result on stdout, everything in the run's directory."""
    from trivium.cli.train import train

    return train(asked)


@command(app, "inspect", Inspected)
def _inspect(asked: Inspected) -> int:
    """Say what DATA are before anything is trained: rows, columns, types, classes, what is missing, the first rows."""
    from trivium.cli.inspect import inspect

    return inspect(asked)


@command(app, "predict", Predicted)
def _predict(asked: Predicted) -> int:
    """Answer for the rows of DATA by the model of RUN, a row a line."""
    from trivium.cli.predict import predict

    return predict(asked)


@command(app, "evaluate", Evaluated)
def _evaluate(asked: Evaluated) -> int:
    """Measure how well the model of RUN answers for DATA, whose labels are known."""
    from trivium.cli.evaluate import evaluate

    return evaluate(asked)


@command(app, "export", Exported)
def _export(asked: Exported) -> int:
    """Write the model of RUN for other programs."""
    from trivium.cli.export import export

    return export(asked)


@app.command("report")
def _report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN…", help="Directories of runs.")],
    as_json: Json = False,
) -> int:
    """Say what a run did and where its time went; several runs side by side."""
    from trivium.cli.report import report

    return report(runs, as_json)


@app.command("resume")
def _resume(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Directory of a run that did not finish.")],
    as_json: Json = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", metavar="", help="No progress, no summary.")] = False,
    trust: Trust = False,
) -> int:
    """Go on from the last checkpoint of a run that was interrupted or failed."""
    from trivium.cli.resume import resume

    return resume(run, as_json, quiet, trust=trust)


Live = Annotated[Path, typer.Argument(metavar="RUN", help="Directory of a run that goes on.")]


@app.command("scale")
def _scale(
    run: Live,
    workers: Annotated[
        int,
        typer.Option(
            "--workers", "-w", parser=options.whole(1), metavar="N", help="Workers from now on, over all nodes."
        ),
    ],
    nodes: Annotated[
        int | None,
        typer.Option(
            "--nodes", parser=options.whole(1), metavar="M", help="Nodes from now on. Default: as many as now."
        ),
    ] = None,
    as_json: Json = False,
) -> int:
    """Let workers and nodes join or leave a run that goes on; nothing restarts."""
    from trivium.cli.scale import scale

    return scale(run, workers, nodes, as_json)


@app.command("switch")
def _switch(
    run: Live,
    consistency: Annotated[
        str,
        typer.Option("--consistency", metavar="NAME", help="From now on: bsp, ssp:S, essp:S, asp or backup:K."),
    ],
    as_json: Json = False,
) -> int:
    """Change the consistency of a run that goes on."""
    from trivium.cli.scale import switch

    return switch(run, consistency, as_json)


@app.command("demo")
def _demo(
    as_json: Json = False,
) -> int:
    """Train two small models by every design, kill a worker for real, and print one table. Under a minute."""
    from trivium.cli.demo import demo

    return demo(as_json)


@app.command("runs")
def _runs(
    folder: Annotated[
        Path | None, typer.Argument(metavar="[DIR]", help="Folder that holds runs.", show_default="runs")
    ] = None,
    as_json: Json = False,
) -> int:
    """List runs, newest first: state, losses, accuracies, and what is broken."""
    from trivium.cli.runs import runs

    return runs(folder, as_json)


@app.command("doctor")
def _doctor(
    as_json: Json = False,
) -> int:
    """Look at this machine: cores, memory, versions, speeds; what is missing and what to do."""
    from trivium.cli.doctor import doctor

    return doctor(as_json)
