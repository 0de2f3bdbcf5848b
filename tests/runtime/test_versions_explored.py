"""The versioned buffer's algorithms in every order, with a crash at every step, and planted bugs that must be found."""

import inspect

import pytest

from trivium.runtime import versions
from trivium.runtime.atomics import store
from trivium.runtime.versions import CLOCK, CURRENT, TAGS
from trivium.testing.explore import Again, Explorer, Found, Thread

STEPS = [getattr(versions, name) for name in ("pin_at", "pinned", "begin_slot", "commit_slot", "find", "pin_slot")]
READERS = 2
CONTENTS = 1000  # first word of the slots' contents: two words a slot, as a stand-in for an array


def memory(slots):
    """Clocks 0 and 1 are committed, in slots 0 and 1."""
    filled = {CONTENTS + 2 * slot + k: slot + 1 for slot in (0, 1) for k in (0, 1)}
    assert slots >= 3
    return {CURRENT: 2 * CLOCK + (1 << 8) + 2, TAGS: 1, TAGS + 1: 2, **filled}


def write_next(steps, slots):
    """Take the committed version, add one to it in a free slot, commit; False where no slot is free."""
    words = steps.words
    slot = steps.begin_slot(words, slots, READERS)
    if slot < 0:
        return False
    now = words[CURRENT]
    last, clock = now % 256 - 1, now // CLOCK - 1
    for k in (0, 1):
        words[CONTENTS + 2 * slot + k] = words[CONTENTS + 2 * last + k] + 1
    steps.commit_slot(words, slot, clock + 1)
    return True


def writer(slots, commits, name="writer"):
    def operation(steps, carried):
        return carried if write_next(steps, slots) else Again(carried)

    return Thread(name, (operation,) * commits)


def reader(which, slots, clock=-1, rounds=1):
    """Pin, read the two words one after the other, unpin."""

    def operation(steps, carried):
        words = steps.words
        slot = steps.pin_slot(words, slots, which, clock)
        if slot < 0:
            assert clock >= 0, "the newest version was not found"
            assert words[CURRENT] // CLOCK - 1 > clock + 1, "a version that was there was not found"
            assert words[steps.pin_at(slots, which)] == 0, "a failed pin is left"
            return carried
        first, tag, second = words[CONTENTS + 2 * slot], words[TAGS + slot], words[CONTENTS + 2 * slot + 1]
        assert first == second == tag, f"torn: slot {slot} holds {first}, {second}, clock {tag - 1}"
        assert clock < 0 or tag == clock + 1, f"asked for clock {clock}, got {tag - 1}"
        assert carried is None or clock >= 0 or tag >= carried, "versions went backwards"
        steps.store_word(words, steps.pin_at(slots, which), 0)
        return tag

    return Thread(f"reader{which}", (operation,) * rounds)


def store_word(words, index, value):
    store(words, index, value)


def heir(slots, commits):
    """Reaps whoever died: drops a reader's pin, or goes on as the writer."""

    def reap(steps, carried):
        dead = steps.crashed()
        if dead > 0:
            steps.store_word(steps.words, steps.pin_at(slots, dead - 1), 0)
        return dead

    def succeed(steps, carried):
        if carried == 0 and steps.words[CURRENT] // CLOCK - 1 < 1 + commits:
            return carried if write_next(steps, slots) else Again(carried)
        return carried

    return Thread("heir", (reap, *(succeed,) * commits), mortal=False, patient=True)


def settled(commits):
    """Every commit was made, by the writer or by its heir, each once, on the version before."""

    def check(end):
        now = end.word(CURRENT)
        slot, clock = now % 256 - 1, now // CLOCK - 1
        whole = end.word(CONTENTS + 2 * slot) == end.word(CONTENTS + 2 * slot + 1) == clock + 1
        if clock != 1 + commits or not whole:
            return f"ended at clock {clock} of {1 + commits}"
        return None

    return check


def explore(slots=4, commits=2, readers=((0, -1), (1, -1)), replace=(), crashes=0, rounds=1, **options):
    threads = [writer(slots, commits), *(reader(which, slots, clock, rounds) for which, clock in readers)]
    threads += [heir(slots, commits)] if crashes else []
    return Explorer(
        threads,
        [*STEPS, store_word, *replace],
        memory=memory(slots),
        crashes=crashes,
        check=settled(commits),
        **options,
    ).run()


def test_two_readers_see_whole_versions():
    assert explore(commits=3).states > 50_000


def test_readers_of_one_clock_get_that_clock_or_nothing():
    assert explore(readers=((0, 1), (1, 0))).ends > 0


def test_a_slow_reader_pins_through_four_commits():
    assert explore(readers=((0, -1),), commits=4).ends > 0


def test_store_buffers_change_nothing():
    assert explore(slots=3, commits=3, readers=((0, -1),), tso=True).ends > 0


def test_a_crash_at_every_step_and_an_heir_who_goes_on_from_the_committed_version():
    assert explore(slots=3, commits=2, readers=((0, -1), (1, 0)), crashes=1).states > 50_000
    assert explore(slots=3, commits=3, readers=((0, -1),), crashes=1).ends > 0


def test_three_slots_are_enough_for_a_reader_that_lets_go():
    assert explore(slots=3, commits=3, readers=((0, -1),), rounds=2).ends > 0
    assert explore(slots=3, commits=3).ends > 0


# planted bugs: each is the real step with one piece of its source changed


def variant(step, *changes):
    """The step made anew from its source, with pieces of it replaced."""
    text = inspect.getsource(step.py_func)
    for old, new in changes:
        assert text.count(old) == 1, f"{old!r} is not once in {step.py_func.__name__}"
        text = text.replace(old, new)
    space = dict(step.py_func.__globals__)
    exec("\n".join(line for line in text.splitlines() if not line.startswith("@")), space)
    return space[step.py_func.__name__]


TAG = "    store(words, TAGS + slot, clock + 1)\n"
COMMIT = "    store(words, CURRENT, (clock + 1) * CLOCK + (now % 256 << BEFORE) + slot + 1)\n"
BUGS = {
    "committed before the clock is stored": (versions.commit_slot, {}, (TAG, ""), (COMMIT, COMMIT + TAG)),
    "the version before is forgotten": (
        versions.commit_slot,
        {"readers": ((0, 1),)},
        ("(now % 256 << BEFORE)", "0"),
    ),
    "no second look after the pin": (versions.pin_slot, {}, ("if load(words, CURRENT) == now:", "if True:")),
    "pinned after the second look": (
        versions.pin_slot,
        {},
        ("            store(words, mine, slot + 1)\n", "            pass\n"),
        ("            return slot\n", "            store(words, mine, slot + 1)\n            return slot\n"),
    ),
    "a failed pin is left": (
        versions.pin_slot,
        {"readers": ((0, 0),)},
        ("                store(words, mine, 0)\n", "                pass\n"),
    ),
    "pins are not looked at": (versions.begin_slot, {}, ("not pinned(words, slots, readers, slot)", "True")),
    "the last reader's pin is not looked at": (versions.pinned, {}, ("range(readers)", "range(readers - 1)")),
    "the version before may be written": (
        versions.begin_slot,
        {"readers": ((0, 0), (1, 1))},
        ("slot not in (last, before)", "slot != last"),
    ),
    "the clock of the version before is not compared": (
        versions.find,
        {"readers": ((0, 0),)},
        ("before >= 0 and load(words, TAGS + before) == clock + 1", "before >= 0"),
    ),
}


@pytest.mark.parametrize("name", BUGS)
def test_planted_bugs_are_found(name):
    step, scenario, *changes = BUGS[name]
    with pytest.raises(Found) as found:
        explore(slots=3, commits=3, replace=[variant(step, *changes)], limit=200_000, **scenario)
    assert "make the scenario smaller" not in str(found.value)


def test_without_fences_a_pinned_slot_is_written():
    with pytest.raises(Found, match="torn"):
        explore(slots=3, commits=3, tso=True, weak=["store"], limit=400_000)
