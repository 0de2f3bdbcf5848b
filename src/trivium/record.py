"""What a run tells of itself: while it goes on (``Progress``) and when it is over (``Record``)."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

__all__ = ["KINDS", "Carried", "Observer", "ProcessTimes", "Progress", "Record", "SilentObserver"]

KINDS = ("load", "read", "compute", "encode", "send", "wait", "apply", "idle")


@dataclass(frozen=True)
class ProcessTimes:
    """Where one process's wall time went, in seconds; ``waited_for`` splits ``wait`` by culprit (process name).

    The kinds of ``KINDS`` sum to ``wall``. ``bytes_pushed`` and ``bytes_pulled`` count bulk data only. ``lags[k]``: of
    a parameter server's worker, lanes' reads that were k clocks stale (the last: that many or more).
    """

    name: str
    wall: float
    seconds: dict[str, float]
    waited_for: dict[str, float] = field(default_factory=dict)
    peak_rss_bytes: int = 0
    bytes_pushed: int = 0
    bytes_pulled: int = 0
    lags: tuple[int, ...] = ()


@dataclass(frozen=True)
class Carried:
    """What the links between nodes carried.

    ``sent`` and ``plain``: bytes of bulk by the kind of its message, as they went, and as they would have gone without
    ``filters``. ``nbytes``: all that went, words and rows included. ``link_seconds``: CPU time of the threads that
    encrypt, decrypt and move bytes, a part of ``cpu_seconds``, which is that of all processes.
    """

    sent: dict[str, int]
    plain: dict[str, int]
    nbytes: int
    link_seconds: float
    cpu_seconds: float
    filters: str = ""


@dataclass(frozen=True)
class Progress:
    """A moment of a run. ``busy`` is each worker's share of time in read + compute since the last one."""

    seconds: float
    clock: int
    epoch: float
    iterations: int
    rows: int
    rows_per_second: float
    loss: float | None
    valid_loss: float | None
    valid_accuracy: float | None
    busy: tuple[float, ...]
    seconds_left: float | None
    suspects: tuple[str, ...] = ()


@dataclass(frozen=True)
class Record:
    """The result of a run; ``as_json`` is the object that ``trivium train --json`` prints last.

    Of a run that was resumed, times and ``samples_per_second`` are those of its last life, clocks and epochs of all.

    ``seconds`` and ``samples_per_second`` exclude start, compile, load and evaluation. ``objective`` is the penalised
    mean loss over all training rows in float64; ``loss`` the same without penalty.

    Of a parameter server: ``lags`` are the reads of all workers by their staleness, ``staleness`` its greatest and its
    mean, ``dropped`` the deltas that a clock did without, ``carried`` what went between nodes.
    """

    run: str
    model: str
    design: str
    engine: str
    nodes: int
    workers: int
    lanes: int
    consistency: str
    rows: int
    epochs: float
    iterations: int
    clocks: int
    seconds: float
    startup_seconds: float
    compile_seconds: float
    load_seconds: float
    evaluate_seconds: float
    samples_per_second: float
    objective: float
    loss: float
    train_accuracy: float | None
    valid_loss: float | None
    valid_accuracy: float | None
    test_loss: float | None
    test_accuracy: float | None
    stopped_by: str
    best_clock: int | None
    breakdown: dict[str, float]
    bytes: dict[str, int]
    staleness: dict[str, float]
    peak_rss_bytes: int
    params_sha256: str
    reproducible: bool
    threads: int
    processes: tuple[ProcessTimes, ...] = ()
    history: tuple[dict[str, float], ...] = ()
    notices: tuple[str, ...] = ()
    lags: tuple[int, ...] = ()
    dropped: int = 0
    carried: Carried | None = None

    def as_json(self) -> dict[str, Any]:
        """Plain dict; ``breakdown`` is the share of each kind over the workers' wall time."""
        return asdict(self)


class Observer(Protocol):
    """Told what happens. Called from the driver's thread; what it raises is logged, never passed on."""

    def stage(self, name: str, seconds: float | None = None) -> None:
        """A stage began (``seconds`` None) or ended: load, start, compile, train, evaluate, save."""

    def progress(self, progress: Progress) -> None:
        """About five times a second while training."""

    def notice(self, text: str) -> None:
        """Something the person should know: a process died, lanes moved, a suspect with its stack."""


class SilentObserver:
    """Hears nothing."""

    def stage(self, name: str, seconds: float | None = None) -> None:
        """Ignore."""

    def progress(self, progress: Progress) -> None:
        """Ignore."""

    def notice(self, text: str) -> None:
        """Ignore."""
