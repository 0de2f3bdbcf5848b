"""What the children of the zygote's tests do."""

import contextlib
import os
import signal
import sys
import time
from pathlib import Path

import msgspec


def listing() -> set[int]:
    """Open descriptors, without the one that lists them."""
    found = set()
    for name in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            os.fstat(int(name.name))
            found.add(int(name.name))
    return found


def report(payload, fds):
    """Write what the child finds to its first descriptor."""
    facts = {
        "payload": payload,
        "fds": sorted(listing()),
        "given": fds,
        "cpus": sorted(os.sched_getaffinity(0)),
        "env": {name: os.environ.get(name, "") for name in ("OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")},
        "numpy": "numpy" in sys.modules,
        "threads": len(list(Path("/proc/self/task").iterdir())),
        "now": time.monotonic(),
        "session": os.getsid(0),
        "null_input": os.path.realpath("/proc/self/fd/0") == "/dev/null",
    }
    data = msgspec.msgpack.encode(facts)
    while data:
        data = data[os.write(fds[0], data) :]
    return 7


def block(payload, fds):
    """Say hello, then wait for a signal."""
    os.write(fds[0], b"up")
    signal.pause()


def fails(payload, fds):
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    raise RuntimeError("this is expected")


def leaves(payload, fds):
    raise SystemExit(3)
