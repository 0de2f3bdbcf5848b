"""The bytes of a file, plain, gzip or xz, in pieces, hashed as they are read.

What a file is follows from its first bytes, never from its name. Memory stays at one piece, whatever it unpacks to.
"""

from __future__ import annotations

import hashlib
import lzma
import os
import stat
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, Protocol

from trivium.errors import DataError

__all__ = ["BOM", "GZIP_MAGIC", "XZ_MAGIC", "ByteStream", "is_folder", "neighbours", "regular_file"]

GZIP_MAGIC = b"\x1f\x8b"
BOM = b"\xef\xbb\xbf"  # of UTF-8
XZ_MAGIC = b"\xfd7zXZ\x00"
_RAW_PIECE = 1 << 18
_PIECE = 1 << 20


def is_folder(path: Path) -> bool:
    """Whether ``path`` is a folder, as far as this process may look; opening it tells the rest."""
    try:
        return path.is_dir()
    except OSError:  # a folder above it is closed to us, or the name is too long
        return False


def regular_file(path: str | os.PathLike[str]) -> Path:
    """``path`` if it is a file with something in it; otherwise a DataError that says what it is."""
    given = Path(path)
    try:
        found = given.stat()
    except FileNotFoundError:
        raise DataError(f"{given}: no such file; {neighbours(given)}") from None
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        raise DataError(f"{given}: cannot be opened ({error}); give the path of a file that can be read") from None
    if stat.S_ISDIR(found.st_mode):
        raise DataError(f"{given}: is a folder, expected a file; name one of its files")
    if not stat.S_ISREG(found.st_mode):
        raise DataError(f"{given}: is a device or a pipe, expected a file; save what it sends to a file first")
    if found.st_size == 0:
        raise DataError(f"{given}: is empty, expected at least one row; check how it was written")
    return given


def neighbours(missing: Path) -> str:
    """What to say of a path that is not there: the nearest name beside it, or that its folder is missing too."""
    folder = missing.parent
    if not folder.is_dir():
        return f"its folder {folder} does not exist either; check the path"
    import difflib

    near = difflib.get_close_matches(missing.name, [entry.name for entry in folder.iterdir()], n=1)
    return f"did you mean {folder / near[0]}?" if near else "check the path"


class ByteStream:
    """Iterate once over the unpacked bytes of ``path``; then ``fingerprint`` is the SHA-256 of size and raw bytes.

    A file that is not this machine's own comes with its ``size`` and with ``opener``, which opens it for reading and
    seeking. Raises ``DataError`` where the file cannot be read, or is packed and cut short or damaged.
    """

    def __init__(
        self, path: str | os.PathLike[str], size: int = 0, opener: Callable[[], BinaryIO] | None = None
    ) -> None:
        self.path = regular_file(path) if opener is None else Path(path)
        self._size = self.path.stat().st_size if opener is None else size
        self._open = opener or (lambda: self.path.open("rb"))
        self._hash = hashlib.sha256(f"{self._size}\n".encode())
        self._read = self._given = 0  # bytes, as they lie on the disk and unpacked

    def __iter__(self) -> Iterator[bytes]:
        try:
            with self._open() as file:
                for piece in self._unpacked(file):
                    self._given += len(piece)
                    yield piece
        except OSError as error:
            raise DataError(f"{self.path}: cannot be read ({error}); check its permissions and its disk") from None

    @property
    def packed(self) -> bool:
        """Whether the file is gzip or xz, by its first bytes."""
        try:
            with self._open() as file:
                return file.read(len(XZ_MAGIC)).startswith((GZIP_MAGIC, XZ_MAGIC))
        except OSError as error:
            raise DataError(f"{self.path}: cannot be read ({error}); check its permissions and its disk") from None

    @property
    def fingerprint(self) -> str:
        """Hexadecimal SHA-256 over the size and the bytes read so far, as they lie on the disk."""
        return self._hash.hexdigest()

    @property
    def expected(self) -> float:
        """Unpacked bytes that there will be in all, if the rest is packed as what came so far."""
        return self._given * self._size / max(self._read, 1)

    def head(self, size: int) -> bytes:
        """The first ``size`` unpacked bytes, or fewer if there are no more; hashes nothing."""
        parts = b""
        for piece in ByteStream(self.path, self._size, self._open):
            parts += piece[:size]
            if len(parts) >= size:
                break
        return parts[:size]

    def _unpacked(self, file: BinaryIO) -> Iterator[bytes]:
        start = file.read(len(XZ_MAGIC))
        file.seek(0)
        if start.startswith(GZIP_MAGIC):
            yield from self._members(file, "gzip", GZIP_MAGIC)
        elif start == XZ_MAGIC:
            yield from self._members(file, "xz", XZ_MAGIC)
        else:
            yield from self._raw(file, _PIECE)

    def _raw(self, file: BinaryIO, size: int) -> Iterator[bytes]:
        while piece := file.read(size):
            self._hash.update(piece)
            self._read += len(piece)
            yield piece

    def _members(self, file: BinaryIO, kind: str, magic: bytes) -> Iterator[bytes]:
        """Both formats allow several streams after one another, and zero bytes between and behind them."""
        raw = self._raw(file, _RAW_PIECE)
        packed = next(raw, b"")
        while packed:
            unpacker: _Unpacker = _Gzip() if kind == "gzip" else _Xz()
            yield from self._member(unpacker, packed, raw, kind)
            packed = unpacker.rest.lstrip(b"\0")
            while len(packed) < len(magic) and (more := next(raw, b"")):
                packed = (packed + more).lstrip(b"\0")
            if packed and not packed.startswith(magic):
                raise DataError(
                    f"{self.path}: {packed[:8]!r} follows the end of its {kind} data, expected nothing more; fetch or "
                    "pack the file again"
                )

    def _member(self, unpacker: _Unpacker, packed: bytes, raw: Iterator[bytes], kind: str) -> Iterator[bytes]:
        while not unpacker.ended:
            try:
                piece = unpacker.take(packed)
            except (zlib.error, lzma.LZMAError, EOFError) as error:
                raise DataError(f"{self.path}: damaged {kind} data ({error}); fetch or pack the file again") from None
            if piece:
                yield piece
            packed = b""
            if unpacker.hungry and not unpacker.ended:
                packed = next(raw, b"")
                if not packed and not piece:
                    raise DataError(
                        f"{self.path}: ends in the middle of its {kind} data after {self._size} bytes, expected an end "
                        "mark; the file was cut short: fetch or pack it again"
                    )


class _Unpacker(Protocol):
    """One compressed stream. ``hungry``: it needs more input; ``rest``: input behind its end."""

    def take(self, packed: bytes) -> bytes: ...

    @property
    def hungry(self) -> bool: ...

    @property
    def ended(self) -> bool: ...

    @property
    def rest(self) -> bytes: ...


class _Gzip:
    def __init__(self) -> None:
        self._inner = zlib.decompressobj(wbits=31)

    def take(self, packed: bytes) -> bytes:
        return self._inner.decompress(self._inner.unconsumed_tail + packed, _PIECE)

    @property
    def hungry(self) -> bool:
        return not self._inner.unconsumed_tail

    @property
    def ended(self) -> bool:
        return self._inner.eof

    @property
    def rest(self) -> bytes:
        return self._inner.unused_data


class _Xz:
    def __init__(self) -> None:
        self._inner = lzma.LZMADecompressor(format=lzma.FORMAT_XZ)

    def take(self, packed: bytes) -> bytes:
        return self._inner.decompress(packed, _PIECE)

    @property
    def hungry(self) -> bool:
        return self._inner.needs_input

    @property
    def ended(self) -> bool:
        return self._inner.eof

    @property
    def rest(self) -> bytes:
        return self._inner.unused_data
