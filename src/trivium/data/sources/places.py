"""Where data lies: a path, a pattern, a folder, a list of paths or a URL, resolved to a sorted list of files.

Rules
-----
* A path that exists is meant as it is written, even if it holds ``*`` or ``[``. Otherwise these make it a pattern, in
  which ``**`` stands for any number of folders.
* A folder stands for all files below it, except names that begin with ``.`` or ``_`` and what people put beside data
  (``README``, licences, checksums, notes). Empty files among others are passed over, with a note.
* Local files are found by the standard library, others by ``pyarrow.fs``, which is not even imported before that.
* ``synthetic:…`` and ``sklearn:…`` are places without files: the name says everything.
"""

from __future__ import annotations

import fnmatch
import glob
import hashlib
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias
from urllib.parse import unquote, urlsplit

from trivium.data.sources.formats import MADE, format_of
from trivium.data.sources.stream import ByteStream, is_folder, neighbours, regular_file
from trivium.errors import DataError

__all__ = ["Location", "Place", "Places", "format_of", "resolve"]

Location: TypeAlias = "str | os.PathLike[str]"
REMOTE = ("s3", "gs", "gcs", "hdfs", "viewfs")
_URL = re.compile(r"[a-z][a-z0-9+.-]+://")
_WILD = re.compile(r"[*?[]")
_BESIDE = {".md", ".rst", ".html", ".pdf", ".py", ".ipynb", ".sh", ".toml", ".yaml", ".yml", ".log", ".lock", ".crc"}
_BESIDE |= {".md5", ".sha1", ".sha256", ".asc", ".sig"}
_BESIDE_NAMES = re.compile(r"(readme|licen[cs]e|copying|notice|changelog|(sha\d*|md5)sums?)(\..*)?", re.IGNORECASE)
_MOST_NAMED = 3


@dataclass(frozen=True)
class Place:
    """A file: its path as its filesystem knows it, bytes, and when it was last changed (ns since 1970; 0: not told).

    ``mark`` tells it from another with the same size and time: inode and time of change, which no copy keeps.
    """

    path: str
    size: int
    mtime_ns: int
    mark: str = ""


@dataclass(frozen=True)
class Places:
    """The files of one data set, sorted, and how to open them.

    ``name`` is what the person wrote; ``root`` the folder where one was named; ``url`` where the files are not local;
    ``notes`` what was passed over. ``files`` is empty only for data that is made (``synthetic:…``).
    """

    files: tuple[Place, ...]
    name: str
    root: str | None = None
    url: str | None = None
    notes: tuple[str, ...] = ()

    @property
    def local(self) -> bool:
        """Whether the files are this machine's own, to be opened by path."""
        return self.url is None

    @property
    def filesystem(self) -> Any:
        """The ``pyarrow.fs.FileSystem`` that knows the paths of ``files``."""
        from pyarrow import fs

        return fs.LocalFileSystem() if self.url is None else _connected(self.url)[0]

    @property
    def nbytes(self) -> int:
        """Bytes of all files, as they lie there."""
        return sum(place.size for place in self.files)

    def stream(self, place: Place) -> ByteStream:
        """The unpacked bytes of one of ``files``. Raises ``DataError``."""
        if self.local:
            return ByteStream(place.path)
        return ByteStream(place.path, place.size, self._opener(place))

    def open(self, place: Place) -> BinaryIO:
        """One of ``files``, to be read and sought in. Raises ``OSError``."""
        return Path(place.path).open("rb") if self.local else self._opener(place)()

    def stamp(self) -> str:
        """SHA-256 of all paths, sizes and times: what tells whether anything changed, without reading it."""
        lines = [self.url or "", self.name if not self.files else ""]
        lines += [f"{place.path}\0{place.size}\0{place.mtime_ns}\0{place.mark}" for place in self.files]
        return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogatepass")).hexdigest()

    def check(self) -> None:
        """Raises ``DataError`` where a local file is not any more what it was when it was looked for."""
        for place in self.files if self.local else ():
            if _place(Path(place.path)) != place:
                raise DataError(f"{place.path}: changed while it was read; let who writes it finish, and read it anew")

    def _opener(self, place: Place) -> Callable[[], BinaryIO]:
        filesystem = self.filesystem
        return lambda: filesystem.open_input_file(place.path)


def resolve(source: Location | Sequence[Location]) -> Places:
    """The files that ``source`` means: a path, a pattern, a folder, a URL (``file``, ``s3``, ``gs``, ``hdfs``), or a
    list of these.

    >>> resolve("synthetic:30x4").files
    ()

    Raises ``DataError``: nothing there (with the nearest name), an empty file, a folder or pattern without a file.
    """
    if isinstance(source, (str, os.PathLike)):
        return _one(os.fspath(source))
    parts = [_one(os.fspath(one)) for one in source]
    if not parts:
        raise DataError("an empty list of paths: expected at least one; check the pattern that made it")
    return _joined(parts)


def _one(name: str) -> Places:
    if name.partition(":")[0] in MADE and ":" in name:
        return Places((), name)
    if _URL.match(name.lower()):
        return _from_url(name)
    return _local(name, name)


def _joined(parts: Sequence[Places]) -> Places:
    urls = {part.url and _root_of(part.url) for part in parts}
    if len(urls) > 1:
        raise DataError(f"{parts[0].name} and others: not of one filesystem; give paths of one, or copy them together")
    if len(parts) > 1 and any(not part.files for part in parts):
        made = next(part.name for part in parts if not part.files)
        raise DataError(f"{made}: is made, not read, and stands alone; leave the other paths out")
    files: dict[str, Place] = {place.path: place for part in parts for place in part.files}
    named = ", ".join(part.name for part in parts[:_MOST_NAMED])
    more = f" and {len(parts) - _MOST_NAMED} more" if len(parts) > _MOST_NAMED else ""
    notes = tuple(note for part in parts for note in part.notes)
    root = parts[0].root if len(parts) == 1 else None
    return Places(tuple(files.values()), named + more, root, parts[0].url, notes)


def _from_url(url: str) -> Places:
    scheme = urlsplit(url).scheme.lower()
    if scheme == "file":
        return _local(unquote(urlsplit(url).path), url)
    if scheme in ("http", "https"):
        raise DataError(f"{url}: {scheme} is not read; download the file (curl -O {url}) and give its path")
    if scheme not in REMOTE:
        raise DataError(f"{url}: unknown scheme {scheme!r}; allowed: file, {', '.join(REMOTE)}, or a path")
    filesystem, path = _connected(url)
    return _listed(filesystem, path, url)


def _local(path: str, name: str) -> Places:
    given = Path(path).expanduser() if path.startswith("~") else Path(path)
    if is_folder(given):
        found = (entry for entry in given.rglob("*") if _is_data(entry.relative_to(given).parts))
        return _places(map(_place, _regular(found)), name, "a folder without a file to read", root=str(given))
    if _WILD.search(path) and not _exists(given):
        hits = (Path(hit) for hit in glob.iglob(str(given), recursive=True, include_hidden=False))  # noqa: PTH207 - Path.glob sees hidden names
        shown = _regular(hit for hit in hits if not hit.name.startswith("_"))
        return _places(map(_place, shown), name, f"no file matches this pattern{_first_gap(given)}")
    return Places((_place(regular_file(given)),), name)


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def _regular(paths: Iterable[Path]) -> Iterator[Path]:
    for path in paths:
        try:
            if path.is_file():
                yield path
        except OSError as error:
            raise DataError(f"{path}: cannot be looked at ({error}); check its permissions") from None


def _place(path: Path) -> Place:
    try:
        found = path.stat()
    except OSError as error:
        raise DataError(f"{path}: cannot be opened ({error}); give the path of a file that can be read") from None
    return Place(str(path), found.st_size, found.st_mtime_ns, f"{found.st_ino} {found.st_ctime_ns}")


def _is_data(parts: Sequence[str]) -> bool:
    """Whether a file below a named folder is one of its data: ``parts`` are the names on the way to it."""
    if any(part.startswith((".", "_")) for part in parts):
        return False
    return Path(parts[-1]).suffix.lower() not in _BESIDE and not _BESIDE_NAMES.fullmatch(parts[-1])


def _places(found: Iterable[Place], name: str, none: str, root: str | None = None, url: str | None = None) -> Places:
    files = sorted(found, key=lambda place: place.path)
    full = tuple(place for place in files if place.size)
    if not files:
        raise DataError(f"{name}: {none}; check the path, or name the files")
    if not full:
        raise DataError(f"{name}: {len(files)} files, all empty (as {files[0].path}); check how they were written")
    notes: tuple[str, ...] = ()
    if len(full) < len(files):
        empty = next(place.path for place in files if not place.size)
        notes = (f"passed over {len(files) - len(full)} empty files, the first {empty}",)
    return Places(full, name, root, url, notes)


def _first_gap(pattern: Path) -> str:
    """What is wrong with the part of a pattern before its first wildcard, for a message."""
    fixed = Path(*_before_wild(pattern.parts))
    if fixed.is_dir():
        near = [entry.name for entry in sorted(fixed.iterdir()) if not entry.name.startswith((".", "_"))][:_MOST_NAMED]
        return f"; {fixed} has {', '.join(near)}{', …' if len(near) == _MOST_NAMED else ''}" if near else ""
    return f"; {fixed}: no such folder, {neighbours(fixed)}"


def _before_wild(parts: Sequence[str]) -> Iterator[str]:
    for part in parts:
        if _WILD.search(part):
            return
        yield part


def _connected(url: str) -> tuple[Any, str]:
    from pyarrow import fs

    try:
        filesystem, path = fs.FileSystem.from_uri(url)
    except (OSError, ValueError, NotImplementedError) as error:
        raise DataError(f"{url}: cannot be reached ({_first_line(error)}); check the address and credentials") from None
    return filesystem, path


def _root_of(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc if parts.scheme in ('hdfs', 'viewfs') else ''}?{parts.query}"


def _listed(filesystem: Any, path: str, url: str) -> Places:
    """The files at ``path`` of a filesystem of pyarrow's: one, a pattern's, or a folder's."""
    from pyarrow import fs

    try:
        info = filesystem.get_file_info(path)
        if info.type == fs.FileType.File:
            return _places([_as_place(info)], url, "", url=url)
        if info.type == fs.FileType.Directory:
            below = [entry for entry in _below(filesystem, path) if _is_data(_relative(entry.path, path))]
            return _places(map(_as_place, below), url, "a folder without a file to read", path, url)
        if not re.search(r"[*[]", path):
            raise DataError(f"{url}: no such file or folder; check the path")
        fixed = "/".join(_before_wild(path.split("/")))
        form = re.compile(_translated(path))
        hits = [entry for entry in _below(filesystem, fixed) if form.fullmatch(entry.path) and _shown(entry.path)]
        return _places(map(_as_place, hits), url, "no file matches this pattern", url=url)
    except OSError as error:
        raise DataError(f"{url}: cannot be listed ({_first_line(error)}); check the address and credentials") from None


def _below(filesystem: Any, path: str) -> list[Any]:
    from pyarrow import fs

    selector = fs.FileSelector(path, recursive=True, allow_not_found=True)
    return [entry for entry in filesystem.get_file_info(selector) if entry.type == fs.FileType.File]


def _as_place(info: Any) -> Place:
    return Place(info.path, int(info.size or 0), int(info.mtime_ns or 0))


def _relative(path: str, root: str) -> list[str]:
    return path.removeprefix(root).strip("/").split("/")


def _shown(path: str) -> bool:
    return not path.rpartition("/")[2].startswith((".", "_"))


def _translated(pattern: str) -> str:
    """The pattern as a regular expression: ``*`` stops at a slash, ``**`` does not.

    >>> bool(re.fullmatch(_translated("a/**/*.csv"), "a/b/c/d.csv"))
    True
    """
    parts = []
    for part in pattern.split("/"):
        if part == "**":
            parts.append("(?:[^/]+/)*")
        else:
            plain = fnmatch.translate(part).removeprefix("(?s:").removesuffix(")\\Z")
            parts.append(plain.replace(".*", "[^/]*") + "/")
    return "".join(parts).removesuffix("/")


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
