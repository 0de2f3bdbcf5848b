"""What may be typed after ``trivium train``; see ``declared`` for how such a class is used."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from trivium.cli import complete, config, options
from trivium.cli.declared import DATA, OUTPUT, Json, Reading, Source
from trivium.errors import UsageError

__all__ = ["Asked", "validation"]

WHERE, HOW, STOP, LEARN = "Where it runs", "Batches and sums", "When it stops", "How it learns"
FAIL = "What is made to fail"


@dataclass(frozen=True, kw_only=True)
class Asked(Reading):
    """The options of ``trivium train``."""

    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            autocompletion=complete.models,
            help="logistic, softmax, linear, svm, mlp:WIDTH,…[:relu|tanh|gelu], fm:K, or your own as FILE.py:NAME.",
        ),
    ]
    data: Source
    config: Annotated[
        Path | None,
        typer.Option(
            "--config",
            metavar="FILE",
            is_eager=True,
            callback=config.take,
            help="TOML file of these options by their names; those on the line win.",
        ),
    ] = None
    test: Annotated[str | None, typer.Option("--test", metavar="DATA", help="Rows to test the result on.")] = None
    valid: Annotated[
        str | None,
        typer.Option(
            "--valid", metavar="DATA|SHARE", help="Rows to watch while training, or a share of DATA; 0: none."
        ),
    ] = None
    regression: Annotated[
        bool,
        typer.Option(
            "--regression",
            metavar="",
            rich_help_panel=DATA,
            help="Whole numbers in the label are amounts, not classes (mlp, fm; linear always).",
        ),
    ] = False
    metric: Annotated[
        str | None,
        typer.Option(
            "--metric",
            metavar="NAME,…",
            autocompletion=complete.metrics,
            help="Measured at the end on the test, else the validation, else the training rows: auc, f1, rmse …",
        ),
    ] = None
    design: Annotated[
        str,
        typer.Option(
            "--design",
            metavar="NAME",
            rich_help_panel=WHERE,
            autocompletion=complete.designs,
            help="auto, sequential, allreduce or ps. auto: one process with all cores while data and model fit it.",
        ),
    ] = "auto"
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
    ] = None
    nodes: Annotated[
        int,
        typer.Option(
            "--nodes",
            parser=options.whole(1),
            metavar="N",
            rich_help_panel=WHERE,
            help="Nodes that share nothing, with a worker each or more; --workers is the total (ps).",
        ),
    ] = 1
    copies: Annotated[
        int | None,
        typer.Option(
            "--copies",
            parser=options.whole(1),
            metavar="R",
            rich_help_panel=WHERE,
            help="Copies of each piece of the parameters, on so many nodes. Default: 2 with 2 nodes or more.",
        ),
    ] = None
    bandwidth: Annotated[
        str | None,
        typer.Option(
            "--bandwidth",
            metavar="RATE",
            rich_help_panel=WHERE,
            help="What a node may send to others, the largest changes first: 100Mbit, 1Gbit, 50MB.",
        ),
    ] = None
    filter: Annotated[
        str | None,
        typer.Option(
            "--filter",
            metavar="NAME,…",
            rich_help_panel=WHERE,
            help="What is sent from node to node is made smaller: key-cache, float16, int8, topk:SHARE, kkt.",
        ),
    ] = None
    threads: Annotated[
        int | None,
        typer.Option(
            "--threads",
            parser=options.whole(1),
            metavar="N",
            rich_help_panel=WHERE,
            help="Threads of the one process (sequential). Default: one a core.",
        ),
    ] = None
    memory_per_worker: Annotated[
        int | None,
        typer.Option(
            "--memory-per-worker",
            parser=options.nbytes,
            metavar="SIZE",
            rich_help_panel=WHERE,
            help="Memory that no worker may exceed: 2G, 500M.",
        ),
    ] = None
    pin: Annotated[
        bool, typer.Option("--pin", metavar="", rich_help_panel=WHERE, help="Tie each worker to a core.")
    ] = False
    shards: Annotated[
        int | None,
        typer.Option(
            "--shards",
            parser=options.whole(1),
            metavar="N",
            rich_help_panel=WHERE,
            help="Pieces that the parameters are cut into (allreduce, ps).",
        ),
    ] = None
    lanes: Annotated[
        int | None,
        typer.Option(
            "--lanes",
            parser=options.whole(1),
            metavar="N",
            rich_help_panel=HOW,
            help="Fixed shares of the rows, each with its own order; at least one a worker. Default: 8.",
        ),
    ] = None
    consistency: Annotated[
        str,
        typer.Option(
            "--consistency",
            metavar="NAME",
            rich_help_panel=HOW,
            autocompletion=complete.one_of("asp", "backup:", "bsp", "essp:", "ssp:"),
            help="bsp: all lanes keep step. ssp:S, essp:S: at most S steps apart. asp: no bound. backup:K: each step "
            "without its K slowest lanes (ps).",
        ),
    ] = "bsp"
    balance: Annotated[
        bool | None,
        typer.Option(
            "--balance/--no-balance",
            rich_help_panel=HOW,
            help="Move lanes from slow to fast workers (ps). Default: yes, but for bsp.",
        ),
    ] = None
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
    ] = None
    batch_per_worker: Annotated[
        int | None,
        typer.Option(
            "--batch-per-worker",
            parser=options.whole(1),
            metavar="N",
            rich_help_panel=HOW,
            help="The other way to say it: rows a step of each worker.",
        ),
    ] = None
    combine: Annotated[
        str,
        typer.Option(
            "--combine",
            metavar="sum|model",
            rich_help_panel=HOW,
            autocompletion=complete.one_of("sum", "model"),
            help="Add gradients, or average models.",
        ),
    ] = "sum"
    every: Annotated[
        int | None,
        typer.Option(
            "--every",
            parser=options.whole(1),
            metavar="H",
            rich_help_panel=HOW,
            help="Local steps between two averages (--combine model).",
        ),
    ] = None
    reproducible: Annotated[
        bool,
        typer.Option(
            "--reproducible", metavar="", rich_help_panel=HOW, help="The same bits for any number of workers."
        ),
    ] = False
    epochs: Annotated[
        int | None,
        typer.Option(
            "--epochs",
            parser=options.whole(1),
            metavar="E",
            rich_help_panel=STOP,
            help="Passes over the rows. Default: 50 for mlp.",
        ),
    ] = None
    max_iter: Annotated[
        int | None,
        typer.Option(
            "--max-iter",
            parser=options.whole(1),
            metavar="I",
            rich_help_panel=STOP,
            help="Iterations of the optimizer. Default: 100 for lbfgs and owlqn.",
        ),
    ] = None
    max_time: Annotated[
        float | None,
        typer.Option(
            "--max-time",
            parser=options.number(above=0),
            metavar="SECONDS",
            rich_help_panel=STOP,
            help="Seconds of training.",
        ),
    ] = None
    tol: Annotated[
        float | None,
        typer.Option(
            "--tol",
            parser=options.number(least=0),
            metavar="T",
            rich_help_panel=STOP,
            help="Largest gradient component at the end (lbfgs, owlqn). Default: 1e-6.",
        ),
    ] = None
    patience: Annotated[
        int | None,
        typer.Option(
            "--patience",
            parser=options.whole(0),
            metavar="P",
            rich_help_panel=STOP,
            help="Evaluations without a lower validation loss; 0: never mind. Default: 3 for mlp.",
        ),
    ] = None
    target_loss: Annotated[
        float | None,
        typer.Option(
            "--target-loss",
            parser=options.number(least=0),
            metavar="L",
            rich_help_panel=STOP,
            help="Loss on the validation rows, else on a sample of the training rows.",
        ),
    ] = None
    optimizer: Annotated[
        str | None,
        typer.Option(
            "--optimizer",
            metavar="NAME",
            rich_help_panel=LEARN,
            autocompletion=complete.optimizers,
            help="lbfgs, owlqn, sgd, momentum, nesterov, adagrad, adam, adamw or ftrl.",
        ),
    ] = None
    lr: Annotated[
        float | None,
        typer.Option(
            "--lr",
            parser=options.number(above=0),
            metavar="R",
            rich_help_panel=LEARN,
            help="Learning rate (not lbfgs).",
        ),
    ] = None
    l1: Annotated[
        float | None,
        typer.Option(
            "--l1", parser=options.number(least=0), metavar="A", rich_help_panel=LEARN, help="Factor of ‖w‖₁."
        ),
    ] = None
    l2: Annotated[
        float | None,
        typer.Option(
            "--l2",
            parser=options.number(least=0),
            metavar="A",
            rich_help_panel=LEARN,
            help="Factor of ‖w‖²/2. Default: 1/rows for logistic and softmax.",
        ),
    ] = None
    seed: Annotated[
        int,
        typer.Option(
            "--seed", parser=options.seed, metavar="S", rich_help_panel=LEARN, help="Of order, start and split."
        ),
    ] = 0
    inject: Annotated[
        list[str] | None,
        typer.Option(
            "--inject",
            metavar="FAULT",
            rich_help_panel=FAIL,
            help="slow:worker1:x4, slow:each:x4@0.1, kill:node1@clock50, delay:5ms, bandwidth:100Mbit …; may be given "
            "several times.",
        ),
    ] = None
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
    ] = None
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", metavar="", rich_help_panel=OUTPUT, help="Say what would be done and start nothing."),
    ] = False
    as_json: Json = False
    quiet: Annotated[
        bool,
        typer.Option("--quiet", "-q", metavar="", rich_help_panel=OUTPUT, help="No progress, no summary, no verdict."),
    ] = False


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
