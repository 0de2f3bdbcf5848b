from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trivium.errors import UsageError
from trivium.runtime.memory import Segment
from trivium.runtime.versions import Versions
from trivium.runtime.zygote import Zygote

HERE = str(Path(__file__).parent)


def made(readers=2, slots=4):
    return Versions(np.zeros(Versions.words(readers, slots), np.int64), readers, slots)


def test_before_the_first_commit_there_is_nothing():
    shard = made()
    assert shard.current() == (-1, -1)
    assert [shard.pin(0), shard.pin(0, 0), shard.clock_of(2)] == [-1, -1, -1]
    assert shard.begin() == 0


def test_slots_rotate_in_step_whatever_the_clocks():
    one, two = made(), made()
    slots = []
    for clock in (3, 4, 9, 10, 2000, 1 << 40):
        slots.append(one.begin())
        assert two.begin() == slots[-1]
        one.commit(slots[-1], clock)
        two.commit(slots[-1], clock + 1)
        assert one.current() == (clock, slots[-1])
        assert one.clock_of(slots[-1]) == clock
    assert slots == [0, 1, 2, 3, 0, 1]


def test_the_last_two_clocks_can_be_pinned_and_no_other():
    shard = made()
    for clock in range(5):
        shard.commit(shard.begin(), clock)
    assert [shard.pin(0, clock) for clock in range(6)] == [-1, -1, -1, 3, 0, -1]


def test_where_every_slot_is_held_there_is_none_to_write():
    shard = made(readers=2, slots=4)
    for clock in range(2):
        shard.commit(shard.begin(), clock)
    assert (shard.pin(0, 0), shard.pin(1, 1)) == (0, 1)
    for clock in (2, 3):
        shard.commit(shard.begin(), clock)
    assert shard.begin() == -1
    shard.drop(1)
    assert shard.begin() == 1
    shard.unpin(0)
    assert shard.begin() == 0


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["commit", "pin", "exact", "unpin"]), st.integers(0, 2)), max_size=60))
def test_against_a_plain_history(actions):
    shard, history, pins, clock = made(readers=3, slots=5), [], {}, 0
    for action, which in actions:
        if action == "commit":
            slot = shard.begin()
            held = {s for _, s in history[-2:]} | set(pins.values())
            start = history[-1][1] if history else -1
            free = [s % 5 for s in range(start + 1, start + 6) if s % 5 not in held]
            assert slot == (free[0] if free else -1)
            if slot >= 0:
                clock += 1 + which
                shard.commit(slot, clock)
                history.append((clock, slot))
        elif action == "unpin":
            shard.unpin(which)
            pins.pop(which, None)
        else:
            wanted = history[-1 - which][0] if action == "exact" and which < len(history) else -1
            want = next((s for c, s in history[-2:][::-1] if wanted in (-1, c)), -1)
            got = shard.pin(which, wanted)
            assert got == want
            pins.pop(which, None)
            if got >= 0:
                pins[which] = got
        assert shard.current() == (history[-1] if history else (-1, -1))


def test_bad_arguments_are_refused():
    need = Versions.words(2, 4)
    for words in (np.zeros(need - 1, np.int64), np.zeros(need), np.zeros((need, 1), np.int64)):
        with pytest.raises(UsageError, match=f"int64 array of {need} words"):
            Versions(words, 2, 4)
    for slots in (2, 255):
        with pytest.raises(UsageError, match="slots must be 3 to 254"):
            Versions.words(2, slots)
    with pytest.raises(UsageError, match="0 or more"):
        Versions.words(-1)


@pytest.mark.slow
def test_readers_in_other_processes_never_see_a_torn_or_older_version(monkeypatch):
    monkeypatch.syspath_prepend(HERE)
    slots, size, last = 3, 4096, 1500
    zygote = Zygote.start(["memory_entries:warm"])
    need = Versions.words(2, slots)
    with Segment.create(8 * (need + slots * size)) as segment:
        words = segment.array("i8", (segment.nbytes // 8,))
        shard = Versions(words, 2, slots)
        order = [msgspec.msgpack.encode((which, slots, size, last)) for which in (0, 1)]
        children = [zygote.fork("memory_entries:look", one, [segment.fd]) for one in order]
        clock = 0
        while clock <= last and not any(child.wait(0.0) for child in children):
            slot = shard.begin()
            if slot >= 0:
                words[need + slot * size : need + (slot + 1) * size] = clock
                shard.commit(slot, clock)
                clock += 1
        codes = []
        for child in children:
            assert child.wait(30.0)
            child.close()
        while len(codes) < 2:
            codes += [event.code for event in zygote.events()]
        assert codes == [0, 0]
        del words, shard
    zygote.close()
