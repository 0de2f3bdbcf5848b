"""``trivium inspect``: what data are before anything is trained on them.

All rows are gone over once, a partition at a time, so that counts are exact; nothing is kept of them. Where it is known
which column is the label, the rows are also read as training would read them, which finds what training would refuse.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from trivium.cli.columns import MOST, Tally
from trivium.cli.further import Inspected
from trivium.cli.loading import read_options
from trivium.cli.rules import check_data
from trivium.cli.screen import Screen
from trivium.data.table import Csr
from trivium.errors import DataError
from trivium.observe.figures import count, size
from trivium.observe.page import grid
from trivium.observe.summary import Line

if TYPE_CHECKING:
    from trivium.data.dataset import Dataset
    from trivium.data.frame import BadRow, Frame
    from trivium.data.table import DataSpec

__all__ = ["inspect"]

SHOWN_COLUMNS = 12  # of the first rows
SHOWN_CLASSES = 10
LISTED = 40  # columns that have a line of their own
CELL = 24  # characters
SHOWN_BAD = 3


def inspect(asked: Inspected) -> int:
    """Carry out ``trivium inspect``; returns the exit code."""
    from trivium.data.read import read

    screen = Screen()
    check_data(asked)
    data: Any = read(asked.data, **read_options(asked))
    tallies, head, skipped = _counted(data, asked.rows)
    label = asked.label or data.source.label or _usual(tallies)
    spec, wrong = _seen(data) if label is not None else (None, "")
    about = _about(data, tallies, label, skipped)
    screen.result(_head_lines(about, tallies))
    if not any(one.sparse for one in tallies) and len(tallies) > 1:
        screen.text("\n" + grid(_table(tallies[:LISTED])))
        if len(tallies) > LISTED:
            screen.text(f"… and {count(len(tallies) - LISTED)} more columns")
    if head:
        screen.text("\n" + grid(head))
    if spec is not None:
        x = spec.columns["x"]
        kind = "sparse" if spec.sparse else "dense"
        classes = f"{count(len(spec.classes))} classes" if spec.classes else "numbers to be learned"
        text = f"{count(spec.rows)} rows × {count(spec.features)} features ({kind} {x[0]}), {classes}"
        screen.result([("", ""), ("a model", f"sees {text}"), *(("", note) for note in data.table().notes)])
        about["model_sees"] = {"rows": spec.rows, "features": spec.features, "sparse": spec.sparse, "dtype": x[0]}
    if wrong:
        screen.result([("", ""), ("a model", f"cannot be trained on them as they are: {wrong}")])
        about["model_sees"] = {"error": wrong}
    if asked.as_json:
        screen.json(about)
    return 0


def _seen(data: Dataset) -> tuple[DataSpec | None, str]:
    """What a model sees of ``data``, or why it cannot."""
    try:
        return data.spec, ""
    except DataError as error:
        return None, str(error)


def _usual(tallies: list[Tally]) -> str | None:
    """The column that is the label if nobody says otherwise."""
    from trivium.data.encode_fit import LABELS

    return next((one.of.name for one in tallies if one.of.name.lower() in LABELS), None)


def _counted(data: Dataset, rows: int) -> tuple[list[Tally], list[list[str]], list[BadRow]]:
    """Tallies of all columns, the first ``rows`` rows as cells under a head, and what was passed over."""
    tallies = [Tally(one) for one in data.fields()]
    head: list[list[str]] = []
    skipped: list[BadRow] = []
    for frame in data.source.frames(threads=data.threads):
        skipped += frame.skipped
        for one in tallies:
            one.add(frame.columns[one.of.name])
        if len(head) < rows:
            head += list(_cells(frame, [one.of.name for one in tallies], rows - len(head)))
    names = [one.of.name for one in tallies[:SHOWN_COLUMNS]]
    names += ["…"] if len(tallies) > SHOWN_COLUMNS else []
    return tallies, [["row", *names], *([str(n), *row] for n, row in enumerate(head, 1))] if head else [], skipped


def _cells(frame: Frame, names: list[str], rows: int) -> Iterator[list[str]]:
    for at in range(min(rows, frame.rows)):
        row = [_cell(frame.columns[name], at) for name in names[:SHOWN_COLUMNS]]
        yield row + (["…"] if len(names) > SHOWN_COLUMNS else [])


def _cell(column: Any, at: int) -> str:
    if isinstance(column, Csr):
        lo, hi = column.indptr[at], column.indptr[at + 1]
        pairs = zip(column.indices[lo:hi].tolist(), column.values[lo:hi].tolist(), strict=True)
        text = " ".join(f"{index + 1}:{value:g}" for index, value in pairs)
    elif getattr(column, "ndim", 1) > 1:
        text = f"{'×'.join(map(str, column.shape[1:]))} {column.dtype}"
    else:
        value = column[at].as_py() if hasattr(column[at], "as_py") else column[at]
        text = _short(value)
    text = " ".join(text.split())
    return text if len(text) <= CELL else text[: CELL - 1] + "…"


def _about(data: Dataset, tallies: list[Tally], label: str | None, skipped: list[BadRow]) -> dict[str, Any]:
    partitions = data.partitions()
    about: dict[str, Any] = {
        "name": data.name,
        "format": data.source.format,
        "rows": tallies[0].rows if tallies else 0,
        "columns": [one.as_json() for one in tallies],
        "partitions": len(partitions),
        "bytes": sum(one.nbytes for one in partitions),
        "files": len({one.file for one in partitions}),
        "label": label,
        "skipped": len(skipped),
        "bad_rows": [{"file": bad.file, "line": bad.line, "why": bad.why} for bad in skipped[:SHOWN_BAD]],
    }
    found = next((one for one in tallies if one.of.name == label), None)
    if found is not None and found.counts is not None:
        about["classes"] = [{"class": value, "rows": times} for value, times in _ordered(found)]
    return about


def _ordered(tally: Tally) -> list[tuple[Any, int]]:
    assert tally.counts is not None
    return sorted(tally.counts.items(), key=lambda pair: (isinstance(pair[0], str), pair[0]))


def _head_lines(about: dict[str, Any], tallies: list[Tally]) -> list[Line]:
    files = f"{count(about['files'])} files, " if about["files"] > 1 else ""
    parts = f"{count(about['partitions'])} partition{'s' if about['partitions'] != 1 else ''}"
    stored = f"{files}{parts}{', ' + size(about['bytes']) if about['bytes'] else ''}"
    lines = [
        ("data", f"{about['name']}: {about['format']}, {stored}"),
        ("rows", f"{count(about['rows'])}, {count(len(tallies))} column{'s' if len(tallies) != 1 else ''}"),
    ]
    for one in tallies:
        if one.elements:
            width = one.elements // max(one.rows, 1)
            share = f"{one.nonzero / one.elements:.2%}".replace("%", " %")
            lines.append((one.of.name, f"{count(width)} features, {count(one.nonzero)} non-zeros ({share})"))
    lines += _class_lines(about) if about["label"] else [("label", "not known yet: --label COLUMN says which it is")]
    if about["skipped"]:
        texts = [f"{bad['file']}, line {bad['line']}: {bad['why']}" for bad in about["bad_rows"]]
        lines += [("bad rows", f"{count(about['skipped'])} were passed over"), *(("", text) for text in texts)]
    return lines


def _class_lines(about: dict[str, Any]) -> list[Line]:
    classes, total = about.get("classes"), max(about["rows"], 1)
    if not classes:
        return []
    shown = [
        f"{_short(one['class'])}: {count(one['rows'])} ({one['rows'] / total:.1%})" for one in classes[:SHOWN_CLASSES]
    ]
    more = [f"and {count(len(classes) - SHOWN_CLASSES)} more"] if len(classes) > SHOWN_CLASSES else []
    text = f"{count(len(classes))} values of {about['label']}: {', '.join(shown + more)}"
    return [("label", text.replace("%", " %"))]


def _table(tallies: list[Tally]) -> list[list[str]]:
    rows = [["column", "kind", "type", "missing", "distinct", "least", "largest"]]
    for one in tallies:
        kind = one.of.dtype + (f" {'×'.join(map(str, one.of.shape))}" if one.of.shape else "")
        distinct = f"over {count(MOST)}" if one.distinct is None else count(one.distinct)
        span = [_short(value) for value in (one.least, one.largest)]
        rows.append([one.of.name, one.of.kind, kind, count(one.missing), distinct, *span])
    return rows


def _short(value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    text = f"{value:.6g}" if isinstance(value, float) else " ".join(str(value).split())
    return text if len(text) <= CELL else text[: CELL - 1] + "…"
