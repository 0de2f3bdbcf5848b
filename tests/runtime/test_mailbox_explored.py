"""The mailbox's algorithms in every order, with a crash at every step, and planted bugs that must be found."""

import inspect

import pytest

from trivium.runtime import mailbox
from trivium.runtime.mailbox import HEAD, LINE, ROWS, TAIL
from trivium.testing.explore import Again, Explorer, Found, Thread

STEPS = [getattr(mailbox, name) for name in ("ring_at", "wake", "put", "take", "drain", "mail", "called")]
STEPS += [mailbox.await_mail, mailbox.empty, mailbox.clear]
MOST = 2
SMALL = {"MOST": MOST, "BODY": mailbox.ROWS + 3 * MOST}


def payload(number, words=2):
    return bytes([number]) * 8 * words


def sender(me, to, processes, capacity, numbers, name=None, words=2, mortal=True):
    """Sends ``numbers`` to ``to``; a full ring is tried again."""

    def send(number):
        def operation(steps, carried):
            ring = steps.ring_at(me, to, processes, capacity)
            return (
                carried if steps.put(steps.words, ring, to * LINE, capacity, payload(number, words)) else Again(carried)
            )

        return operation

    return Thread(name or f"s{me}", tuple(send(n) for n in numbers), mortal=mortal)


def messages(steps, me, processes, capacity):
    tray = [me, processes, capacity, 0] + [0] * (3 * MOST + capacity // 8)
    count = steps.drain(steps.words, tray)
    found = []
    for k in range(count):
        who, start, stop = tray[ROWS + 3 * k : ROWS + 3 * k + 3]
        body = tray[start // 8 : stop // 8]
        assert len(set(body)) == 1, f"torn message {body}"
        found.append((who, body[0] & 0xFF))
    return tuple(found)


def receiver(me, processes, capacity, wanted, mortal=False):
    """Waits and drains by turns until it has ``wanted`` messages."""

    def operation(steps, carried):
        drains, got = carried or (False, ())
        if not drains:
            came = steps.await_mail(steps.words, me, processes, capacity, 0, 1)
            return Again((came, got))
        got = tuple(sorted(got + messages(steps, me, processes, capacity), key=lambda message: message[0]))
        for who in {who for who, _ in got}:
            mine = [number for s, number in got if s == who]
            assert mine == sorted(set(mine)), f"out of order: {mine}"
        return got if len(got) >= wanted else Again((False, got))

    return Thread(f"r{me}", (operation,), mortal=mortal)


def bystander(processes, capacity, successor=None):
    """Whoever reaps the dead: resets, rings everyone; then perhaps the successor's first message."""

    def reap(steps, carried):
        dead = steps.crashed()
        if successor is not None:
            steps.clear(steps.words, dead, processes, capacity)
        for process in range(processes):
            if process != dead:
                steps.wake(steps.words, process * LINE)

    def succeed(steps, carried):
        ring = steps.ring_at(0, successor, processes, capacity)
        assert steps.put(steps.words, ring, successor * LINE, capacity, payload(9)), "the ring was not emptied"

    return Thread("reaper", (reap,) if successor is None else (reap, succeed), mortal=False, patient=True)


def settled(processes, capacity, receivers):
    """At an end nobody sleeps beside mail, and without a crash nobody sleeps at all."""

    def check(end):
        dead = "dead" in end.status.values()
        for me in receivers:
            if end.status[f"r{me}"] == "asleep":
                if not dead:
                    return f"r{me} sleeps although nobody died"
                for who in range(processes):
                    ring = mailbox.ring_at(who, me, processes, capacity)
                    if end.word(ring + HEAD) != end.word(ring + TAIL):
                        return f"r{me} sleeps beside mail from {who}"
        return None

    return check


def explore(threads, processes, capacity, receivers, replace=(), **options):
    options.setdefault("check", settled(processes, capacity, receivers))
    return Explorer(threads, [*STEPS, *replace], constants=SMALL, **options).run()


def one_to_one(replace=(), numbers=(1, 2), reap=False, **options):
    threads = [sender(0, 1, 2, 32, numbers), receiver(1, 2, 32, len(numbers))]
    threads += [bystander(2, 32)] if reap else []
    return explore(threads, 2, 32, [1], replace, **options)


def two_to_one(replace=(), reap=False, **options):
    threads = [sender(who, 2, 3, 32, (1,), words=1) for who in (0, 1)] + [receiver(2, 3, 32, 2)]
    threads += [bystander(3, 32)] if reap else []
    return explore(threads, 3, 32, [2], replace, **options)


def with_successor(replace=(), **options):
    """A sender dies anywhere; it is reaped and reset while its receiver reads on, and its successor sends."""
    threads = [sender(0, 1, 2, 32, (1,)), receiver(1, 2, 32, 2), bystander(2, 32, successor=1)]

    def check(end):
        late = end.status["reaper"] == "done" and end.status["r1"] != "done" and end.word(2 * LINE + 20 + HEAD)
        return "the successor's message was not read" if late and end.carried["r1"][1][-1:] != ((0, 9),) else None

    return explore(threads, 2, 32, [1], replace, crashes=1, check=check, **options)


def rung(steps, carried):
    steps.wake(steps.words, LINE)


def waits(steps, carried):
    return carried if steps.await_mail(steps.words, 1, 2, 32, 0, 1) else Again(carried)


def ringing(replace=(), **options):
    """Somebody rings, twice; a receiver that answers once or more is not left asleep."""
    return Explorer([Thread("s", (rung,)), Thread("r", (waits,))], [*STEPS, *replace], constants=SMALL, **options).run()


def test_messages_arrive_in_order_through_a_full_ring():
    assert one_to_one(numbers=(1, 2, 3)).ends > 0


def test_a_sender_may_die_at_every_step_of_two_messages():
    assert one_to_one(reap=True, crashes=1).ends > 0


def test_store_buffers_change_nothing():
    assert one_to_one(tso=True).ends > 0
    assert ringing(tso=True).ends > 0


def test_two_writers_and_one_reader_with_a_crash_at_every_step():
    assert two_to_one(reap=True, crashes=1).states > 50_000


def test_two_writers_and_two_readers():
    crossing = tuple(sender(0, to, 4, 32, (1,), words=1).operations[0] for to in (2, 3))
    threads = [Thread("s0", crossing), sender(1, 2, 4, 32, (1,), words=1), receiver(2, 4, 32, 2), receiver(3, 4, 32, 1)]
    assert explore(threads, 4, 32, [2, 3]).states > 50_000


def test_a_successor_after_a_reset_is_heard():
    assert with_successor().ends > 0


def test_a_ring_is_not_lost():
    assert ringing().ends > 0


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


PUBLISH = "    store(words, ring + HEAD, head + size)\n"
COPY = "    words[ring + DATA + at // 8] = count\n"
ASLEEP = "    if load(words, line + WAITING) != 0:\n        wake(words, line)\n"
FLAG = "    store(words, line + WAITING, 1)\n"
LOOK = "    if not mail(words, me, processes, capacity):\n"
BUGS = {
    "published before the payload is in place": (one_to_one, mailbox.put, (PUBLISH, ""), (COPY, PUBLISH + COPY)),
    "no wake after publishing": (one_to_one, mailbox.put, (ASLEEP, "")),
    "looks at the flag before publishing": (
        one_to_one,
        mailbox.put,
        (ASLEEP, "    if asleep != 0:\n        wake(words, line)\n"),
        (PUBLISH, "    asleep = load(words, line + WAITING)\n" + PUBLISH),
    ),
    "no check for room": (one_to_one, mailbox.put, ("> capacity", "> 10 * capacity")),
    "wakes without a ring": (one_to_one, mailbox.wake, ("    fetch_add(words, line + BELL, 1)\n", "")),
    "flag set after the look": (
        one_to_one,
        mailbox.await_mail,
        (FLAG, ""),
        (LOOK, LOOK + "        store(words, line + WAITING, 1)\n"),
    ),
    "no look after the flag": (one_to_one, mailbox.await_mail, (LOOK, "    if True:\n")),
    "sleeps on the bell of now, not the one answered": (
        ringing,
        mailbox.await_mail,
        ("    bell = load(words, line + SEEN)\n", "    bell = load(words, line + BELL)\n"),
    ),
    "tail advanced before the copy": (
        one_to_one,
        mailbox.take,
        ("        size = words[", "        store(words, ring + TAIL, head)\n        size = words["),
        ("exchange_if(words, ring + TAIL, first, tail) == 0", "first < 0"),
    ),
    "a reader overlooks a reset": (
        with_successor,
        mailbox.take,
        (
            "exchange_if(words, ring + TAIL, first, tail) == 0",
            "store(words, ring + TAIL, tail) is not None",
        ),
    ),
}


@pytest.mark.parametrize("name", BUGS)
def test_planted_bugs_are_found(name):
    scenario, step, *changes = BUGS[name]
    with pytest.raises(Found) as found:
        scenario([variant(step, *changes)])
    assert "make the scenario smaller" not in str(found.value)


def test_without_a_bystander_a_crash_between_publishing_and_waking_leaves_a_sleeper():
    with pytest.raises(Found, match="r1 sleeps beside mail from 0"):
        one_to_one(crashes=1)


def test_without_fences_a_wake_is_lost_in_a_store_buffer():
    with pytest.raises(Found, match="r1 sleeps although nobody died"):
        one_to_one(tso=True, weak=["store"])
