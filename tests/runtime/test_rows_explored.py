"""The steps of a row table's writer and readers in every order, with a crash at every step, and planted bugs."""

import inspect

import pytest

from trivium.runtime import row_steps
from trivium.runtime.row_steps import COUNT, SLOT
from trivium.testing.explore import Explorer, Found, Thread

NAMES = ("find_entry", "read_row", "enter", "copy_row", "commit_row", "spare_slots", "stage", "commit")
STEPS = [getattr(row_steps, name) for name in NAMES]
BUCKETS, SPARES, WIDTH = 4, 1, 2  # key 10 has a row from the beginning, in slot 1; slot 0 is spare
ROWS = 1000  # first word of the rows: WIDTH words each


class Rows:
    """The rows as the steps index them, in the model memory."""

    def __init__(self, words):
        self.words = words

    def __getitem__(self, at):
        return self.words[ROWS + at]

    def __setitem__(self, at, value):
        self.words[ROWS + at] = value


def fence_acquire():
    """The model's loads keep their order."""


def fence_release():
    """So do its stores."""


def prefetch(array, at):
    """Changes nothing."""


def bucket_of(key, buckets):
    return key % buckets


STUBS = [fence_acquire, fence_release, prefetch, bucket_of]


def content(key, count):
    """Each element of a row says whose it is and how often it was updated."""
    return [100 * key + count] * WIDTH


MEMORY = {2 * (10 % BUCKETS): 1 + 1, 2 * (10 % BUCKETS) + 1: 10}  # in slot 1, updated 0 times
MEMORY |= {ROWS + WIDTH + j: value for j, value in enumerate(content(10, 0))}


def entry_of(steps, key):
    return steps.find_entry(steps.words, BUCKETS, key, steps.bucket_of(key, BUCKETS))


def update(steps, key, spare):
    """One push to one row: each element grows by 1. Returns the spare slots after it."""
    rows, spare = Rows(steps.words), list(spare)
    entry, bases, counts = entry_of(steps, key), [0], [0]
    steps.stage(steps.words, rows, WIDTH, WIDTH, [entry], spare, 0, bases, counts)
    for j in range(WIDTH):
        rows[bases[0] + j] = rows[bases[0] + j] + 1
    steps.commit(steps.words, [entry], spare, 0)
    return tuple(spare)


def create(steps, key, slot):
    """A new row, as ``row_steps.create`` makes one."""
    entry = -1 - entry_of(steps, key)
    for j, value in enumerate(content(key, 0)):
        Rows(steps.words)[slot * WIDTH + j] = value
    steps.enter(steps.words, entry, key, slot + 1)


def writer(pushes):
    """Push to each key of ``pushes`` in turn; carried are the spare slots."""

    def operation(key):
        def run(steps, spare):
            spare = spare or (0,)
            if entry_of(steps, key) < 0:
                create(steps, key, 2)
            return update(steps, key, spare)

        return run

    return Thread("writer", tuple(operation(key) for key in pushes))


def reader(name, key, rounds=1):
    """Read a row over and over."""

    def run(steps, seen):
        entry = entry_of(steps, key)
        out, count = content(key, 0), -1
        if entry >= 0:
            count = steps.read_row(steps.words, Rows(steps.words), WIDTH, WIDTH, entry, out, 0)
            assert count >= 0, "gave up"
        assert out == content(key, max(count, 0)), f"torn: key {key} is {out} after {count} updates"
        assert seen is None or count >= seen, "rows went backwards"
        return count

    return Thread(name, (run,) * rounds)


def heir(key):
    """Waits for the writer's death, finds the spare slots in the index, and pushes once more."""

    def adopt(steps, carried):
        if steps.crashed() != 0:
            return None
        spare, free = [-1] * SPARES, [0] * 4
        live = steps.spare_slots(steps.words, BUCKETS, spare, free)
        used = {(steps.words[2 * at] & SLOT) - 1 for at in range(BUCKETS) if steps.words[2 * at]}
        assert len(used) == live, "two rows share a slot"
        assert not used & set(spare), "a slot in use is taken for spare"
        assert used | set(spare) == set(range(live + SPARES)), "a slot is lost"
        return tuple(spare)

    def push(steps, spare):
        return spare if spare is None else update(steps, key, spare)

    return Thread("heir", (adopt, push), mortal=False, patient=True)


def settled(pushes):
    """Each push was applied once, unless somebody died."""

    def check(end):
        for at in range(BUCKETS):
            word, key = end.word(2 * at), end.word(2 * at + 1)
            if not word:
                continue
            slot, count = (word & SLOT) - 1, word >> COUNT
            row = [end.word(ROWS + slot * WIDTH + j) for j in range(WIDTH)]
            if row != content(key, count):
                return f"key {key} ended as {row} after {count} updates"
            if end.status["writer"] == "done" and end.status.get("heir") != "done" and count != pushes.count(key):
                return f"key {key} had {pushes.count(key)} pushes and {count} updates"
        return None

    return check


def explore(pushes=(10, 10), readers=((10, 1), (10, 1)), replace=(), crashes=0, **options):
    threads = [writer(pushes), *(reader(f"reader{i}", *one) for i, one in enumerate(readers))]
    threads += [heir(10)] if crashes else []
    return Explorer(
        threads,
        [*STEPS, *STUBS, *replace],
        memory=MEMORY,
        crashes=crashes,
        check=settled(pushes),
        **options,
    ).run()


def test_two_readers_see_whole_rows():
    assert explore(pushes=(10, 10)).states > 10_000
    assert explore(pushes=(10, 10, 10), readers=((10, 1),)).states > 1_000


def test_a_reader_who_comes_back_never_sees_an_older_row():
    assert explore(pushes=(10, 10, 10), readers=((10, 3),)).ends > 0


def test_a_new_row_appears_whole_and_its_slot_goes_round_among_the_rows():
    assert explore(pushes=(21, 10, 21), readers=((21, 2), (10, 1))).ends > 0
    assert explore(pushes=(10, 21, 10, 21), readers=((10, 2),)).ends > 0


def test_a_search_past_another_row():
    assert explore(pushes=(14, 10, 14), readers=((14, 2), (10, 1))).ends > 0  # 14 begins where 10 lies


def test_store_buffers_change_nothing_even_where_the_flip_is_a_plain_store():
    assert explore(pushes=(10, 10, 10), readers=((10, 2),), tso=True).ends > 0
    assert explore(pushes=(10, 10, 10), readers=((10, 2),), tso=True, weak=["store"]).ends > 0
    assert explore(pushes=(21, 10), readers=((21, 2),), tso=True, weak=["store"]).ends > 0


@pytest.mark.parametrize("pushes", [(10, 10), (21, 10), (10, 21)])
def test_a_crash_at_every_step_and_an_heir_who_finds_the_spare_slots(pushes):
    assert explore(pushes, readers=((pushes[0], 1),), crashes=1).states > 1_000


# planted bugs: each is the real step with one piece of its source changed


def variant(step, *changes):
    text = inspect.getsource(step.py_func)
    for old, new in changes:
        assert text.count(old) == 1, f"{old!r} is not once in {step.py_func.__name__}"
        text = text.replace(old, new)
    space = dict(step.py_func.__globals__)
    exec("\n".join(line for line in text.splitlines() if not line.startswith("@")), space)
    return space[step.py_func.__name__]


BUGS = {
    "no second look": (row_steps.read_row, {}, ("if again == word:", "if True:")),
    "the second look is at the slot alone": (
        row_steps.read_row,
        {"pushes": (10, 10, 10)},
        ("if again == word:", "if again & SLOT == word & SLOT:"),
    ),
    "the count does not grow": (row_steps.commit_row, {}, ("(word >> COUNT) + 1", "(word >> COUNT)")),
    "the row is written in place": (
        row_steps.stage,
        {},
        ("slot = spare[(head + i) % len(spare)]", "slot = (word & SLOT) - 1"),
    ),
    "the spare slot is kept though it is in use": (
        row_steps.commit,
        {},
        ("spare[at] = commit_row(index, entries[i], spare[at])", "commit_row(index, entries[i], spare[at])"),
    ),
    "a new row is published before its key": (
        row_steps.enter,
        {"pushes": (4,), "readers": ((0, 1),)},  # an entry's key is 0 before it is written
        ("    index[2 * entry + 1] = key\n", ""),
        ("    store(index, 2 * entry, word)\n", "    store(index, 2 * entry, word)\n    index[2 * entry + 1] = key\n"),
    ),
    "an empty entry does not end the search": (
        row_steps.find_entry,
        {"pushes": (14,), "readers": ((14, 1),)},
        ("return at\n", "return at + 0 * key\n"),
        ("index[2 * at + 1] == key", "index[2 * at + 1] >= 0"),
    ),
    "an heir takes the spare slots for granted": (
        row_steps.spare_slots,
        {"crashes": 1},
        ("free[(word & SLOT) - 1] = 0", "free[(word & SLOT) - 1] = 1"),
    ),
}


@pytest.mark.parametrize("name", BUGS)
def test_planted_bugs_are_found(name):
    step, scenario, *changes = BUGS[name]
    with pytest.raises(Found) as found:
        explore(replace=[variant(step, *changes)], limit=200_000, **scenario)
    assert "make the scenario smaller" not in str(found.value)


def test_a_reader_who_is_overtaken_at_every_copy_says_so():
    threads = [writer((10, 10, 10)), reader("reader", 10)]
    with pytest.raises(Found, match="gave up"):
        Explorer(threads, [*STEPS, *STUBS], memory=MEMORY, constants={"LOOKS": 2}).run()
