"""Run shared-memory algorithms in every order, with a crash at every step.

The algorithms of ``runtime.mailbox`` and ``runtime.versions`` are step functions over a few primitives. Here the same
source is bound to a model memory, and all interleavings of a few threads are searched, depth first.

Theory
------
* A thread is deterministic, so its local state is a function of what its primitives returned: its *history*. A state of
  the system is (memory, history of each thread, who sleeps, who is dead). States seen once are not entered again.
* A thread is a list of *operations*. Between two of them only a carried value survives, and the history starts anew.
* What a thread does next is found by running its operation with the history as a script until the script ends; one run
  for each distinct history, whatever the others do. Nothing is copied, and no thread or coroutine is needed.
* A step that no other thread's remaining operations can see or disturb commutes with all of theirs: it is taken at
  once, alone; likewise threads that share no word with the rest from here on go first (persistent sets: Godefroid,
  *Partial-order methods*, 1996), unless that closes a cycle. Which words the operations touch is not declared but
  learnt: the search is repeated until it meets no access that it had not reckoned with.
* A futex is exact: a wait returns at once if the value differs, else the thread sleeps until a wake that chooses it.
  Timeouts never pass, so a lost wake-up is a thread asleep at the end.
* With ``tso`` plain writes pass through a store buffer of their thread, emptied in order at any later moment; atomic
  steps wait until it is empty (x86-64: Sewell et al., *x86-TSO*, 2010). ``weak`` names atomics to be buffered as well,
  to show what fences are for.

What it does not do: weaker memories than TSO (on aarch64 the algorithms rest on sequentially consistent words that
publish plain data, which C11 grants on any machine), and fairness.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import FunctionType, SimpleNamespace
from typing import Any

from trivium.errors import TriviumError

__all__ = ["Again", "End", "Explorer", "Found", "Report", "Thread"]

_LOOK = 1000  # transitions after which a search that met new accesses starts anew
DEAD = -1  # odd, as the codes of sleepers are
_LOW = 0xFFFFFFFF
Operation = Callable[[Any, Any], Any]
State = tuple[tuple[int, ...], tuple[int, ...], int, tuple[tuple[tuple[int, int], ...], ...]]
Step = tuple[str, int, int, int]  # kind, place, two arguments
Label = tuple[int, Step, object]  # thread, step, result
_DIES: Step = ("dies", -1, 0, 0)
_END: Label = (-1, ("end", -1, 0, 0), 0)


@dataclass(frozen=True)
class Again:
    """What an operation returns to be run once more with another carried value."""

    carried: Any


@dataclass(frozen=True)
class Thread:
    """Operations ``(steps, carried) -> carried`` run one after another; carried values are hashable.

    ``steps`` holds the bound step functions, ``words`` and ``crashed`` (waits for a crash, returns whose). ``mortal``:
    may crash. ``patient``: may be left waiting when all others are done.
    """

    name: str
    operations: tuple[Operation, ...]
    mortal: bool = True
    patient: bool = False


@dataclass(frozen=True)
class End:
    """A state from which nothing moves: ``word(i)``; each thread is ``done``, ``asleep``, ``blocked`` or ``dead``."""

    word: Callable[[int], int]
    status: Mapping[str, str]
    carried: Mapping[str, Any]


@dataclass(frozen=True)
class Report:
    """How much was searched: distinct states, transitions, ends, and runs until the footprints were complete."""

    states: int
    transitions: int
    ends: int
    passes: int


class Found(TriviumError):  # noqa: N818 - a finding, not a failure of the explorer
    """A violation, with the steps that lead there."""

    def __init__(self, message: str, trace: Sequence[str]) -> None:
        super().__init__("\n".join([message, *(f"  {line}" for line in trace)]))
        self.trace = tuple(trace)


class _Pause(BaseException):
    """The script has ended: this is the next step."""

    def __init__(self, kind: str, word: int, a: int, b: int) -> None:
        super().__init__(kind)
        self.step = (kind, word, a, b)


class _Tape:
    """The primitives of one thread: replay a history, then pause."""

    def __init__(self) -> None:
        self.history: tuple[int, ...] = ()
        self.at = 0

    def step(self, kind: str, word: int, a: int = 0, b: int = 0) -> int:
        if self.at < len(self.history):
            self.at += 1
            return self.history[self.at - 1]
        raise _Pause(kind, word, a, b)

    def __getitem__(self, word: int) -> int:
        return self.step("peek", word)

    def __setitem__(self, word: int, value: int) -> None:
        self.step("poke", word, value)

    def copy_in(self, words: Any, at: int, source: Any, offset: int, count: int) -> None:
        for done in range(0, count, 8):
            chunk = bytes(source[offset + done : offset + min(done + 8, count)])
            words[(at + done) // 8] = int.from_bytes(chunk, "little")

    def copy_out(self, words: Any, at: int, target: Any, offset: int, count: int) -> None:
        for done in range(0, count, 8):
            mask = (1 << 8 * min(8, count - done)) - 1
            target[(offset + done) // 8] = words[(at + done) // 8] & mask

    def primitives(self) -> dict[str, Any]:
        step = self.step
        return {
            "load": lambda _, i: step("load", i),
            "store": lambda _, i, v: step("store", i, v),
            "fetch_add": lambda _, i, v: step("add", i, v),
            "exchange_if": lambda _, i, e, v: step("exchange", i, e, v),
            "futex_wait": lambda _, i, e, _t: step("wait", i, e),
            "futex_wake": lambda _, i, n: step("wake", i, n),
            "copy_in": self.copy_in,
            "copy_out": self.copy_out,
            "yield_cpu": lambda: None,
            "monotonic_ns": lambda: 0,
        }


@dataclass
class _Node:
    """One local state of a thread: what it does next, and where each result leads."""

    thread: int
    index: int
    carried: Any
    history: tuple[int, ...]
    step: Step | None = None
    error: str = ""
    after: dict[int, int] = field(default_factory=dict)


_WRITES = frozenset({"store", "poke", "add", "exchange"})
_READS = frozenset({"load", "peek", "add", "exchange"})


class Explorer:
    """Searches all runs of ``threads``.

    ``steps`` are the step functions (compiled or not; a later one replaces an earlier one of the same name, and they
    call each other by name); ``constants`` replace globals of theirs; ``memory`` the words that are not 0 at first;
    ``crashes`` how many threads may die in one run; ``check`` is called with each ``End`` and returns what is wrong
    with it, or nothing; ``limit`` bounds the states.
    """

    def __init__(
        self,
        threads: Sequence[Thread],
        steps: Iterable[Callable[..., Any]],
        *,
        constants: Mapping[str, Any] | None = None,
        memory: Mapping[int, int] | None = None,
        crashes: int = 0,
        tso: bool = False,
        weak: Sequence[str] = (),
        check: Callable[[End], str | None] | None = None,
        limit: int = 1_000_000,
    ) -> None:
        self.threads, self.crashes, self.check, self.limit = tuple(threads), crashes, check, limit
        self._buffered = frozenset({"poke", *weak}) if tso else frozenset()
        self._places: dict[int, int] = {}
        self._nodes: list[_Node] = []
        self._known: dict[tuple[Any, ...], int] = {}
        self._tapes = [_Tape() for _ in self.threads]
        plain = [getattr(one, "py_func", one) for one in steps]
        self._bound = [_bind(plain, tape, dict(constants or {})) for tape in self._tapes]
        self._first = {self._place(word): value for word, value in (memory or {}).items()}
        size = [range(len(t.operations) + 1) for t in self.threads]
        self._reads: list[list[set[int]]] = [[set() for _ in one] for one in size]
        self._writes: list[list[set[int]]] = [[set() for _ in one] for one in size]
        self._groups: dict[tuple[int, ...], list[tuple[int, ...]]] = {}
        self._grown = False

    def run(self) -> Report:
        """Search; raises Found at the first violation."""
        for passes in itertools.count(1):
            self._grown = False
            states, transitions, ends = self._search()
            if not self._grown:
                return Report(states, transitions, ends, passes)
        raise AssertionError("unreachable")

    # the local states of threads

    def _place(self, word: int) -> int:
        return self._places.setdefault(word, len(self._places))

    def _node(self, thread: int, index: int, carried: Any, history: tuple[int, ...]) -> int:
        key = (thread, index, carried, history)
        known = self._known.get(key)
        if known is None:
            node = self._run(thread, index, carried, history)
            self._nodes.append(node)
            known = self._known[key] = len(self._nodes) - 1
        return known

    def _run(self, thread: int, index: int, carried: Any, history: tuple[int, ...]) -> _Node:
        operations, tape, bound = self.threads[thread].operations, self._tapes[thread], self._bound[thread]
        while index < len(operations):
            tape.history, tape.at = history, 0
            try:
                result = operations[index](bound, carried)
            except _Pause as pause:
                kind, word, a, b = pause.step
                place = -1 if kind == "crashed" else self._place(word)
                self._touch(thread, index, kind, place)
                return _Node(thread, index, carried, history, (kind, place, a, b))
            except AssertionError as error:
                return _Node(thread, index, carried, history, error=str(error) or "assertion failed")
            again = isinstance(result, Again)
            carried, index, history = (result.carried, index, ()) if again else (result, index + 1, ())
        return _Node(thread, index, carried, history)

    def _touch(self, thread: int, index: int, kind: str, place: int) -> None:
        for kinds, table in ((_READS | {"wait"}, self._reads), (_WRITES | {"wake"}, self._writes)):
            if kind in kinds and place not in table[thread][index]:
                self._grown = True
                self._groups.clear()
                for earlier in range(index + 1):
                    table[thread][earlier].add(place)

    def _next(self, node_id: int, result: int) -> int:
        node = self._nodes[node_id]
        known = node.after.get(result)
        if known is None:
            known = self._node(node.thread, node.index, node.carried, (*node.history, result))
            node.after[result] = known
        return known

    # the states of the system

    def _search(self) -> tuple[int, int, int]:
        start: State = (
            (),
            tuple(2 * self._node(t, 0, None, ()) for t in range(len(self.threads))),
            0,
            tuple(() for _ in self.threads),
        )
        start = (_write_all(self._first), *start[1:])
        seen, on_path = {start}, {start}
        path = [(start, self._successors(start, on_path), _END)]
        transitions = ends = 0
        while path:
            state, successors, _ = path[-1]
            step = next(successors, None)
            if step is None:
                on_path.discard(state)
                path.pop()
                continue
            label, after = step
            if after is None:
                ends += 1
                self._check_end(state, path)
                continue
            transitions += 1
            if self._grown and transitions % _LOOK == 0:
                break
            if after not in seen:
                if len(seen) >= self.limit:
                    raise Found(f"more than {self.limit} states; make the scenario smaller", [])
                seen.add(after)
                on_path.add(after)
                path.append((after, self._successors(after, on_path), label))
                self._check_errors(after, path)
        return len(seen), transitions, ends

    def _successors(self, state: State, on_path: set[State]) -> Iterator[tuple[Label, State | None]]:
        alone = self._invisible(state)
        if alone is not None:
            steps = list(self._advance(state, alone))
            if steps and all(after not in on_path for _, after in steps):
                yield from steps
                return
        group = self._group(state)
        if len(group) < len(state[1]):
            steps = [pair for thread in group for pair in self._advance(state, thread)]
            if steps and all(after not in on_path for _, after in steps):
                yield from steps
                return
        moved = False
        for thread in range(len(state[1])):
            for pair in self._flush(state, thread):
                moved = True
                yield pair
            for pair in self._advance(state, thread):
                moved = True
                yield pair
        if not moved:
            yield _END, None
        if state[2].bit_count() < self.crashes:
            yield from self._crash(state)

    def _crash(self, state: State) -> Iterator[tuple[Label, State]]:
        memory, codes, crashed, buffers = state
        for thread, code in enumerate(codes):
            if code != DEAD and self.threads[thread].mortal:  # also when all its operations are done
                after = (*codes[:thread], DEAD, *codes[thread + 1 :])
                yield (thread, _DIES, 0), (memory, after, crashed | 1 << thread, buffers)

    def _flush(self, state: State, thread: int) -> Iterator[tuple[Label, State]]:
        memory, codes, crashed, buffers = state
        if buffers[thread]:
            (place, value), *rest = buffers[thread]
            left = (*buffers[:thread], tuple(rest), *buffers[thread + 1 :])
            flushed = (_write(memory, place, value), codes, crashed, left)
            yield (thread, ("flush", place, value, 0), 0), flushed

    def _invisible(self, state: State) -> int | None:
        """A thread whose next step commutes with all that the others may still do; None if there is none."""
        for thread, code in enumerate(state[1]):
            if code == DEAD or code & 1:
                continue
            step = self._nodes[code >> 1].step
            if step is None:
                continue
            if step[0] in self._buffered:
                return thread
            if self._ready(state, thread, step) and self._private(state, thread, step):
                return thread
        return None

    def _group(self, state: State) -> tuple[int, ...]:
        """Threads, one of them able to move, that share no word with the others from here on; all if there are none."""
        _, codes, crashed, buffers = state
        everyone = tuple(range(len(codes)))
        if crashed.bit_count() < self.crashes or any(buffers):
            return everyone
        at = tuple(-1 if code == DEAD else self._nodes[code >> 1].index for code in codes)
        if at not in self._groups:
            self._groups[at] = self._components(at)
        for group in self._groups[at]:
            if any(next(self._advance(state, t), None) is not None for t in group):
                return group
        return everyone

    def _components(self, at: tuple[int, ...]) -> list[tuple[int, ...]]:
        groups: list[set[int]] = []
        for thread in range(len(at)):
            near = [g for g in groups if any(self._meet(thread, at[thread], other, at[other]) for other in g)]
            groups = [g for g in groups if g not in near] + [set().union({thread}, *near)]
        return [tuple(sorted(g)) for g in groups]

    def _meet(self, one: int, i: int, two: int, j: int) -> bool:
        if i < 0 or j < 0:
            return False
        mine, yours = self._writes[one][i], self._writes[two][j]
        return bool(mine & yours or mine & self._reads[two][j] or yours & self._reads[one][i])

    def _private(self, state: State, thread: int, step: Step) -> bool:
        kind, place = step[0], step[1]
        if kind not in _READS and kind not in _WRITES:
            return False
        for other, code in enumerate(state[1]):
            if other == thread:
                continue
            if any(where == place for where, _ in state[3][other]):
                return False
            if code == DEAD:
                continue
            index = self._nodes[code >> 1].index
            if place in self._writes[other][index]:
                return False
            if kind in _WRITES and place in self._reads[other][index]:
                return False
        return True

    def _ready(self, state: State, thread: int, step: Step) -> bool:
        if step[0] == "crashed":
            return state[2] != 0
        return step[0] in self._buffered or step[0] in ("load", "peek") or not state[3][thread]

    def _advance(self, state: State, thread: int) -> Iterator[tuple[Label, State]]:
        memory, codes, crashed, buffers = state
        node = codes[thread] >> 1
        if codes[thread] & 1:  # asleep, or DEAD
            return
        step = self._nodes[node].step
        if step is None or not self._ready(state, thread, step):
            return
        kind, place, a, b = step
        if kind == "wait" and _read(memory, place) & _LOW == a & _LOW:
            yield (thread, step, "sleeps"), (memory, _put(codes, thread, 2 * node + 1), crashed, buffers)
            return
        if kind == "wake":
            yield from self._wake(state, thread, step)
            return
        if kind in self._buffered:
            mine = (*buffers[thread], (place, a))
            after = _put(codes, thread, 2 * self._next(node, 0))
            yield (thread, step, 0), (memory, after, crashed, _put(buffers, thread, mine))
            return
        old = _read(memory, place) if place >= 0 else 0
        for where, value in buffers[thread]:
            old = value if where == place else old
        result = 0
        if kind in ("load", "peek"):
            result = old
        elif kind in ("store", "poke"):
            memory = _write(memory, place, a)
        elif kind == "add":
            result, memory = old, _write(memory, place, old + a)
        elif kind == "exchange":
            result = int(old == a)
            memory = _write(memory, place, b) if result else memory
        elif kind == "wait":
            result = -1
        elif kind == "crashed":
            result = (crashed & -crashed).bit_length() - 1
        after = _put(codes, thread, 2 * self._next(node, result))
        yield (thread, step, result), (memory, after, crashed, buffers)

    def _wake(self, state: State, thread: int, step: Step) -> Iterator[tuple[Label, State]]:
        memory, codes, crashed, buffers = state
        asleep = [t for t, c in enumerate(codes) if c != DEAD and c & 1 and self._sleeps_on(c, step[1])]
        for chosen in itertools.combinations(asleep, min(step[2], len(asleep))):
            after = codes
            for one in chosen:
                after = _put(after, one, 2 * self._next(codes[one] >> 1, 0))
            after = _put(after, thread, 2 * self._next(codes[thread] >> 1, len(chosen)))
            yield (thread, step, len(chosen)), (memory, after, crashed, buffers)

    def _sleeps_on(self, code: int, place: int) -> bool:
        step = self._nodes[code >> 1].step
        return step is not None and step[1] == place

    # what is wrong

    def _check_errors(self, state: State, path: list[Any]) -> None:
        for code in state[1]:
            if code != DEAD and self._nodes[code >> 1].error:
                node = self._nodes[code >> 1]
                raise Found(f"{self.threads[node.thread].name}: {node.error}", self._trace(path))

    def _check_end(self, state: State, path: list[Any]) -> None:
        status, carried = {}, {}
        for thread, code in zip(self.threads, state[1], strict=True):
            node = None if code == DEAD else self._nodes[code >> 1]
            carried[thread.name] = node.carried if node else None
            if node is None:
                status[thread.name] = "dead"
            elif node.step is None:
                status[thread.name] = "done"
            else:
                status[thread.name] = "asleep" if code & 1 else "blocked"
        end = End(lambda word: _read(state[0], self._place(word)), status, carried)
        wrong = self.check(end) if self.check else None
        for thread in self.threads:
            if wrong is None and self.check is None and status[thread.name] in ("asleep", "blocked"):
                wrong = None if thread.patient else f"{thread.name} is {status[thread.name]} and nothing will wake it"
        if wrong:
            raise Found(wrong, self._trace(path))

    def _trace(self, path: list[Any]) -> list[str]:
        words = {place: word for word, place in self._places.items()}
        return [
            f"{self.threads[thread].name}: {kind} [{words.get(place, '')}] {a} {b} -> {result}"
            for thread, (kind, place, a, b), result in (entry[2] for entry in path[1:])
        ]


def _bind(functions: Iterable[Callable[..., Any]], tape: _Tape, constants: dict[str, Any]) -> SimpleNamespace:
    """The functions with the tape's primitives, and each other, as globals."""
    shared: dict[str, Any] = {}
    made: dict[str, Any] = {}
    for one in functions:
        assert isinstance(one, FunctionType)
        for name, value in one.__globals__.items():
            shared.setdefault(name, value)
        made[one.__name__] = FunctionType(one.__code__, shared, one.__name__, one.__defaults__, one.__closure__)
    shared.update(tape.primitives())
    shared.update(made)
    shared.update(constants)
    return SimpleNamespace(**made, words=tape, crashed=lambda: tape.step("crashed", -1))


def _put(items: tuple[Any, ...], index: int, item: Any) -> tuple[Any, ...]:
    return (*items[:index], item, *items[index + 1 :])


def _read(memory: tuple[int, ...], place: int) -> int:
    return memory[place] if place < len(memory) else 0


def _write(memory: tuple[int, ...], place: int, value: int) -> tuple[int, ...]:
    """``memory`` with one word changed; zeros at its end are left out, so that equal memories compare equal."""
    longer = memory if place < len(memory) else memory + (0,) * (place + 1 - len(memory))
    made = (*longer[:place], value, *longer[place + 1 :])
    while made and made[-1] == 0:
        made = made[:-1]
    return made


def _write_all(words: Mapping[int, int]) -> tuple[int, ...]:
    memory: tuple[int, ...] = ()
    for place, value in words.items():
        memory = _write(memory, place, value)
    return memory
