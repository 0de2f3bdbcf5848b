"""How fast LIBSVM text is read: this reader with one and two threads beside scikit-learn's, medians of five.

    python benchmarks/libsvm.py [FILE]

FILE is LIBSVM text, plain, gzip or xz; without it, rows like those of film reviews are made up: 140 word counts each.
It is unpacked to a temporary file first, so that parsing is measured, from a warm page cache.
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from sklearn.datasets import load_svmlight_file

from trivium.data.read import read_libsvm
from trivium.data.sources.stream import ByteStream

REPEATS = 5


def made_up(rows: int = 25_000, words: int = 140, columns: int = 79_769) -> bytes:
    rng = np.random.default_rng(0)
    lines = []
    for label in rng.choice(["-1", "1"], rows):
        index = np.unique((columns ** rng.random(words)).astype(int))
        counts = rng.geometric(0.7, len(index))
        lines.append(f"{label} " + " ".join(f"{i}:{c}" for i, c in zip(index, counts, strict=True)))
    return "\n".join(lines).encode() + b"\n"


def decimals(rows: int = 20_000, columns: int = 60) -> bytes:
    x = np.random.default_rng(1).normal(size=(rows, columns))
    return "".join("1 " + " ".join(f"{j + 1}:{v!r}" for j, v in enumerate(row)) + "\n" for row in x.tolist()).encode()


def median_seconds(call: Callable[[], object]) -> float:
    call()  # compiles, and fills the page cache
    seconds = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def table(title: str, path: Path, size: int) -> None:
    readers: dict[str, Callable[[], object]] = {
        "trivium, 1 thread": lambda: read_libsvm(path, threads=1),
        "trivium, 2 threads": lambda: read_libsvm(path, threads=2),
        "scikit-learn": lambda: load_svmlight_file(str(path), dtype=np.float32),
    }
    print(f"\n{title}: {size / 1e6:.1f} MB, median of {REPEATS}")
    print(f"{'reader':<20}{'seconds':>10}{'MB/s':>10}")
    for name, call in readers.items():
        seconds = median_seconds(call)
        print(f"{name:<20}{seconds:>10.3f}{size / 1e6 / seconds:>10.0f}")


def main() -> None:
    source = Path(sys.argv[1]) if len(sys.argv) > 1 else None
    texts = {"word counts": b"".join(ByteStream(source)) if source else made_up(), "17-digit decimals": decimals()}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "plain"
        for title, text in texts.items():
            path.write_bytes(text)
            table(source.name if source and title == "word counts" else title, path, len(text))


if __name__ == "__main__":
    main()
