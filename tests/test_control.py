"""Requests to a live run: a real socket, a real thread, and what is said where nobody hears."""

import contextlib
import json
import os
import socket
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from trivium.errors import PlanError, ProgramError, RunError, StorageError, UsageError
from trivium.running import control
from trivium.running.control import Control, ask, checked
from trivium.runtime.store import RunStore


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "r"
    folder.mkdir()
    return folder


@pytest.fixture
def long(tmp_path):
    """A run whose path is too long for a socket's address."""
    folder = tmp_path / ("deep" * 30) / "run"
    folder.mkdir(parents=True)
    return folder


def echo(request):
    return {"did": request}


def raw(path, data, *, close=False):
    """What comes back for bytes that are no request."""
    with socket.socket(socket.AF_UNIX) as link:
        link.settimeout(10)
        link.connect(os.fspath(path))
        link.sendall(data)
        if close:
            link.shutdown(socket.SHUT_WR)
        with link.makefile("rb") as file:
            return json.loads(file.readline() or b"null")


REQUESTS = [
    ({"do": "scale", "workers": 8, "nodes": 2}, {"do": "scale", "workers": 8, "nodes": 2}),
    ({"do": "scale", "workers": 8}, {"do": "scale", "workers": 8, "nodes": None}),
    ({"do": "switch", "consistency": "ssp:3"}, {"do": "switch", "consistency": "ssp:3"}),
    ({"do": "stop"}, {"do": "stop"}),
    ({"do": "status"}, {"do": "status"}),
]


@pytest.mark.parametrize(("request_", "heard"), REQUESTS)
def test_a_request_is_heard_whole_and_answered(run, request_, heard):
    with Control(run, echo):
        assert ask(run, request_) == {"did": heard}


WRONG = [
    ({"do": "scael", "workers": 2}, "unknown request 'scael' (did you mean 'scale'?)"),
    ({"workers": 2}, 'a request is an object such as {"do": "status"}'),
    ({"do": ["scale"]}, "a request is an object"),
    ([], "a request is an object"),
    ({"do": "scale"}, "request scale: Object missing required field `workers`"),
    ({"do": "scale", "workers": 0}, "workers must be 1 or more, got 0"),
    ({"do": "scale", "workers": 2, "nodes": 0}, "nodes must be 1 or more, got 0"),
    ({"do": "scale", "workers": "2"}, "Expected `int`, got `str`"),
    ({"do": "scale", "workers": True}, "Expected `int`, got `bool`"),
    ({"do": "scale", "workers": 1 << 40}, "workers must be 1 or more"),
    ({"do": "scale", "workers": 2, "wrokers": 3}, "unknown field `wrokers`"),
    ({"do": "switch", "consistency": "ssp"}, "ssp wants a whole number"),
    ({"do": "switch"}, "missing required field `consistency`"),
    ({"do": "stop", "now": True}, "unknown field `now`"),
]


@pytest.mark.parametrize(("request_", "says"), WRONG)
def test_what_is_no_request_is_refused_on_both_sides(run, request_, says):
    with pytest.raises(UsageError) as told:
        checked(request_)
    assert says in str(told.value)
    with Control(run, lambda _: pytest.fail("it was handled")) as one:
        answer = raw(one.path, json.dumps(request_).encode() + b"\n")
    assert answer["exit_code"] == 2
    assert says in answer["error"] or "a request is an object" in answer["error"]


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"not json\n", "a request is a line of JSON"),
        (b"\xff\xfe\n", "a request is a line of JSON"),
        (b"[1]\n", "a request is an object, got [1]"),
        (b'{"do": "stop"', "a request is a whole line"),
        (b"", "a request is a whole line"),
        (b'"' + b"x" * (1 << 17), "at most 65536 bytes"),
    ],
)
def test_bytes_that_are_no_line_of_json_are_refused(run, data, says):
    with Control(run, lambda _: pytest.fail("it was handled")) as one:
        try:
            answer = raw(one.path, data, close=True)
        except ConnectionError:  # it hung up on what was too long before all of it was sent
            assert len(data) > control.MOST
        else:
            assert says in answer["error"]


def test_one_bad_client_keeps_nobody_else_out(run, monkeypatch):
    monkeypatch.setattr(control, "HEAR", 0.05)
    with Control(run, echo) as one, socket.socket(socket.AF_UNIX) as silent:
        silent.connect(os.fspath(one.path))
        assert ask(run, {"do": "status"}) == {"did": {"do": "status"}}
        gone = socket.socket(socket.AF_UNIX)
        gone.connect(os.fspath(one.path))
        gone.close()
        assert ask(run, {"do": "stop"}) == {"did": {"do": "stop"}}


@pytest.mark.parametrize(
    ("error", "kind"),
    [(PlanError("no such plan"), UsageError), (ProgramError("it raised"), RunError), (ValueError("what"), RunError)],
)
def test_what_the_run_raises_is_raised_where_it_was_asked(run, caplog, error, kind):
    def handle(_):
        raise error

    with Control(run, handle), pytest.raises(kind, match=str(error)):
        ask(run, {"do": "stop"})
    assert bool(caplog.records) == (type(error) is ValueError)  # it is a mistake of ours


def test_an_answer_that_cannot_be_told_is_an_error(run):
    for answer, says in (({"it": object()}, "cannot be told"), ({"it": "x" * (1 << 17)}, "at most 65536 are")):
        with Control(run, lambda _, answer=answer: answer), pytest.raises(RunError, match=says):
            ask(run, {"do": "status"})


def test_only_the_user_may_ask(run, monkeypatch, caplog):
    with Control(run, echo) as one:
        assert stat.S_IMODE(one.path.stat().st_mode) == 0o600
        mine = os.geteuid()
        monkeypatch.setattr(control, "_peer", lambda _: mine + 1)
        with pytest.raises(UsageError, match=f"is driven by another user \\({mine + 1}\\); ask as that user"):
            ask(run, {"do": "status"})
        with contextlib.suppress(ConnectionError):  # it hangs up on what it has not read
            assert raw(one.path, b'{"do": "status"}\n') is None
    assert "was not heard" in caplog.text


def test_the_peer_is_who_the_kernel_says():
    here, there = socket.socketpair()
    with here, there:
        assert control._peer(here) == control._peer(there) == os.geteuid()


def test_a_long_path_has_its_socket_elsewhere(long):
    with Control(long, echo) as one:
        assert len(os.fsencode(one.path)) <= control.LONGEST < len(os.fsencode(long / control.SOCKET))
        assert (long / "control").read_text().strip() == str(one.path)
        assert stat.S_IMODE(one.path.parent.stat().st_mode) == 0o700
        assert ask(long, {"do": "status"}) == {"did": {"do": "status"}}
        folder = one.path.parent
    assert not folder.exists()
    assert list(long.iterdir()) == []


def test_where_no_socket_can_be_made_it_says_so(long, monkeypatch):
    monkeypatch.setattr(control, "_folders", lambda: ("/nowhere",))
    with pytest.raises(StorageError, match=r"no socket can be made for .*No such file"):
        Control(long, echo)
    assert list(long.iterdir()) == []


def test_nothing_is_left_behind(run):
    with Control(run, echo):
        assert [path.name for path in run.iterdir()] == ["control.sock"]
    assert list(run.iterdir()) == []
    assert not any(thread.name == "control" for thread in threading.enumerate())
    with pytest.raises(UsageError, match=r"no run is live in .*; `trivium runs` says which are running"):
        ask(run, {"do": "status"})


def test_it_may_be_closed_by_its_own_handler_and_twice(run):
    ended = threading.Event()

    def handle(request):
        one.close()
        ended.set()
        return request

    one = Control(run, handle)
    assert ask(run, {"do": "stop"}) == {"do": "stop"}
    assert ended.wait(10)
    one.close()
    assert list(run.iterdir()) == []


def test_a_folder_that_is_not_there_is_no_run(tmp_path):
    with pytest.raises(UsageError, match=r"gone: no such run; `trivium runs` lists"):
        ask(tmp_path / "gone", {"do": "status"})


KILLED = """
import os, sys
from pathlib import Path
from trivium.running.control import Control
control = Control(Path(sys.argv[1]), lambda request: {})
print(control.path, flush=True)
os.kill(os.getpid(), 9)
"""


@pytest.mark.parametrize("kind", ["run", "long"])
def test_a_killed_run_is_told_from_a_live_one_and_its_socket_is_taken_over(kind, request):
    run = request.getfixturevalue(kind)
    dead = subprocess.run([sys.executable, "-c", KILLED, run], capture_output=True, text=True, timeout=60, check=False)
    left = dead.stdout.strip()
    assert Path(left).is_socket()
    with pytest.raises(UsageError, match=r"its process died and left its socket; .* `trivium resume .*` goes on"):
        ask(run, {"do": "status"})
    with Control(run, echo) as one:
        assert ask(run, {"do": "stop"}) == {"did": {"do": "stop"}}
        assert kind == "run" or str(one.path) != left
        assert kind == "run" or not Path(left).exists()
    assert list(run.iterdir()) == []


def test_a_live_run_that_hears_nothing_is_named(run):
    store = RunStore(run, 1)
    store.lock()
    try:
        with pytest.raises(UsageError, match=f"is driven by process {os.getpid()}, which hears no requests"):
            ask(run, {"do": "status"})
    finally:
        store.unlock()


def test_a_run_that_is_busy_is_waited_for_no_longer_than_was_said(run):
    go_on = threading.Event()
    with Control(run, lambda _: {"waited": go_on.wait(30)}):
        with pytest.raises(RunError, match=r"did not answer within 0.05 s; it may still do what was asked"):
            ask(run, {"do": "status"}, timeout=0.05)
        go_on.set()
        assert ask(run, {"do": "status"}) == {"waited": True}


def test_a_run_that_ends_meanwhile_says_so(run):
    def handle(_):
        raise SystemExit  # as a thread ends whose process is going down

    threading.excepthook, before = (lambda _: None), threading.excepthook
    try:
        with contextlib.closing(Control(run, handle)), pytest.raises(RunError, match="ended before it answered"):
            ask(run, {"do": "status"})
    finally:
        threading.excepthook = before


def test_a_file_in_the_place_of_the_socket_is_left_alone(run):
    (run / "control.sock").write_text("mine")
    with Control(run, echo) as one:
        assert one.path.parent != run
        assert ask(run, {"do": "stop"}) == {"did": {"do": "stop"}}
    assert (run / "control.sock").read_text() == "mine"


def test_a_pointer_to_somewhere_else_removes_nothing(run, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "control.sock").write_text("not ours")
    (run / "control").write_text(f"{other / 'control.sock'}\n")
    with Control(run, echo):
        assert (other / "control.sock").read_text() == "not ours"
