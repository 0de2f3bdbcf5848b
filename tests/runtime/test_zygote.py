import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest

from trivium.errors import LostError, ProgramError, UsageError
from trivium.runtime.zygote import Exited, Gone, Zygote, _readable

pytestmark = pytest.mark.slow
HERE = str(Path(__file__).parent)


def open_fds():
    found = set()
    for name in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            os.fstat(int(name.name))
            found.add(int(name.name))
    return found


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def next_event(zygote, timeout=10.0):
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        events = zygote.events()
        if events:
            return events
        _readable([zygote.fileno()], end - time.monotonic())
    raise AssertionError("no event")


def ended(child, timeout=10.0):
    done = child.wait(timeout)
    child.close()
    return done


@pytest.fixture
def path(monkeypatch):
    monkeypatch.syspath_prepend(HERE)


@pytest.fixture
def zygote(path):
    before = open_fds()
    made = Zygote.start(["numpy", "zygote_entries"], grace=0.2)
    yield made
    made.close()
    assert not alive(made.pid)
    assert open_fds() <= before  # of what others closed meanwhile, nothing is said


def piped(zygote, entry, payload=b"", **options):
    """Fork with a pipe; returns the child and the end to read from."""
    reads, writes = os.pipe()
    try:
        child = zygote.fork(f"zygote_entries:{entry}", payload, [writes], **options)
    finally:
        os.close(writes)
    return child, reads


def everything(fd):
    with os.fdopen(fd, "rb") as file:
        return file.read()


@pytest.mark.parametrize("payload", [b"", b"small", bytes(range(256)) * 4096], ids=["none", "small", "large"])
def test_a_child_gets_its_payload_and_descriptors_and_no_other(zygote, payload):
    first, first_reads = piped(zygote, "block")
    cpu = max(os.sched_getaffinity(0))
    child, reads = piped(zygote, "report", payload, cpu=cpu, name="second")
    facts = msgspec.msgpack.decode(everything(reads))
    assert facts["payload"] == payload
    assert facts["fds"] == [0, 1, 2, *facts["given"]]
    assert len(facts["given"]) == 1
    assert facts["cpus"] == [cpu]
    assert set(facts["env"].values()) == {"1"}
    assert facts["numpy"] and facts["threads"] == 1 and facts["null_input"]
    assert facts["session"] == zygote.pid != os.getsid(0)
    assert next_event(zygote) == [Exited(child.pid, 7, 0)]
    assert ended(child)
    assert alive(first.pid)
    first.kill()
    assert next_event(zygote) == [Exited(first.pid, 0, signal.SIGKILL)]
    first.kill()  # of no effect any more, and no error
    assert ended(first)
    os.close(first_reads)
    assert zygote.events() == []


def test_exit_codes_and_exceptions_are_told_apart(zygote):
    got = {}
    for entry in ("fails", "leaves", "absent"):
        child = zygote.fork(f"zygote_entries:{entry}")
        (event,) = next_event(zygote)
        got[entry] = (event.pid == child.pid, event.code, event.signal)
        assert ended(child)
    assert got == {"fails": (True, 1, 0), "leaves": (True, 3, 0), "absent": (True, 1, 0)}


def test_bad_requests_are_refused_before_anything_is_forked(zygote):
    with pytest.raises(UsageError, match="module:function"):
        zygote.fork("zygote_entries")
    with pytest.raises(UsageError, match="at most 250"):
        zygote.fork("zygote_entries:block", fds=[0] * 251)
    assert zygote.events() == []


def test_children_outlive_a_killed_zygote_and_can_be_killed_without_it(zygote):
    child, reads = piped(zygote, "block")
    assert os.read(reads, 2) == b"up"
    os.kill(zygote.pid, signal.SIGKILL)
    assert next_event(zygote) == [Gone()]
    assert not child.wait(0.0)
    with pytest.raises(LostError, match="zygote"):
        zygote.fork("zygote_entries:block")
    child.kill()
    assert ended(child)
    assert everything(reads) == b""


def test_closing_ends_children_by_force(path):
    zygote = Zygote.start(["zygote_entries"])
    children = [piped(zygote, "block") for _ in range(3)]
    for _, reads in children:
        assert os.read(reads, 2) == b"up"
    zygote.close()
    for child, reads in children:
        assert ended(child, 0.0), "closing waits for the children"
        os.close(reads)


def test_closing_with_news_unread_ends_as_asked(zygote):
    blocked, reads = piped(zygote, "block")
    child = zygote.fork("zygote_entries:leaves")
    assert child.wait(10.0)
    assert _readable([zygote.fileno()], 10.0)
    zygote.close(grace=0.0)
    assert zygote._process.returncode == 0
    assert ended(child, 0.0) and ended(blocked, 0.0)
    os.close(reads)


def test_when_the_parent_is_gone_everything_ends(path):
    script = (
        "import os, sys; from trivium.runtime.zygote import Zygote; r, w = os.pipe();"
        "z = Zygote.start(['zygote_entries'], grace=0.1); c = z.fork('zygote_entries:block', b'', [w]);"
        "assert os.read(r, 2) == b'up'; print(z.pid, c.pid, flush=True); os.kill(os.getpid(), 9)"
    )
    env = {**os.environ, "PYTHONPATH": HERE}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, env=env, timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    for pid in map(int, done.stdout.split()):
        try:
            fd = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        assert _readable([fd], 10.0), "still there"
        os.close(fd)


def test_a_module_that_cannot_be_imported_is_reported_with_its_traceback():
    with pytest.raises(ProgramError, match="no_such_module_here"):
        Zygote.start(["no_such_module_here"])


def test_a_zygote_that_takes_too_long_is_lost_and_ended(path):
    with pytest.raises(LostError, match=r"took more than 0\.001 s over preparing"):
        Zygote.start(["numpy"], timeout=0.001)
