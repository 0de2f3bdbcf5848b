"""Writes the diagrams of the pages on protocols, from the tables that the code goes by and from simulated runs.

python docs/make_diagrams.py
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from trivium.core import holder, runner
from trivium.core.exchange import Copy, Delta, Fresh, Held, Settled, Taken, View
from trivium.core.membership import PHASES
from trivium.core.messages import Place, Proceed, Push, Reply, Request, Stand
from trivium.core.role import Address, Message, Send
from trivium.designs.ps import shards, worker
from trivium.designs.ps.change import topology
from trivium.runtime.faults import KillNode
from trivium.runtime.simulated import Outcome
from trivium.testing.scenarios_nodes import DRIVER, Scenario, lives

HERE = Path(__file__).parent
CALM = Scenario(nodes=3, workers=3, copies=2, shards=1, lanes=3, clocks=2, elementwise=True)


def diagram(first: str, rows: list[tuple[str, str, str]]) -> str:
    """A Mermaid state diagram of (from, to, why) that begins at ``first``."""
    lines = ["```mermaid", "stateDiagram-v2", f"    [*] --> {first}"]
    lines += [f"    {before} --> {after}" + (f": {why}" if why else "") for before, after, why in rows]
    return "\n".join([*lines, "```"])


def stages(table: Mapping[str, Mapping[str, str]]) -> str:
    """The diagram of a table of stages with reasons."""
    rows = [(before, after, why) for before, follow in table.items() for after, why in follow.items()]
    return diagram(next(iter(table)), rows)


def phases() -> str:
    """The diagram of the driver's phases; every one may end in ``stopped``."""
    order = list(PHASES)
    rows = [(before, after, "") for before in order for after in sorted(PHASES[before], key=order.index)]
    return diagram(order[0], rows)


# -- from simulated runs ----------------------------------------------------------------------------------------------
def sequence(scenario: Scenario, words: Iterator[tuple[Address, Address, str]]) -> str:
    """A Mermaid sequence diagram of (from, to, word); the members of ``scenario`` from left to right."""
    members, names = topology(scenario.workers, scenario.nodes)
    names = {DRIVER: "driver", **names}
    nodes = sorted({one.node for one in members.all})
    order = [DRIVER, *(one for node in nodes for one in sorted(members.all, reverse=True) if one.node == node)]
    told = list(words)
    there = {end for one in told for end in one[:2]}
    lines = ["```mermaid", "sequenceDiagram"]
    lines += [f"    participant {_letters(one)} as {names[one]}" for one in order if one in there]
    lines += [f"    {_letters(sender)}->>{_letters(to)}: {word}" for sender, to, word in told]
    return "\n".join([*lines, "```"])


def _letters(address: Address) -> str:
    return f"n{address.node}s{address.slot}"


def _sent(outcome: Outcome) -> Iterator[tuple[Address, Address, Message]]:
    for _now, address, _event, commands in outcome.trace:
        for command in commands:
            if isinstance(command, Send):
                yield address, command.to, command.message


def push() -> str:
    """The words of one clock: three nodes, one shard with two copies; each word where it is sent."""
    _life, outcome = next(lives(CALM, trace=True))
    return sequence(CALM, _clock(outcome))


def _clock(outcome: Outcome) -> Iterator[tuple[Address, Address, str]]:
    """From the first push of clock 0 on, until all have heard that it is done."""
    unheard = CALM.workers
    for sender, to, message in _sent(outcome):
        if isinstance(message, Push) and message.clock == 0:
            yield sender, to, "Push: my Δ of clock 0 is in its block"
        elif isinstance(message, View) and message.floor == 1:
            yield sender, to, "View: clock 0 is in"
            unheard -= 1
        elif type(message) in WORDS:
            yield sender, to, WORDS[type(message)]
        if not unheard:
            return


WORDS: Mapping[type[Message], str] = {
    Delta: "Delta: the node's sum",
    Copy: "Copy: the sum of all",
    Held: "Held: applied here, too",
    Settled: "Settled",
    Taken: "Taken",
    Fresh: "Fresh: values of clock 1",
}


def term() -> str:
    """The words of a term in which the node of a primary has died."""
    calm = Scenario(nodes=3, workers=3, copies=2, shards=1, lanes=3, clocks=6, faults=(KillNode(1, 0.03),))
    _life, outcome = next(lives(calm, trace=True))
    return sequence(calm, _change(outcome))


def _change(outcome: Outcome) -> Iterator[tuple[Address, Address, str]]:
    """Of the second term: what the driver asks, and what is answered, up to the lease."""
    told = {Stand: "Stand", Place: "Place: who holds and runs what", Proceed: "Proceed"}
    said: set[tuple[Address, type]] = set()
    for sender, to, message in _sent(outcome):
        if not isinstance(message, Request | Reply) or message.term != 2:
            continue
        body = type(message.body)
        if isinstance(message, Request) and body in told and (to, body) not in said:
            said.add((to, body))
            yield sender, to, told[body]
        elif isinstance(message, Reply) and not any(kind is Proceed for _to, kind in said):
            yield sender, to, body.__name__


MADE: Mapping[str, Mapping[str, Callable[[], str]]] = {
    "protocol.md": {
        "phases": phases,
        "runner": functools.partial(stages, runner.STAGES),
        "holder": functools.partial(stages, holder.STAGES),
    },
    "parameter-server.md": {
        "term": term,
        "push": push,
        "shard": functools.partial(stages, shards.STAGES),
        "worker": functools.partial(stages, worker.STAGES),
    },
}


def filled(name: str, page: str) -> str:
    """``page``, the text of the file ``name``, with each diagram between its marks."""
    for mark, make in MADE[name].items():
        pattern = rf"(<!-- {mark} -->\n).*?(<!-- end of {mark} -->)"
        text = make()
        page, count = re.subn(pattern, lambda found, text=text: f"{found[1]}{text}\n{found[2]}", page, flags=re.DOTALL)
        if count != 1:
            raise SystemExit(f"docs/{name} has {count} places for the diagram {mark!r}, must have one")
    return page


if __name__ == "__main__":
    for name in MADE:
        path = HERE / name
        path.write_text(filled(name, path.read_text(encoding="utf-8")), encoding="utf-8")
