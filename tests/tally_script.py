"""Run as a script: counts rows on two nodes until it is killed. Arguments: run directory, consistency.

Prints the process numbers of its members once a checkpoint can be gone on from.
"""

import sys
import threading
from pathlib import Path

from trivium.record import SilentObserver
from trivium.running.session import begin
from trivium.testing.tally import tally_job


class Tells(SilentObserver):
    """Says when the run is on its way, once something is saved."""

    def __init__(self, run):
        self.run, self.ready = run, threading.Event()

    def progress(self, progress):
        if progress.clock > 0 and any(self.run.glob("checkpoints/*/manifest.json")):
            self.ready.set()


if __name__ == "__main__":
    run = Path(sys.argv[1])
    tells = Tells(run)
    live = begin(tally_job(run, sys.argv[2], orphan_timeout=2.0, checkpoint_every=0.2), tells)
    tells.ready.wait(60.0)
    print(*live.pids.values(), flush=True)  # noqa: T201  how it talks to the test
    live.result()
