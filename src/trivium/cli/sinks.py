"""Where predictions go, a piece at a time: to stdout as CSV, or to a new file that appears when it is whole."""

from __future__ import annotations

import abc
import contextlib
import csv
import io
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from trivium.cli.screen import Screen
from trivium.errors import StorageError, UsageError, unknown

__all__ = ["SUFFIXES", "Sink", "sink"]

SUFFIXES = (".csv", ".tsv", ".parquet")


class Sink(abc.ABC):
    """Takes columns of equal length, the same names and types each time."""

    @abc.abstractmethod
    def write(self, columns: Mapping[str, Any]) -> bool:
        """Write rows; whether anybody still wants more of them."""

    def close(self) -> None:  # noqa: B027  most have nothing to end
        """Write what belongs at the end."""


class _Text(Sink):
    """Rows as text; ``put`` takes them and says whether more are wanted."""

    def __init__(self, put: Any, delimiter: str) -> None:
        self._put, self._delimiter, self._begun = put, delimiter, False

    def write(self, columns: Mapping[str, Any]) -> bool:
        """A head first, then a line a row; numbers with all their digits."""
        import pyarrow as pa
        import pyarrow.csv as pc

        text = io.BytesIO()
        if not self._begun:
            head = io.StringIO()
            csv.writer(head, delimiter=self._delimiter, lineterminator="\n").writerow(columns)
            text.write(head.getvalue().encode())
            self._begun = True
        about: dict[str, Any] = {"include_header": False, "delimiter": self._delimiter}
        rows, table = io.BytesIO(), pa.table(dict(columns))
        try:
            pc.write_csv(table, rows, pc.WriteOptions(quoting_style="none", **about))
        except pa.ArrowInvalid:  # a label holds a comma, a quote or a line's end
            rows = io.BytesIO()
            pc.write_csv(table, rows, pc.WriteOptions(quoting_style="needed", **about))
        return bool(self._put(text.getvalue() + rows.getvalue()))


class _Parquet(Sink):
    def __init__(self, file: Any) -> None:
        self._file: Any = file
        self._writer: Any = None

    def write(self, columns: Mapping[str, Any]) -> bool:
        """A row group."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        table = pa.table(dict(columns))
        if self._writer is None:
            self._writer = pq.ParquetWriter(self._file, table.schema)
        self._writer.write_table(table)
        return True

    def close(self) -> None:
        """The footer."""
        if self._writer is not None:
            self._writer.close()


@contextlib.contextmanager
def sink(out: Path | None, screen: Screen) -> Iterator[Sink]:
    """The sink of ``out`` (None: stdout). A file is written beside its place and moved there at the end.

    Raises UsageError for an unknown suffix, StorageError where it cannot be written.
    """
    if out is None:
        yield _Text(lambda text: _shown(screen, text), ",")
        return
    suffix = out.suffix.lower()
    if suffix not in SUFFIXES:
        raise UsageError(f"--out {out}: {unknown('suffix', suffix, SUFFIXES)}")
    if out.exists():
        raise UsageError(f"--out {out} is there already and nothing is overwritten; give a file that is not")
    draft = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    try:
        with draft.open("wb") as file:
            made = _Parquet(file) if suffix == ".parquet" else _Text(file.write, "\t" if suffix == ".tsv" else ",")
            yield made
            made.close()
        draft.replace(out)
    except OSError as error:
        raise StorageError(f"--out {out} cannot be written: {error.strerror or error}; give another file") from error
    finally:
        draft.unlink(missing_ok=True)


def _shown(screen: Screen, text: bytes) -> bool:
    screen.out.write(text.decode())
    screen.out.flush()
    if screen.out.lost:
        raise StorageError(f"the answers cannot be written: {screen.out.lost}; what came out is not all of them")
    return screen.out.open
