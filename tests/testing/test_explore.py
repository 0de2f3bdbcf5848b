"""The explorer itself: against algorithms whose behaviour is known from the literature."""

import itertools

import pytest

from trivium.runtime.atomics import exchange_if, fetch_add, futex_wait, futex_wake, load, store
from trivium.testing.explore import Again, Explorer, Found, Thread


def add_atomically(words):
    fetch_add(words, 0, 1)


def add_plainly(words):
    words[0] = words[0] + 1


def lock(words, mine, other):
    """Dekker's entry without its loop: True for whoever may go in."""
    store(words, mine, 1)
    return load(words, other) == 0


def sleep_until_set(words):
    if load(words, 0) == 0:
        futex_wait(words, 0, 0, -1)


def sleep_on_a_stale_look(words):
    if load(words, 0) == 0:
        futex_wait(words, 1, 0, -1)


def set_and_wake(words):
    store(words, 0, 1)
    futex_wake(words, 0, 1)


def set_and_wake_other(words):
    store(words, 0, 1)
    futex_wake(words, 1, 1)


def claim(words):
    return exchange_if(words, 0, 0, 1)


def call(name, *args):
    return lambda steps, carried: getattr(steps, name)(steps.words, *args)


def total(wanted):
    return lambda end: None if end.word(0) == wanted else f"word is {end.word(0)}"


def test_atomic_additions_sum_and_plain_ones_lose():
    threads = [Thread(f"t{i}", (call("add_atomically"),) * 2) for i in range(3)]
    assert Explorer(threads, [add_atomically], check=total(6)).run().ends >= 1
    threads = [Thread(f"t{i}", (call("add_plainly"),)) for i in range(2)]
    with pytest.raises(Found, match="word is 1"):
        Explorer(threads, [add_plainly], check=total(2)).run()


def test_every_interleaving_of_two_independent_readers_of_a_writer_is_a_known_outcome():
    outcomes = set()

    def look(steps, carried):
        return (load_word(steps, 0), load_word(steps, 1))

    def load_word(steps, i):
        return steps.words[i]

    def write(steps, carried):
        steps.words[0] = 1
        steps.words[1] = 1

    def keep(end):
        outcomes.add((end.carried["a"], end.carried["b"]))

    Explorer([Thread("w", (write,)), Thread("a", (look,)), Thread("b", (look,))], [], check=keep).run()
    seen = {
        (0, 0),
        (0, 1),
        (1, 1),
    }  # the writer's order, read first to second: (1, 0) too, when the write falls between
    either = seen | {(1, 0)}
    possible = set()
    for order in set(itertools.permutations("wwaabb")):  # an independent enumeration, by brute force
        memory, got, writes = [0, 0], {"a": [], "b": []}, 0
        for who in order:
            if who == "w":
                memory[writes] = 1
                writes += 1
            else:
                got[who].append(memory[len(got[who])])
        possible.add((tuple(got["a"]), tuple(got["b"])))
    assert outcomes == possible
    assert {a for a, _ in outcomes} <= either


def test_dekker_holds_with_fences_and_falls_in_a_store_buffer_without():
    threads = [Thread("a", (call("lock", 1, 2),)), Thread("b", (call("lock", 2, 1),))]

    def exclusive(end):
        return "both are in" if end.carried["a"] and end.carried["b"] else None

    Explorer(threads, [lock], check=exclusive).run()
    Explorer(threads, [lock], check=exclusive, tso=True).run()
    with pytest.raises(Found, match="both are in"):
        Explorer(threads, [lock], check=exclusive, tso=True, weak=["store"]).run()


def test_a_futex_that_compares_is_not_missed_and_a_stale_look_is():
    good = [Thread("s", (call("sleep_until_set"),)), Thread("w", (call("set_and_wake"),))]
    Explorer(good, [sleep_until_set, set_and_wake]).run()
    bad = [Thread("s", (call("sleep_on_a_stale_look"),)), Thread("w", (call("set_and_wake_other"),))]
    with pytest.raises(Found, match="s is asleep") as found:
        Explorer(bad, [sleep_on_a_stale_look, set_and_wake_other]).run()
    assert found.value.trace[-1].startswith("s: wait [1]")


def test_a_crash_can_come_before_every_step():
    threads = [Thread("a", (call("add_atomically"),) * 3)]
    seen = set()
    watch = Thread("w", (lambda steps, carried: (steps.crashed(), steps.words[0]),), mortal=False, patient=True)
    Explorer([*threads, watch], [add_atomically], crashes=1, check=lambda end: seen.add(end.carried["w"])).run()
    assert seen == {None, (0, 0), (0, 1), (0, 2), (0, 3)}


def test_operations_run_again_until_they_are_content():
    def until_one(steps, carried):
        return (carried or 0) if steps.words[0] else Again(1)

    def write(steps, carried):
        steps.words[0] = 1

    got = set()
    Explorer([Thread("r", (until_one,)), Thread("w", (write,))], [], check=lambda end: got.add(end.carried["r"])).run()
    assert got == {0, 1}


def test_only_one_claims_and_assertions_are_reported_with_their_trace():
    def once(end):
        return None if end.carried["a"] + end.carried["b"] == 1 else "not one owner"

    Explorer([Thread(n, (call("claim"),)) for n in "ab"], [claim], check=once).run()

    def fails(steps, carried):
        assert steps.words[0] == 0, "somebody wrote"

    def write(steps, carried):
        steps.words[0] = 7

    with pytest.raises(Found, match="r: somebody wrote") as found:
        Explorer([Thread("r", (fails,)), Thread("w", (write,))], []).run()
    assert found.value.trace == ("w: poke [0] 7 0 -> 0", "r: peek [0] 0 0 -> 7")


def test_too_large_a_scenario_says_so():
    threads = [Thread(f"t{i}", (call("add_plainly"),) * 3) for i in range(3)]
    with pytest.raises(Found, match="more than 50 states"):
        Explorer(threads, [add_plainly], limit=50).run()
