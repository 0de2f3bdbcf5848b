"""What is measured: each benchmark, our sides, the peers beside us, and what we hold ourselves to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["BENCHMARKS", "Benchmark", "Side", "ours", "peer", "pick"]


@dataclass(frozen=True)
class Side:
    """One column of a comparison: ``case`` of the script ``module``, run by the Python of ``venv``.

    ``target`` is how many times faster than this peer our best side is to be; None where the peer is shown for context.
    """

    label: str
    venv: str
    module: str
    case: str
    target: float | None = None

    @property
    def python(self) -> Path:
        """The interpreter; missing where the peer was not installed."""
        return Path(__file__).resolve().parents[1] / self.venv / "bin" / "python"


@dataclass(frozen=True)
class Benchmark:
    """One question. ``faster`` says whether more (a rate) or less (a time) is better."""

    name: str
    title: str
    faster: str
    ours: Sequence[Side]
    peers: Sequence[Side] = field(default_factory=tuple)

    def ratio(self, us: float, them: float) -> float:
        """How many times faster we are than a peer; above 1 we are."""
        return us / them if self.faster == "more" else them / us


def ours(case: str, label: str) -> Side:
    """One of our own cases."""
    return Side(f"trivium {label}", ".venv", "benchmarks.ours", case)


def peer(venv: str, module: str, case: str, label: str, target: float | None = 1.0) -> Side:
    """A case of a peer's script."""
    return Side(label, venv, f"benchmarks.peers.{module}", case, target)


def pick(names: Sequence[str]) -> list[Benchmark]:
    """The benchmarks called ``names`` (all for none); KeyError lists the valid ones."""
    known = {one.name: one for one in BENCHMARKS}
    for name in names:
        if name not in known:
            raise KeyError(f"unknown benchmark {name!r}; allowed: {', '.join(sorted(known))}")
    return [known[name] for name in names] or list(BENCHMARKS)


def _single(batch: int) -> Benchmark:
    return Benchmark(
        f"mlp-single-{batch}",
        f"mlp:500 on MNIST, one process of two threads, batch {batch}, Adam",
        "more",
        [ours(f"mlp-single-{batch}", "sequential")],
        [
            peer(".venv-torch", "torch_single", f"threads2-{batch}", "PyTorch, 2 threads"),
            peer(".venv", "jax_single", f"threads2-{batch}", "JAX, 2 threads"),
        ],
    )


BENCHMARKS = (
    Benchmark(
        "mlp-two",
        "mlp:500 on MNIST, two processes of one thread, batch 128 each, Adam",
        "more",
        [ours("mlp-two-allreduce", "allreduce"), ours("mlp-two-ps", "ps")],
        [
            peer(".venv-torch", "torch_ddp", "2x128", "PyTorch DDP (gloo)"),
            peer(".venv-torch", "torch_single", "threads1-128", "PyTorch, 1 thread, batch 128", None),
        ],
    ),
    _single(256),
    _single(1024),
    Benchmark(
        "dense-lbfgs",
        "logistic regression, 500,000 × 54 float32, L-BFGS to within 1e-5 of the optimum",
        "less",
        [
            ours("dense-sequential", "sequential"),
            ours("dense-allreduce", "allreduce, 2 workers"),
            ours("dense-ps", "ps, 2 workers"),
        ],
        [
            peer(".venv", "sklearn_logistic", "dense-lbfgs", "scikit-learn lbfgs"),
            peer(".venv-spark", "spark_logistic", "dense-lbfgs", "Spark MLlib, local[2], warm", 5.0),
        ],
    ),
    Benchmark(
        "imdb-batch",
        "logistic regression, 25,000 reviews × 79,769 words, l2 1e-5, to within 0.1 % of a tight liblinear",
        "less",
        [ours("imdb-sequential", "sequential"), ours("imdb-ps", "ps, 2 workers")],
        [
            peer(".venv", "sklearn_logistic", f"imdb-{solver}", f"scikit-learn {solver}", target)
            for solver, target in (
                ("liblinear", 1.0),
                ("lbfgs", 1.0),
                ("newton-cg", 1.0),
                ("saga", 1.0),
                ("newton-cholesky", None),
            )
        ],
    ),
    Benchmark(
        "imdb-pass",
        "one pass of online learning over the reviews, from plain text, parse included",
        "less",
        [ours("imdb-pass", "sequential, AdaGrad")],
        [peer(".venv-vw", "vw_imdb", "imdb-pass", "Vowpal Wabbit", None)],
    ),
    Benchmark(
        "null-step",
        "a step that computes nothing, two workers",
        "less",
        [ours("null-allreduce", "allreduce"), ours("null-ps", "ps")],
        [
            peer(".venv", "roundtrip", way, f"bare round trip, {way}", None)
            for way in ("pipe", "eventfd", "zmq-ipc", "zmq-inproc")
        ],
    ),
)
