r"""Documents: one a line, or ``label<TAB>text``; plain, gzip or xz.

Whether there are labels follows from the first lines: there are where more than half of them have one word before a
tab. Labels are numbers where those of the first lines are, else text. A blank line is a document without a word where
there are no labels, so that what is predicted for line n is the n-th; else it is passed over.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from trivium.data.frame import Field
from trivium.data.sources.lines import Bad, Fault, LineSource, Rows, picked, shown

__all__ = ["TextSource"]

_LOOKED_AT = 100  # lines


@dataclass(frozen=True)
class TextSource(LineSource):
    r"""Columns ``text`` and, where there are labels, ``label`` (float64 or text). ``labelled``: found out where None.

    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> from trivium.data.sources.places import resolve
    >>> with TemporaryDirectory() as folder:
    ...     path = Path(folder, "reviews.txt")
    ...     _ = path.write_text("good\ta fine film\nbad\ta bore\n")
    ...     frame = next(TextSource(resolve(path)).frames(threads=1))
    >>> frame.columns["text"].to_pylist(), frame.columns["label"].to_pylist()
    (['a fine film', 'a bore'], ['good', 'bad'])
    """

    labelled: bool | None = None
    format: str = "text"
    wants: ClassVar[str] = "one document a line, or label<TAB>text"

    def __post_init__(self) -> None:
        object.__setattr__(self, "label", "label" if self._labelled else None)

    @property
    def options(self) -> tuple[Any, ...]:
        """Whether there are labels."""
        return (self._labelled,)

    def fields(self) -> tuple[Field, ...]:
        """``text``, and ``label`` where there is one."""
        text = Field("text", "text", "string")
        if not self._labelled:
            return (text,)
        numbers = Field("label", "number", "float64")
        return text, numbers if self._numbers else Field("label", "category", "string")

    def parse(self, block: bytes, columns: Sequence[str] | None, start: bool) -> Rows | Fault:  # noqa: ARG002
        """The documents of ``block``."""
        import pyarrow as pa

        lines = block[:-1].split(b"\n")
        if not self._labelled:
            return self._documents(lines, columns)
        labels, texts, offsets, bad = [], [], [], []
        for at, line in enumerate(lines):
            why = None
            label, tab, rest = line.rstrip(b"\r").partition(b"\t")
            if not line.strip():
                continue
            try:
                name, text = label.decode().strip(), rest.decode()
                why = self._wrong(name, tab, text)
                if why is None:
                    labels.append(float(name) if self._numbers else name)
                    texts.append(text)
                    offsets.append(at)
            except UnicodeDecodeError as error:
                why = _not_utf8(error)
            if why is not None:
                bad.append(Bad(at, why, shown(line)))
                if len(bad) > self.max_bad_rows:
                    break
        label_column = np.asarray(labels, np.float64) if self._numbers else pa.array(labels, pa.string())
        found = {"text": pa.array(texts, pa.string()), "label": label_column}
        where = None if len(texts) == len(lines) else np.asarray(offsets, np.int64)
        return self.with_bad(Rows(picked(found, columns), len(texts), len(lines), where), bad)

    def _documents(self, lines: list[bytes], columns: Sequence[str] | None) -> Rows | Fault:
        import pyarrow as pa

        texts, bad = [], []
        for at, line in enumerate(lines):
            try:
                texts.append(line.decode().rstrip("\r"))
            except UnicodeDecodeError as error:
                bad.append(Bad(at, _not_utf8(error), shown(line)))
                if len(bad) > self.max_bad_rows:
                    break
        passed = {one.line for one in bad}
        where = np.asarray([at for at in range(len(lines)) if at not in passed], np.int64) if bad else None
        found = {"text": pa.array(texts, pa.string())}
        return self.with_bad(Rows(picked(found, columns), len(texts), len(lines), where), bad)

    def _wrong(self, label: str, tab: bytes, text: str) -> str | None:
        """What is wrong with a line of these parts."""
        if not tab:
            return f"found no tab in {_short(label)!r}, expected label<TAB>text; correct the line"
        if not label:
            return "found no label before the tab, expected label<TAB>text; correct the line"
        if "\t" in text:
            return (
                f"found {text.count(chr(9)) + 2} columns, expected two, label<TAB>text; read it with format='tsv', or "
                "replace the tabs in the text"
            )
        if self._numbers and not _is_number(label):
            return (
                f"label {_short(label)!r} is no finite number as the first labels are; correct it, or name all classes"
            )
        return None

    @cached_property
    def _labelled(self) -> bool:
        if self.labelled is not None:
            return self.labelled
        lines = self.head()[:_LOOKED_AT]
        parts = [line.partition(b"\t") for line in lines]
        return sum(bool(tab) and len(label.split()) == 1 for label, tab, _ in parts) * 2 > len(lines)

    @cached_property
    def _numbers(self) -> bool:
        labels = [line.partition(b"\t")[0].decode("utf-8", "replace").strip() for line in self.head()[:_LOOKED_AT]]
        return sum(map(_is_number, labels)) * 2 > len(labels)


def _is_number(text: str) -> bool:
    try:
        return bool(np.isfinite(float(text)))
    except ValueError:
        return False


def _not_utf8(error: UnicodeDecodeError) -> str:
    found = error.object[error.start : error.start + 4]
    return f"found {found!r}, which is not UTF-8 text; convert the file (iconv -t UTF-8)"


def _short(text: str) -> str:
    return text if len(text) <= 40 else text[:39] + "…"
