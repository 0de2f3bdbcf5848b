"""The few lines that say what a run was asked to do, what came out, and where the time went.

Every function returns ``(label, text)`` pairs of plain text; ``lines`` lays them out. The same words serve the screen
of ``train`` and the page of ``report``, so that both say the same thing.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from trivium.observe.figures import count, duration, loss, percent, rate, size
from trivium.observe.waiting import of_record, waiting_lines
from trivium.record import KINDS, Carried, ProcessTimes, Record

__all__ = [
    "Line",
    "carried_lines",
    "data_lines",
    "lines",
    "next_lines",
    "notice_lines",
    "plan_text",
    "result_lines",
    "shares",
    "short_line",
    "start_lines",
    "stopping_text",
    "time_lines",
]

Line = tuple[str, str]
LABEL = 9  # columns of the label


def lines(pairs: Iterable[Line], width: int = 100) -> str:
    """Lay ``pairs`` out: the label in its column, long texts wrapped under themselves.

    >>> print(lines([("plan", "ps, 2 workers"), ("", "more of it")]))
    plan     ps, 2 workers
             more of it
    """
    out: list[str] = []
    for label, text in pairs:
        room = max(width - LABEL, 40)
        whole = text.replace(" %", "\xa0%")  # a share stays with its sign
        wrapped = textwrap.wrap(whole, room, break_long_words=False, break_on_hyphens=False) or [""]
        wrapped = [one.replace("\xa0%", " %") for one in wrapped]
        out.append(f"{label:<{LABEL}}{wrapped[0]}".rstrip())
        out.extend(" " * LABEL + rest for rest in wrapped[1:])
    return "\n".join(out)


def data_lines(data: Mapping[str, Any]) -> list[Line]:
    """What is learned from: name, rows, columns, classes, stored elements, and the sizes of the parts.

    ``data`` has ``name``, ``rows``, ``features``, ``classes`` (a count), ``sparse``, ``nnz`` and ``parts`` (name →
    rows); whatever is missing is left out.
    """
    words = []
    if data.get("rows"):
        words.append(f"{count(data['rows'])} rows × {count(data.get('features', 0))} features")
    if data.get("classes"):
        words.append(f"{count(data['classes'])} classes")
    if data.get("sparse") and data.get("nnz"):
        density = data["nnz"] / max(1, data["rows"] * data.get("features", 1))
        words.append(f"{count(data['nnz'])} non-zeros ({density:.2%})")
    parts = {name: rows for name, rows in (data.get("parts") or {}).items() if rows}
    text = ", ".join(words)
    if parts:
        text += f" ({', '.join(f'{count(rows)} {name}' for name, rows in parts.items())})"
    name = f"{data['name']}: " if data.get("name") else ""
    notes = [("", str(note)) for note in data.get("notes", ())]
    return [("data", name + text), *notes] if text or name else []


def plan_text(plan: Mapping[str, Any]) -> str:
    """Model, design, processes, lanes, optimizer, batch, penalties; keys that are missing or say nothing are left out.

    >>> plan_text({"model": "mlp:500", "design": "ps", "workers": 2, "lanes": 8, "optimizer": "adam", "lr": 0.001})
    'mlp:500 by ps, 2 workers, 8 lanes; adam, lr 0.001'
    """
    return "; ".join(part for part in (_where(plan), _how(plan), _extras(plan)) if part)


def _where(plan: Mapping[str, Any]) -> str:
    words = [" by ".join(str(plan[name]) for name in ("model", "design") if plan.get(name))]
    words[0] += " (chosen)" if plan.get("chosen") else ""  # a notice says why
    if plan.get("design") == "sequential":
        words.append(_many(plan.get("threads"), "thread"))
    else:
        words.append(_many(plan.get("workers"), "worker"))
        words.append(_many(plan["nodes"], "node") if (plan.get("nodes") or 1) > 1 else "")
    words += [_many(plan.get("lanes"), "lane"), _many(plan.get("shards"), "shard")]
    words += [str(plan.get("consistency") or ""), "reproducible" if plan.get("reproducible") else ""]
    words.append("pinned" if plan.get("pin") else "")
    if plan.get("combine") == "model":
        words.append(f"models averaged every {_many(plan.get('every'), 'step')}")
    return ", ".join(word for word in words if word)


def _how(plan: Mapping[str, Any]) -> str:
    words = [str(plan.get("optimizer") or "")]
    words.append(f"lr {plan['lr']:g}" if isinstance(plan.get("lr"), float) else "")
    batch = plan.get("batch_size")
    words.append("" if batch is None else "full batch" if batch == "full" else f"batch {count(batch)}")
    words += [f"{name} {plan[name]:.3g}" for name in ("l1", "l2") if plan.get(name)]
    return ", ".join(word for word in words if word)


def _extras(plan: Mapping[str, Any]) -> str:
    words = [_many(plan.get("parameters"), "parameter")]
    words.append(f"seed {plan['seed']}" if plan.get("seed") is not None else "")
    return ", ".join(word for word in words if word)


def _many(number: Any, thing: str) -> str:
    return "" if number is None else f"{count(number)} {thing}{'' if number == 1 else 's'}"


def stopping_text(stopping: Mapping[str, Any]) -> str:
    """The stopping rule in words; ``stopping`` has the fields of ``trivium.plan.Stopping``.

    >>> stopping_text({"epochs": 50, "patience": 3})
    'after 50 epochs, or 3 evaluations without a lower validation loss'
    """
    words = []
    if stopping.get("epochs") is not None:
        words.append(f"after {count(stopping['epochs'])} epochs")
    if stopping.get("max_iter") is not None:
        words.append(f"after {count(stopping['max_iter'])} iterations")
    if stopping.get("max_time") is not None:
        words.append(f"after {duration(stopping['max_time'])} of training")
    if stopping.get("tol"):
        words.append(f"gradient at most {stopping['tol']:g}")
    if stopping.get("target_loss") is not None:
        words.append(f"loss at most {stopping['target_loss']:g}")
    if stopping.get("patience") is not None:
        words.append(f"{count(stopping['patience'])} evaluations without a lower validation loss")
    return ", or ".join(words) or "never: until it is stopped"


def start_lines(record: Record) -> list[Line]:
    """What it cost before the first step."""
    parts = (("load", record.load_seconds), ("processes", record.startup_seconds), ("compile", record.compile_seconds))
    return [("start", ", ".join(f"{name} {duration(seconds)}" for name, seconds in parts))]


def _scored(name: str, value: float | None, accuracy: float | None) -> str:
    right = f" ({accuracy:.2%} right)".replace("%", " %") if accuracy is not None else ""
    return f"{name} {loss(value)}{right}"


def result_lines(record: Record) -> list[Line]:
    """Losses, accuracy, how long and how fast, and why it ended."""
    scores = [_scored("loss", record.loss, record.train_accuracy)]
    if record.valid_loss is not None:
        scores.append(_scored("validation", record.valid_loss, record.valid_accuracy))
    if record.test_loss is not None:
        scores.append(_scored("test", record.test_loss, record.test_accuracy))
    if math.isfinite(record.objective) and record.objective != record.loss:
        scores.append(f"objective {record.objective:.6g}")
    epochs, iterations = count(round(record.epochs, 2)), count(record.iterations)
    best = f", lowest validation loss at clock {count(record.best_clock)}" if record.best_clock is not None else ""
    why = record.stopped_by if record.stopped_by in ("converged", "interrupted") else f"stopped by {record.stopped_by}"
    if record.stopped_by == "max_iter" and record.iterations < record.clocks:
        why += ", not converged"
    ended = (
        f"{epochs} epochs, {iterations} iterations in {duration(record.seconds)} "
        f"({rate(record.samples_per_second)}); {why}{best}"
    )
    return [("result", ", ".join(scores)), ("", ended)]


def shares(seconds: Mapping[str, float], wall: float) -> str:
    """Shares of ``wall``, largest first; kinds under half a per cent are left out.

    >>> shares({"compute": 3.0, "wait": 1.0, "idle": 0.0}, 4.0)
    'compute 75 %, wait 25 %'
    """
    kept = sorted(((seconds.get(kind, 0.0), kind) for kind in KINDS), key=lambda pair: -pair[0])
    return ", ".join(f"{kind} {percent(value / wall)}" for value, kind in kept if value >= 0.005 * wall > 0)


def _waited(process: ProcessTimes) -> str:
    if process.lags:
        return ""  # it has a line among those on waiting
    whom = sorted(process.waited_for.items(), key=lambda pair: -pair[1])
    told = [f"{duration(seconds)} for {name}" for name, seconds in whom[:3] if seconds >= 0.005 * process.wall]
    return f"; waited {', '.join(told)}" if told else ""


def time_lines(record: Record) -> list[Line]:
    """Where the time went: over the workers, then each process and for whom it waited; bytes and memory."""
    first = shares(record.breakdown, 1.0) or "not measured"
    pairs = [("time", f"workers: {first}")]
    pairs += [
        ("", f"{p.name}: {shares(p.seconds, p.wall)} of {duration(p.wall)}{_waited(p)}") for p in record.processes
    ]
    moved = f"pushed {size(record.bytes.get('pushed', 0))}, pulled {size(record.bytes.get('pulled', 0))}"
    pairs.append(
        ("", f"{moved}; peak memory {size(record.peak_rss_bytes)}; evaluating {duration(record.evaluate_seconds)}")
    )
    return [*pairs, *waiting_lines(of_record(record)), *_dropped(record), *carried_lines(record.carried)]


def _dropped(record: Record) -> list[Line]:
    if not record.dropped:
        return []
    share = record.dropped / max(1, record.clocks * record.lanes)
    return [("", f"{count(record.dropped)} deltas came too late and were dropped ({percent(share)} of all)")]


def carried_lines(carried: Carried | None) -> list[Line]:
    """What went between nodes, what filters made of it, and what encryption cost; nothing where there is one node.

    >>> told = carried_lines(Carried({"Delta": 2**20}, {"Delta": 2**22}, 2**21, 1.0, 20.0, "int8"))
    >>> print(*(text for _label, text in told), sep=chr(10))
    4.0 MiB between nodes, 1.0 MiB after int8 (25 %): Delta 4.0 MiB as 1.0 MiB
    encrypting and moving 2.0 MiB in all took 1.0 s of 20.0 s of CPU time (5 %)
    """
    if carried is None:
        return []
    went, plain = sum(carried.sent.values()), sum(carried.plain.values())
    words = f"{size(plain)} between nodes"
    if carried.filters:
        words += f", {size(went)} after {carried.filters} ({percent(went / max(1, plain))})"
    kinds = sorted(carried.sent.items(), key=lambda pair: -carried.plain[pair[0]])
    told = ", ".join(_kind(name, sent, carried.plain[name]) for name, sent in kinds)
    share = percent(carried.link_seconds / carried.cpu_seconds) if carried.cpu_seconds else "?"
    cost = f"{duration(carried.link_seconds)} of {duration(carried.cpu_seconds)} of CPU time ({share})"
    return [
        ("links", f"{words}: {told}" if told else words),
        ("", f"encrypting and moving {size(carried.nbytes)} in all took {cost}"),
    ]


def _kind(name: str, sent: int, plain: int) -> str:
    return f"{name} {size(plain)}" + ("" if sent == plain else f" as {size(sent)}")


def notice_lines(notices: Sequence[str]) -> list[Line]:
    """What the person should know, one each."""
    return [("notice" if at == 0 else "", text) for at, text in enumerate(notices)]


def short_line(record: Record) -> str:
    """The result in one line, for --quiet.

    The last word is the run's directory, so that a script can cut it off.
    """
    words = [f"loss {loss(record.loss)}"]
    for name, value in (("validation", record.valid_loss), ("test", record.test_loss)):
        words += [f"{name} {loss(value)}"] if value is not None else []
    if record.test_accuracy is not None:
        words.append(f"test accuracy {record.test_accuracy:.4f}")
    return f"{', '.join(words)}, {duration(record.seconds)}, {record.run}"


def next_lines(run: str, resumable: bool) -> list[Line]:
    """The commands that make sense now."""
    first = [("next", f"trivium resume {run}")] if resumable else []
    return [*first, ("" if first else "next", f"trivium report {run}")]
