"""A server that learns a shard while its workers read it: what they hear of."""

from trivium.core.consistency import Rule
from trivium.core.exchange import Learn, Learned, TakeUp, View, Whole
from trivium.core.lanes import Part
from trivium.core.messages import Adopt, Place, Proceed, Request, Stand
from trivium.core.role import Address, Compute, ComputeFinished, MessageReceived, Send, Started
from trivium.designs.ps.server import Server

DRIVER, HERE, WORKER, THERE = Address(0, 0), Address(1, 0), Address(1, 1), Address(2, 0)
LANES = 2


def test_workers_hear_of_a_shard_that_was_taken_up_whole():
    """It may be the last clock there is: nothing else would tell them, and who evaluates would wait for ever."""
    role = Server(HERE, DRIVER, LANES, 1, reproducible=False, retry=1.0, orphan_timeout=3.0, elementwise=True)

    def hear(message, sender=DRIVER):
        return role.handle(MessageReceived(sender, message), 0.0)

    def done(commands):
        works = [one.work for one in commands if isinstance(one, Compute)]
        return [more for work in works for more in role.handle(ComputeFinished(work, None), 0.0)]

    role.handle(Started(), 0.0)
    role.handle(ComputeFinished(Adopt(0), (0, False)), 0.0)
    place = Place(Rule("asp"), (WORKER,), (Part(0, LANES),), ((THERE,),), (HERE, THERE), ((0, 0),), (), False)
    done(hear(Request(1, 1, Stand())))
    hear(Request(1, 2, place))
    hear(Request(1, 3, Proceed(3)))
    hear(Learn(1, (0,), (THERE,)))
    commands = hear(Whole(1, 0, (3, 3), (3, 3), False), THERE)
    assert [one.work for one in commands if isinstance(one, Compute)] == [TakeUp(0, (3, 3))]
    sent = [(one.to, one.message) for one in done(commands) if isinstance(one, Send)]
    assert (DRIVER, Learned(1, (0,))) in sent
    assert [(to, message.floor) for to, message in sent if isinstance(message, View)] == [(WORKER, 3)]
