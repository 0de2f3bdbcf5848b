import os
import signal

import pytest

from trivium.cli.follow import follow
from trivium.cli.signals import Interrupted, Signals
from trivium.errors import LostError, RunError, StoppedError, StorageError
from trivium.observe.progress import QuietDisplay
from trivium.testing.records import a_record


class Live:
    """Hears, or is deaf to, ``stop``; ``at_wait`` happens in each wait."""

    def __init__(self, at_wait, deaf=False):
        self.at_wait, self.deaf = at_wait, deaf
        self.waits, self.stopped, self.killed = 0, [], False

    def wait(self, timeout=None):
        self.waits += 1
        self.at_wait(self.waits)
        return a_record() if (self.stopped and not self.deaf) else None

    def stop(self, reason):
        self.stopped.append(reason)

    def kill(self):
        self.killed = True


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_first_signal_asks_for_an_orderly_end(signum):
    live = Live(lambda n: os.kill(os.getpid(), signum) if n == 2 else None)
    with Signals() as signals:
        ended = follow(live, signals, QuietDisplay())
    assert live.stopped == ["interrupted"]
    assert not live.killed
    assert ended.signum == signum


def test_the_second_signal_kills():
    live = Live(lambda n: os.kill(os.getpid(), signal.SIGINT) if n in (1, 3) else None, deaf=True)
    with Signals() as signals, pytest.raises(Interrupted) as caught:
        follow(live, signals, QuietDisplay())
    assert live.killed
    assert live.waits == 3
    assert caught.value.exit_code == 130


def test_a_run_that_does_not_end_in_time_is_killed():
    clock = iter(range(100))
    live = Live(lambda n: os.kill(os.getpid(), signal.SIGTERM) if n == 1 else None, deaf=True)
    with Signals() as signals, pytest.raises(Interrupted) as caught:
        follow(live, signals, QuietDisplay(), now=lambda: next(clock))
    assert live.killed
    assert caught.value.exit_code == 143
    assert live.waits < 12


@pytest.mark.parametrize("kind", [StorageError, LostError])
def test_a_run_that_fails_after_a_signal_keeps_its_error(kind):
    def at_wait(n):
        if n == 1:
            os.kill(os.getpid(), signal.SIGINT)
        if n == 3:
            raise kind("the last checkpoint was not written")

    with Signals() as signals, pytest.raises(kind, match="the last checkpoint"):
        follow(Live(at_wait, deaf=True), signals, QuietDisplay())


def test_a_run_that_fails_for_being_stopped_has_the_exit_code_of_the_signal():
    def at_wait(n):
        if n == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        if n == 3:
            raise StoppedError("interrupted before the start")

    with Signals() as signals, pytest.raises(Interrupted) as caught:
        follow(Live(at_wait, deaf=True), signals, QuietDisplay())
    assert caught.value.exit_code == 143


def test_a_run_that_fails_by_itself_keeps_its_error():
    def at_wait(_):
        raise RunError("no worker left")

    with Signals() as signals, pytest.raises(RunError, match="no worker left"):
        follow(Live(at_wait), signals, QuietDisplay())


def test_a_script_whose_shell_ignores_ctrl_c_can_still_be_told():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with Signals() as signals:
            signals.defer()
            os.kill(os.getpid(), signal.SIGINT)
            assert signals.count == 1
    finally:
        signal.signal(signal.SIGINT, before)


def test_before_there_is_a_run_a_signal_ends_at_once():
    with pytest.raises(Interrupted), Signals():
        os.kill(os.getpid(), signal.SIGINT)


def test_handlers_are_put_back():
    before = signal.getsignal(signal.SIGTERM)
    with Signals():
        assert signal.getsignal(signal.SIGTERM) is not before
    assert signal.getsignal(signal.SIGTERM) is before


def test_an_ignored_hang_up_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Signals() as signals:
            os.kill(os.getpid(), signal.SIGHUP)
            assert signals.count == 0
    finally:
        signal.signal(signal.SIGHUP, before)
