"""Each protocol under an adversary: any message next, doubled or dropped, any process slow, stopped or killed.

The simulated host draws delays; here Hypothesis chooses every step, and shrinks what fails to the fewest of them.
"""

from collections import deque

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from trivium.core.holder import ShardState
from trivium.core.membership import Driver
from trivium.core.pacing import Agenda
from trivium.core.role import (
    Compute,
    ComputeFinished,
    MessageReceived,
    PeerJoined,
    PeerLost,
    Persist,
    Persisted,
    Read,
    ReadReady,
    Retire,
    Send,
    SetTimer,
    Started,
    Stop,
    StopRequested,
    TimerFired,
)
from trivium.core.runner import Runner
from trivium.errors import ProtocolError
from trivium.runtime.base import as_asked
from trivium.testing.counting import CountingMemory, CountingPlane, CountingStore, expected
from trivium.testing.scenarios import DRIVER, Scenario, member, pace, topology

index = st.integers(0, 30)
MOST_ROUNDS = 3000


class Process:
    """A role, its plane, and what waits for it: its own work in order, its timers."""

    def __init__(self, role, plane):
        self.role, self.plane = role, plane
        self.alive, self.paused = True, False
        self.work = deque()
        self.timers = set()
        self.held = {}  # what each record that waits for the disk is written from


class Protocol(RuleBasedStateMachine):
    design = "apart"

    @initialize(
        workers=st.integers(1, 3),
        shards=st.integers(1, 2),
        clocks=st.integers(1, 6),
        elementwise=st.booleans(),
        look_every=st.sampled_from([0, 2]),
        reproducible=st.booleans(),
        head_start=st.integers(0, 40),
    )
    def start(self, head_start, **sizes):
        self.scenario = Scenario(design=self.design, lanes=4, checkpoint_every=1.0, **sizes)
        members, names = topology(self.scenario)
        self.memory = CountingMemory(1 if self.design == "sequential" else self.scenario.shards, 4)
        self.store = CountingStore(self.memory)
        agenda = Agenda(pace(self.scenario))
        self.driver = Driver(
            DRIVER,
            members,
            lanes=4,
            shards=self.memory.shards,
            agenda=agenda,
            retry=1.0,
            patience=5.0,
            names=names,
            checkpoint_every=1.0,
        )
        self.processes = {DRIVER: Process(self.driver, None)}
        for address in members.all:
            role = member(self.scenario, address, members)
            self.processes[address] = Process(role, CountingPlane(self.memory))
        self.flying, self.news = [], deque()
        self.stop = None
        for address in members.all:
            self.feed(address, Started())
        self.feed(DRIVER, Started())
        for address in members.all:
            self.feed(DRIVER, PeerJoined(address))
        for _ in range(head_start):
            self.quiet_round()

    # -- a host in small ----------------------------------------------------------------------------------------------
    def feed(self, address, event):
        process = self.processes[address]
        if not process.alive or self.stop is not None:
            return
        for command in process.role.handle(event, 0.0):
            self.carry_out(address, process, command)
        process.role.validate()

    def carry_out(self, address, process, command):
        match command:
            case Send(to, message):
                self.flying.append((to, MessageReceived(address, message)))
            case Compute(work):
                process.plane.begin(work)
                process.work.append(command)
            case Read(clock):
                process.plane.read(clock)
                process.work.append(ReadReady(clock))
            case Persist(record):
                process.held[record] = as_asked(record, process.plane)
                process.work.append(command)
            case SetTimer(name):
                process.timers.add(name)
            case Retire(peer):
                self.kill_one(peer)
            case Stop():
                process.alive = False
                if address == DRIVER:
                    self.stop = command
                else:
                    self.news.append(PeerLost(address, "left"))

    def do_next(self, address):
        """The next of what a process has to do itself."""
        process = self.processes[address]
        if not process.work or process.paused or not process.alive:
            return
        match process.work.popleft():
            case Compute(work):
                event = ComputeFinished(work, process.plane.carry_out(work))
            case Persist(record):
                self.store.write(record, process.held.pop(record))
                event = Persisted(record)
            case ready:
                event = ready
        self.feed(address, event)

    def deliver(self, at):
        to, event = self.flying[at]
        if not self.processes[to].paused:
            del self.flying[at]
            self.feed(to, event)

    def kill_one(self, address):
        process = self.processes[address]
        process.alive = False
        process.plane.died()
        for todo in process.work:
            if isinstance(todo, Persist):
                self.store.torn(todo.record)
        self.news.append(PeerLost(address, "SIGKILL"))

    # -- what may happen ----------------------------------------------------------------------------------------------
    @precondition(lambda self: self.flying)
    @rule(at=index)
    def deliver_any(self, at):
        self.deliver(at % len(self.flying))

    @rule(rounds=st.integers(1, 4))
    def go_on(self, rounds):
        for _ in range(rounds):
            self.quiet_round()

    @precondition(lambda self: self.flying)
    @rule(at=index)
    def deliver_all_but_one(self, at):
        kept = self.flying.pop(at % len(self.flying))
        for _ in range(len(self.flying)):
            self.deliver(0)
        self.flying.append(kept)

    @precondition(lambda self: self.flying)
    @rule(at=index)
    def double(self, at):
        self.flying.append(self.flying[at % len(self.flying)])

    @precondition(lambda self: self.flying)
    @rule(at=index)
    def drop(self, at):
        del self.flying[at % len(self.flying)]

    @rule(who=index)
    def work(self, who):
        self.do_next(list(self.processes)[who % len(self.processes)])

    @rule()
    def all_work(self):
        for address in self.processes:
            self.do_next(address)

    @rule(who=index)
    def retry(self, who):
        address = list(self.processes)[who % len(self.processes)]
        if not self.processes[address].paused:
            self.feed(address, TimerFired("retry"))

    @precondition(lambda self: "checkpoint" in self.processes[DRIVER].timers)
    @rule()
    def checkpoint(self):
        self.processes[DRIVER].timers.discard("checkpoint")
        self.feed(DRIVER, TimerFired("checkpoint"))

    @precondition(lambda self: self.driver.phase not in {"joining", "leaving"} and not self.driver.agenda.halted)
    @rule()
    def a_person_stops_it(self):
        self.feed(DRIVER, StopRequested("a person"))

    @rule(who=index)
    def kill(self, who):
        """Never the last that runs lanes or holds shards."""
        alive = [a for a, p in self.processes.items() if p.alive and a != DRIVER]
        victim = alive[who % len(alive)] if alive else None
        left = {address for address in alive if address != victim}
        members, _names = topology(self.scenario)
        if left & set(members.workers) and left & set(members.holders):
            self.kill_one(victim)

    @precondition(lambda self: self.news)
    @rule()
    def tell_the_driver(self):
        self.feed(DRIVER, self.news.popleft())

    @rule(who=index)
    def pause_or_continue(self, who):
        process = list(self.processes.values())[who % len(self.processes)]
        process.paused = not process.paused

    # -- the end ------------------------------------------------------------------------------------------------------
    def quiet_round(self):
        here, self.flying = self.flying, []
        for to, event in here:
            if self.processes[to].paused:
                self.flying.append((to, event))
            else:
                self.feed(to, event)
        while self.news:
            self.feed(DRIVER, self.news.popleft())
        worked = [address for address, process in self.processes.items() if process.work and process.alive]
        for address in worked:
            self.do_next(address)
        if not worked and not self.flying:
            for address, process in self.processes.items():
                if not process.paused:
                    self.feed(address, TimerFired("retry"))

    def teardown(self):
        if not hasattr(self, "processes"):
            return
        for process in self.processes.values():
            process.paused = False
        for _ in range(MOST_ROUNDS):
            if self.stop is not None:
                break
            self.quiet_round()
        assert self.stop is not None, f"hangs in {self.driver.phase}, waits for {self.driver.waiting()}"
        assert not self.stop.error, self.stop
        self.check_result()

    def check_result(self):
        clock = self.driver.agenda.clock
        if not self.driver.agenda.halted:
            assert clock == self.scenario.clocks
        shards = self.memory.shards
        assert [held[clock] for held in self.memory.versions] == list(expected(shards, 4, clock))
        assert all(max(held) == clock for held in self.memory.versions)
        assert self.store.manifests[-1].clock == clock


class ParameterServer(Protocol):
    design = "apart"


class Allreduce(Protocol):
    design = "allreduce"


class Sequential(Protocol):
    design = "sequential"


UNTIL_FOUND = 5000  # a planted bug shows in one of some 300 examples, and the search ends there


def explore(machine, examples, **changes):
    chosen = {"max_examples": examples, "stateful_step_count": 60, "deadline": None, "database": None} | changes
    run_state_machine_as_test(machine, settings=settings(suppress_health_check=list(HealthCheck), **chosen))


@pytest.mark.parametrize(("machine", "examples"), [(ParameterServer, 150), (Allreduce, 100), (Sequential, 20)])
def test_protocol(machine, examples):
    explore(machine, examples)


def test_the_machine_finds_that_lost_pushes_are_not_sent_again(monkeypatch):
    monkeypatch.setattr(Runner, "_resend", lambda self, now: [])
    with pytest.raises(AssertionError, match="hangs in acting"):
        explore(ParameterServer, UNTIL_FOUND, phases=(Phase.generate,))


def test_the_machine_finds_that_a_lane_is_counted_twice(monkeypatch):
    monkeypatch.setattr(ShardState, "have", property(lambda self: 0, lambda self, mask: None))
    with pytest.raises((AssertionError, ProtocolError)):
        explore(ParameterServer, UNTIL_FOUND, phases=(Phase.generate,))
