"""What one core copies: the yardstick for moving parameters. Run: ``.venv/bin/python -m benchmarks.peers.copyto``"""

from __future__ import annotations

import statistics

import numpy as np

from benchmarks import measure

SIZE = 25 << 20


def main() -> None:
    """Bytes a second of ``np.copyto`` over 100 MB, median of nine."""
    measure.pin(1)
    source, target = np.ones(SIZE, np.float32), np.zeros(SIZE, np.float32)
    found = [source.nbytes / measure.seconds(lambda: np.copyto(target, source)) for _ in range(9)]
    measure.emit("numpy", np.__version__, {"copyto": {"value": statistics.median(found), "unit": "bytes/s"}})


if __name__ == "__main__":
    main()
