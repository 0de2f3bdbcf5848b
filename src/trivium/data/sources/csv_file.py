"""One delimited text file: its bytes, where they may be cut, and on which line a byte lies.

A packed file (gzip, xz) is only read from its beginning; a plain one anywhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from trivium.data.sources import csv_block as block
from trivium.data.sources.csv_form import Form, column_names
from trivium.data.sources.places import Place, Places
from trivium.data.sources.stream import GZIP_MAGIC, XZ_MAGIC
from trivium.errors import DataError

__all__ = ["CsvFile", "check_same", "head_of", "is_packed"]

PIECE = 1 << 16  # bytes of a sample from the middle; of a step of a search
LONGEST_LINE = 64 << 20  # bytes
_PACKED_BLOCK = 4 << 20  # unpacked bytes that are parsed at a time
_COUNTED = 1 << 20
_BOM = b"\xef\xbb\xbf"
_WIDE = (b"\xff\xfe", b"\xfe\xff")


def head_of(places: Places, place: Place, size: int) -> bytes:
    """The first ``size`` unpacked bytes. Raises ``DataError`` where they are not UTF-8 text."""
    head = places.stream(place).head(size)
    if len(head) == size and b"\n" not in head and b"\r" not in head:  # so many columns that their names alone are more
        head = places.stream(place).head(LONGEST_LINE)
        if b"\n" not in head and b"\r" not in head:
            raise DataError(f"{place.path}: line 1 is longer than {LONGEST_LINE} bytes; check how it was written")
    if head.startswith(_WIDE):
        raise DataError(f"{place.path}: is UTF-16 text, expected UTF-8; convert it (iconv -f UTF-16 -t UTF-8)")
    if b"\0" in head[:4096]:
        raise DataError(
            f"{place.path}: starts with {head[:8]!r} and is not text, expected lines of fields; check its format"
        )
    return head


def is_packed(places: Places, place: Place) -> bool:
    """Whether the file is gzip or xz, by its first bytes."""
    try:
        with places.open(place) as opened:
            start = opened.read(len(XZ_MAGIC))
    except OSError as error:
        raise DataError(f"{place.path}: cannot be read ({error}); check its permissions and its disk") from None
    return start.startswith((GZIP_MAGIC, XZ_MAGIC))


@dataclass(frozen=True)
class CsvFile:
    """A file as its beginning shows it. ``body``: the byte at which rows begin; ``sample``: (first byte,
    whole lines) of some pieces.
    """

    places: Places
    place: Place
    packed: bool
    form: Form
    names: tuple[str, ...]
    body: int
    sample: tuple[tuple[int, bytes], ...] = ()

    @classmethod
    def opened(cls, places: Places, place: Place, form: Form, head_bytes: int) -> CsvFile:
        """Look at the beginning, a piece of the middle and the end of ``place``."""
        marked = head_of(places, place, head_bytes)
        head = marked.removeprefix(_BOM)
        names = column_names(head, place.path, form)
        start = block.first_record_end(head, form.delimiter) if form.header else 0
        packed = is_packed(places, place)
        made = cls(places, place, packed, form, names, start + len(marked) - len(head))
        whole = not packed and len(marked) >= place.size
        pieces = [(made.body, head[start:] if whole else head[start : head.rfind(b"\n") + 1])]
        if not packed and not whole:
            pieces += [made._piece(max(at, len(marked))) for at in (place.size // 2, place.size - PIECE)]
        return replace(made, sample=tuple(pieces))

    @property
    def path(self) -> str:
        """Of the file, for people."""
        return self.place.path

    def between(self, start: int, stop: int) -> bytes:
        """Some bytes of a plain file, fewer at its end."""
        try:
            with self.places.open(self.place) as opened:
                opened.seek(start)
                return opened.read(stop - start)
        except OSError as error:
            raise DataError(f"{self.path}: cannot be read ({error}); check its permissions and its disk") from None

    def cuts(self, size: int, newlines: bool) -> list[int]:
        """Where rows begin, about every ``size`` bytes, and where the file ends."""
        quoted = newlines or any(b'"' in piece for _, piece in self.sample)
        inner = self._quoted_cuts(size) if quoted else self._plain_cuts(size)
        return [self.body, *inner, self.place.size]

    def blocks(self) -> Iterator[tuple[int, bytes]]:
        """(first byte, whole records) of a packed file."""
        held, start, skip, want = b"", self.body, self.body, _PACKED_BLOCK
        for piece in self.places.stream(self.place):
            if skip >= len(piece):
                skip -= len(piece)
                continue
            held += piece[skip:]
            skip = 0
            if len(held) < want:
                continue
            end = _last_even_line_end(held)
            if end:
                yield start, held[:end]
                held, start, want = held[end:], start + end, _PACKED_BLOCK
            elif len(held) > LONGEST_LINE:
                raise DataError(
                    f"{self.place.path}: a line from byte {start} on is longer than {LONGEST_LINE} bytes, or has a "
                    "quote that is never closed; correct it"
                )
            else:
                want = 2 * len(held)  # a long line: looked through again when there is twice as much
        if held:
            yield start, held

    def pieces(self, start: int, stop: int) -> Iterator[bytes]:
        """The unpacked bytes from ``start`` to ``stop``, whatever the file is."""
        if not self.packed:
            for at in range(start, stop, _COUNTED):
                yield self.between(at, min(at + _COUNTED, stop))
            return
        at = 0
        for piece in self.places.stream(self.place):
            if at + len(piece) > start:
                yield piece[max(start - at, 0) : stop - at]
            at += len(piece)
            if at >= stop:
                return

    def lines_before(self, stop: int) -> int:
        """Line ends (LF, CR LF, CR) before the byte ``stop``."""
        ends = 0
        last = b""
        for piece in self.pieces(0, stop):
            ends += piece.count(b"\n") + piece.count(b"\r") - (last + piece).count(b"\r\n")
            last = piece[-1:] if piece.endswith(b"\r") else b""
        return ends

    def _piece(self, at: int) -> tuple[int, bytes]:
        """Whole lines at ``at``, if no quoted field runs over their ends."""
        data = self.between(at, at + PIECE)
        start = data.find(b"\n") + 1
        piece = data[start : data.rfind(b"\n") + 1]
        return at + start, b"" if block.ends_open(piece, self.form.delimiter) is not None else piece

    def _plain_cuts(self, size: int) -> list[int]:
        cuts: list[int] = []
        for nominal in range(self.body + size, self.place.size, size):
            if not cuts or nominal > cuts[-1]:
                cuts.append(self._line_end(nominal))
        return cuts

    def _line_end(self, at: int) -> int:
        """The byte behind the first line end at or behind ``at``."""
        while at < self.place.size:
            found = self.between(at, at + PIECE).find(b"\n")
            if found >= 0:
                return at + found + 1
            at += PIECE
        return self.place.size

    def _quoted_cuts(self, size: int) -> list[int]:
        """Cuts behind line ends before which the number of quotes is even."""
        cuts: list[int] = []
        quotes = 0
        for start in range(self.body, self.place.size, size):
            data = self.between(start, min(start + size, self.place.size))
            cut = _even_line_end(data, quotes) if start > self.body else 0
            cuts += [start + cut] if cut else []
            quotes += data.count(b'"')
        return cuts


def _even_line_end(data: bytes, quotes: int) -> int:
    """The byte behind the first line end with an even number of quotes before it, ``quotes`` of them before ``data``;
    0 if there is none.
    """
    at = 0
    while (end := data.find(b"\n", at) + 1) > 0:
        quotes += data.count(b'"', at, end)
        if quotes % 2 == 0:
            return end
        at = end
    return 0


def _last_even_line_end(data: bytes) -> int:
    """The byte behind the last such line end, where no quote comes before ``data``."""
    quotes, end = data.count(b'"'), len(data)
    while (cut := data.rfind(b"\n", 0, end) + 1) > 0:
        quotes -= data.count(b'"', cut, end)
        if quotes % 2 == 0:
            return cut
        end = cut - 1
    return 0


def check_same(first: CsvFile, other: CsvFile) -> None:
    """DataError where two files do not have the same columns, in whatever order."""
    if set(first.names) == set(other.names):
        return
    where = f"{other.path}: line 1"
    if not first.form.header:
        raise DataError(
            f"{where}: found {len(other.names)} columns, expected {len(first.names)} as in {first.path}; "
            "give files of one kind"
        )
    if not set(first.names) & set(other.names) and len(first.names) == len(other.names):
        header = ", ".join(first.names[:5]) + (", …" if len(first.names) > 5 else "")
        raise DataError(
            f"{where}: found {other.names[0]!r}, expected the header of {first.path} ({header}); write the same header "
            "to each file"
        )
    lacking = [name for name in first.names if name not in other.names]
    extra = [name for name in other.names if name not in first.names]
    if lacking:
        import difflib

        near = difflib.get_close_matches(lacking[0], extra, 1)
        hint = f" (but {near[0]!r})" if near else ""
        raise DataError(
            f"{where}: has no column {lacking[0]!r}{hint}, expected the columns of {first.path}; give files of one kind"
        )
    raise DataError(
        f"{where}: found a column {extra[0]!r} that {first.path} lacks, expected the same columns; "
        "give files of one kind"
    )
