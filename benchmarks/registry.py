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


def ours(case: str, label: str, target: float | None = None) -> Side:
    """One of our own cases; with ``target`` where our best side is held to another one of ours."""
    return Side(f"trivium {label}", ".venv", "benchmarks.ours", case, target)


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


MNIST = "mlp:500 on MNIST, Adam"
SINGLE = {"torch_single": (".venv-torch", "PyTorch"), "jax_single": (".venv", "JAX")}


def _against_one(batch: int, target: float) -> tuple[Side, ...]:
    """The peers' one process with as many threads as we have workers."""
    return tuple(
        peer(venv, module, f"threads2-{batch}", f"{name}, one process, 2 threads", target)
        for module, (venv, name) in SINGLE.items()
    )


BENCHMARKS = (
    Benchmark(
        "mlp-two",
        f"{MNIST}, two processes of one thread, global batch 256",
        "more",
        [
            ours("mlp-two-allreduce", "allreduce"),
            ours("mlp-two-ps", "ps"),
            ours("mlp-two-allreduce-reproducible", "allreduce, reproducible"),
            ours("mlp-two-ps-reproducible", "ps, reproducible"),
        ],
        [
            peer(".venv-torch", "torch_ddp", "2x128", "PyTorch DDP (gloo), 128 each", 2.0),
            *_against_one(256, 0.9),
            ours("mlp-one-allreduce", "allreduce, one worker", 1.7),
            ours("mlp-single-256", "sequential, 2 threads", None),
            ours("mlp-single1-256", "sequential, 1 thread", None),
            peer(".venv-torch", "torch_single", "threads1-128", "PyTorch, 1 thread, batch 128", None),
        ],
    ),
    Benchmark(
        "mlp-two-1024",
        f"{MNIST}, two processes of one thread, global batch 1024",
        "more",
        [ours("mlp-two-allreduce-1024", "allreduce"), ours("mlp-two-ps-1024", "ps")],
        [*_against_one(1024, 1.0), ours("mlp-single-1024", "sequential, 2 threads", None)],
    ),
    Benchmark(
        "dense-lbfgs",
        "logistic regression, 500,000 × 54 float32, L-BFGS to within 1e-5 of the optimum",
        "less",
        [ours("dense-allreduce", "allreduce, 2 workers"), ours("dense-ps", "ps, 2 workers")],
        [
            peer(".venv", "sklearn_logistic", "dense-lbfgs", "scikit-learn lbfgs", 3.0),
            peer(".venv-spark", "spark_logistic", "dense-lbfgs", "Spark MLlib, local[2], warm", 20.0),
            ours("dense-sequential", "sequential, 2 threads", None),
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
                ("liblinear", 2.0),
                ("lbfgs", 2.0),
                ("newton-cg", 2.0),
                ("saga", 2.0),
                ("newton-cholesky", None),
            )
        ],
    ),
    Benchmark(
        "imdb-pass",
        "one pass of online learning over the reviews, from plain text, parse included",
        "less",
        [ours("imdb-pass", "sequential, Adam")],
        [peer(".venv-vw", "vw_imdb", "imdb-pass", "Vowpal Wabbit", 1.0)],
    ),
    Benchmark(
        "null-step",
        "a step that computes nothing, two workers (wanted: 25 us)",
        "less",
        [ours("null-allreduce", "allreduce"), ours("null-ps", "ps")],
        [
            peer(".venv", "roundtrip", way, f"bare round trip, {way}", None)
            for way in ("pipe", "eventfd", "zmq-ipc", "zmq-inproc")
        ],
    ),
    Benchmark(
        "large",
        "100 MB of parameters, two workers: bytes pushed and made visible, a second",
        "more",
        [ours("large-ps", "ps"), ours("large-allreduce", "allreduce")],
        [peer(".venv", "copyto", "copyto", "np.copyto of 100 MB, one core", 0.5)],
    ),
    Benchmark(
        "warm-start",
        "second fit of a session to its first step, mlp by ps (wanted: 0.05 s)",
        "less",
        [ours("warm-start", "second run of a session")],
    ),
)
