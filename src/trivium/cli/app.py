"""Names, options and help of the commands; nothing heavy is imported before one of them runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from trivium.cli import options
from trivium.cli.asked import Asked

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

WHERE, HOW, STOP, LEARN, OUTPUT = "Where it runs", "Batches and sums", "When it stops", "How it learns", "Output"


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


@app.command("train", epilog=TRAIN_EPILOG)
def _train(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="logistic, softmax, or mlp:WIDTH,WIDTH…[:relu|tanh|gelu].")
    ],
    data: Annotated[
        str,
        typer.Argument(
            metavar="DATA", help="LIBSVM file (plain, gzip, xz), IDX folder, synthetic:ROWSxCOLUMNS or sklearn:NAME."
        ),
    ],
    test: Annotated[str | None, typer.Option("--test", metavar="DATA", help="Rows to test the result on.")] = None,
    valid: Annotated[
        str | None,
        typer.Option(
            "--valid", metavar="DATA|SHARE", help="Rows to watch while training, or a share of DATA; 0: none."
        ),
    ] = None,
    design: Annotated[
        str,
        typer.Option(
            "--design", metavar="NAME", help="sequential, allreduce or ps.", rich_help_panel=WHERE, show_default=True
        ),
    ] = "sequential",
    workers: Annotated[
        int | None,
        typer.Option(
            "--workers",
            "-w",
            parser=options.whole(1),
            metavar="N",
            rich_help_panel=WHERE,
            help="Worker processes in all (allreduce, ps). Default: one a core.",
        ),
    ] = None,
    threads: Annotated[
        int | None,
        typer.Option(
            "--threads",
            parser=options.whole(1),
            metavar="N",
            rich_help_panel=WHERE,
            help="Threads of the one process (sequential). Default: one a core.",
        ),
    ] = None,
    pin: Annotated[
        bool, typer.Option("--pin", metavar="", rich_help_panel=WHERE, help="Tie each worker to a core.")
    ] = False,
    shards: Annotated[
        int | None,
        typer.Option(
            "--shards",
            parser=options.whole(1),
            metavar="N",
            rich_help_panel=WHERE,
            help="Pieces that the parameters are cut into (allreduce, ps).",
        ),
    ] = None,
    lanes: Annotated[
        int | None,
        typer.Option(
            "--lanes",
            parser=options.whole(1),
            metavar="N",
            rich_help_panel=HOW,
            help="Fixed shares of the rows, each with its own order; at least one a worker. Default: 8.",
        ),
    ] = None,
    consistency: Annotated[
        str,
        typer.Option("--consistency", metavar="NAME", rich_help_panel=HOW, help="bsp: all workers keep step."),
    ] = "bsp",
    batch_size: Annotated[
        str | None,
        typer.Option(
            "--batch-size",
            "--batch",
            parser=options.batch,
            metavar="N|full",
            rich_help_panel=HOW,
            help="Rows a step over all workers. Default: 256 for mlp, else full.",
        ),
    ] = None,
    batch_per_worker: Annotated[
        int | None,
        typer.Option(
            "--batch-per-worker",
            parser=options.whole(1),
            metavar="N",
            rich_help_panel=HOW,
            help="The other way to say it: rows a step of each worker.",
        ),
    ] = None,
    combine: Annotated[
        str,
        typer.Option("--combine", metavar="sum|model", rich_help_panel=HOW, help="Add gradients, or average models."),
    ] = "sum",
    every: Annotated[
        int | None,
        typer.Option(
            "--every",
            parser=options.whole(1),
            metavar="H",
            rich_help_panel=HOW,
            help="Local steps between two averages (--combine model).",
        ),
    ] = None,
    reproducible: Annotated[
        bool,
        typer.Option(
            "--reproducible", metavar="", rich_help_panel=HOW, help="The same bits for any number of workers."
        ),
    ] = False,
    epochs: Annotated[
        int | None,
        typer.Option(
            "--epochs",
            parser=options.whole(1),
            metavar="E",
            rich_help_panel=STOP,
            help="Passes over the rows. Default: 50 for mlp.",
        ),
    ] = None,
    max_iter: Annotated[
        int | None,
        typer.Option(
            "--max-iter",
            parser=options.whole(1),
            metavar="I",
            rich_help_panel=STOP,
            help="Iterations of the optimizer. Default: 100 for lbfgs and owlqn.",
        ),
    ] = None,
    max_time: Annotated[
        float | None,
        typer.Option(
            "--max-time",
            parser=options.number(above=0),
            metavar="SECONDS",
            rich_help_panel=STOP,
            help="Seconds of training.",
        ),
    ] = None,
    tol: Annotated[
        float | None,
        typer.Option(
            "--tol",
            parser=options.number(least=0),
            metavar="T",
            rich_help_panel=STOP,
            help="Largest gradient component at the end (lbfgs, owlqn). Default: 1e-4.",
        ),
    ] = None,
    patience: Annotated[
        int | None,
        typer.Option(
            "--patience",
            parser=options.whole(0),
            metavar="P",
            rich_help_panel=STOP,
            help="Evaluations without a lower validation loss; 0: never mind. Default: 3 for mlp.",
        ),
    ] = None,
    target_loss: Annotated[
        float | None,
        typer.Option(
            "--target-loss",
            parser=options.number(least=0),
            metavar="L",
            rich_help_panel=STOP,
            help="Loss on the validation rows, else on a sample of the training rows.",
        ),
    ] = None,
    optimizer: Annotated[
        str | None,
        typer.Option(
            "--optimizer",
            metavar="NAME",
            rich_help_panel=LEARN,
            help="lbfgs, owlqn, sgd, momentum, nesterov, adagrad, adam, adamw or ftrl.",
        ),
    ] = None,
    lr: Annotated[
        float | None,
        typer.Option(
            "--lr",
            parser=options.number(above=0),
            metavar="R",
            rich_help_panel=LEARN,
            help="Learning rate (not lbfgs).",
        ),
    ] = None,
    l1: Annotated[
        float | None,
        typer.Option(
            "--l1", parser=options.number(least=0), metavar="A", rich_help_panel=LEARN, help="Factor of ‖w‖₁."
        ),
    ] = None,
    l2: Annotated[
        float | None,
        typer.Option(
            "--l2",
            parser=options.number(least=0),
            metavar="A",
            rich_help_panel=LEARN,
            help="Factor of ‖w‖²/2. Default: 1/rows for logistic and softmax.",
        ),
    ] = None,
    seed: Annotated[
        int,
        typer.Option(
            "--seed", parser=options.seed, metavar="S", rich_help_panel=LEARN, help="Of order, start and split."
        ),
    ] = 0,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            "--run",
            metavar="DIR",
            rich_help_panel=OUTPUT,
            help="The run's directory, empty or new. Default: runs/MODEL-DESIGN-NNNN.",
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", metavar="", rich_help_panel=OUTPUT, help="Say what would be done and start nothing."),
    ] = False,
    as_json: Annotated[
        bool,
        typer.Option("--json", metavar="", rich_help_panel=OUTPUT, help="One JSON object as the last line of stdout."),
    ] = False,
    quiet: Annotated[
        bool,
        typer.Option("--quiet", "-q", metavar="", rich_help_panel=OUTPUT, help="No progress, no summary, no verdict."),
    ] = False,
) -> int:
    """Train MODEL on DATA; progress on stderr, the result on stdout, everything in the run's directory."""
    from trivium.cli.train import train

    return train(
        Asked(
            model=model,
            data=data,
            test=test,
            valid=valid,
            design=design,
            workers=workers,
            threads=threads,
            pin=pin,
            consistency=consistency,
            lanes=lanes,
            shards=shards,
            combine=combine,
            every=every,
            reproducible=reproducible,
            batch_size=batch_size,
            batch_per_worker=batch_per_worker,
            epochs=epochs,
            max_iter=max_iter,
            max_time=max_time,
            tol=tol,
            patience=patience,
            target_loss=target_loss,
            optimizer=optimizer,
            lr=lr,
            l1=l1,
            l2=l2,
            seed=seed,
            out=out,
            dry_run=dry_run,
            as_json=as_json,
            quiet=quiet,
        )
    )


@app.command("report")
def _report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN…", help="Directories of runs.")],
    as_json: Annotated[
        bool, typer.Option("--json", metavar="", help="One JSON object as the last line of stdout.")
    ] = False,
) -> int:
    """Say what a run did and where its time went; several runs side by side."""
    from trivium.cli.report import report

    return report(runs, as_json)


@app.command("resume")
def _resume(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Directory of a run that did not finish.")],
    as_json: Annotated[
        bool, typer.Option("--json", metavar="", help="One JSON object as the last line of stdout.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", metavar="", help="No progress, no summary.")] = False,
) -> int:
    """Go on from the last checkpoint of a run that was interrupted or failed."""
    from trivium.cli.resume import resume

    return resume(run, as_json, quiet)


@app.command("demo")
def _demo(
    as_json: Annotated[
        bool, typer.Option("--json", metavar="", help="One JSON object as the last line of stdout.")
    ] = False,
) -> int:
    """Train two small models by every design, kill a worker for real, and print one table. Under a minute."""
    from trivium.cli.demo import demo

    return demo(as_json)
