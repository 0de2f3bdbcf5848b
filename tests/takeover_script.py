"""Run as a script: trains on several nodes, or takes such a run over, and says who its processes are once it is on.

Arguments: "begin" or "resume", run directory, seconds that orphans wait, number of nodes.
"""

import sys
from pathlib import Path

from tests.watching import nodes_job
from trivium.record import SilentObserver
from trivium.running.session import begin, resume


class Tells(SilentObserver):
    """Prints the processes once a few clocks were committed here, and the digest in the end."""

    began, told = -1, False

    def progress(self, progress):
        self.began = progress.clock if self.began < 0 else self.began
        if progress.clock < self.began + 5 or self.told:
            return
        self.told = True
        print(*live.pids.values(), flush=True)  # noqa: T201  how it talks to the test


if __name__ == "__main__":
    kind, run, wait, nodes = sys.argv[1], Path(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])
    job = nodes_job(run, nodes=nodes, orphan_timeout=wait)
    live = begin(job, Tells()) if kind == "begin" else resume(run, Tells(), job)
    print(live.result().params_sha256, flush=True)  # noqa: T201  likewise
