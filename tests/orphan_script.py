"""Run as a script, without a main guard: trains until it is killed in the middle, or interrupted in ``result``.

Arguments: run directory, "hang" (the driver stops in its tracks once a clock is committed) or "wait" or "end", and a
design with its number of workers, as in "ps 2".
"""

import sys
from pathlib import Path

from trivium.data.read import read
from trivium.plan import Plan, Stopping
from trivium.program.models import model
from trivium.program.optimizers import optimizer
from trivium.record import SilentObserver
from trivium.running.job import Job
from trivium.running.session import begin

DATA = "sklearn:digits"
design, workers = sys.argv[3], int(sys.argv[4])
shards = {} if design == "sequential" else {"workers": workers, "shards": min(2, workers)}
epochs = 150 if sys.argv[2] in ("hang", "end") else 100_000


class Tells(SilentObserver):
    """Prints the processes once training is on its way."""

    told = False

    def progress(self, progress):
        if progress.clock < 1 or self.told:
            return
        self.told = True
        print(*live.pids.values(), flush=True)  # noqa: T201  how it talks to the test
        if sys.argv[2] == "hang":
            sys.stdin.read()


live = begin(
    Job(
        model("mlp:64"),
        read(DATA),
        Plan(design, reproducible=True, orphan_timeout=2.0, **shards),
        Path(sys.argv[1]),
        valid=0.2,
        stopping=Stopping(epochs=epochs, patience=50),
        optimizer=optimizer("adam"),
        sources={"model": "mlp:64"},
    ),
    Tells(),
)
print(live.result().params_sha256, flush=True)  # noqa: T201  likewise
