"""The cache on disk: rows that were read once, ready to be mapped by whoever trains on them.

Rules
-----
* An entry is a folder named by a key, which says all that its rows follow from: the source's stamp, what was asked for,
  the steps of preparation. Whatever changes makes another key; nothing is ever updated.
* It is written beside its place and renamed into it when it is whole. Two writers of one key do the work twice.
* What the system has not yet brought to the disk when the machine goes down is lost: an entry says during which boot it
  was written, and after another one counts only if it was flushed before.
* Beyond ``limit`` bytes the entries not used for longest go. Whoever has one mapped keeps it: the system frees the
  blocks with their last user.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from trivium.data.table import Csr, Mapped, Table
from trivium.errors import StorageError

__all__ = ["Cache", "Draft", "cache_folder"]

log = logging.getLogger(__name__)
VERSION = 1
SHARE = 0.5  # of what the disk has for us, cache included
MOST = 200 << 30
SETTLED = 60.0  # seconds after which the system has most likely written all by itself
ABANDONED = 86_400.0  # seconds after which an unfinished draft belongs to nobody


def cache_folder() -> Path:
    """The user's folder for parsed rows: in ``$XDG_CACHE_HOME``, else ``~/.cache``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "trivium" / "rows"


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


@dataclass
class Draft:
    """An entry that is being written in ``folder``; ``commit`` puts it in its place."""

    cache: Cache
    key: str
    folder: Path

    def commit(self, table: Table, extra: Mapping[str, Any]) -> Table:
        """Make the entry of ``table``, whose arrays lie in ``folder``; the same table, mapped from its place."""
        place = self.cache.root / self.key
        about = {
            "version": VERSION,
            "boot": _boot(),
            "arrays": {
                name: {"file": Path(one.path).name, "dtype": one.dtype, "shape": one.shape}
                for name, one in table.mapped.items()
            },
            "widths": {name: column.width for name, column in table.columns.items() if isinstance(column, Csr)},
            "classes": table.classes,
            "scale": table.scale,
            "name": table.name,
            "fingerprint": table.fingerprint,
            "notes": table.notes,
            "extra": dict(extra),
        }
        (self.folder / "entry.json").write_text(json.dumps(about), encoding="utf-8")
        with contextlib.suppress(OSError):  # somebody else was faster: theirs is as good
            self.folder.rename(place)
        found = self.cache.find(self.key)
        if found is None:
            raise StorageError(f"the cache in {self.cache.root} lost an entry as it was written; try again")
        return found[0]


@dataclass(frozen=True)
class Cache:
    """Entries under ``root``, of at most ``limit`` bytes together (default: half of what the disk can give)."""

    root: Path = field(default_factory=cache_folder)
    limit: int | None = None

    def find(self, key: str) -> tuple[Table, dict[str, Any]] | None:
        """The table of ``key``, mapped, and what was stored with it; None where there is no whole entry."""
        place = self.root / key
        try:
            about = json.loads((place / "entry.json").read_text(encoding="utf-8"))
            if about["version"] != VERSION or not _lasting(place, about["boot"]):
                raise ValueError("of another version, or not flushed before the machine went down")
            mapped = {
                name: Mapped(str(place / one["file"]), one["dtype"], tuple(one["shape"]))
                for name, one in about["arrays"].items()
            }
            for one in mapped.values():
                expected = int(np.prod(one.shape, dtype=np.int64)) * np.dtype(one.dtype).itemsize
                if Path(one.path).stat().st_size != expected:
                    raise ValueError(f"{one.path} has another size than it should")
            table = _table(about, mapped)
            y = table.columns.get("y")
            if (
                table.classes
                and isinstance(y, np.ndarray)
                and len(y)
                and not 0 <= y.min() <= y.max() < len(table.classes)
            ):
                raise ValueError("a label that is none of the classes")
            if not isinstance(about["extra"], dict):
                raise TypeError("no record of how it was read")
            os.utime(place / "entry.json")
        except FileNotFoundError:
            return None
        except OSError as error:  # of the moment, most likely: too many open files, a stale handle
            log.warning("passed over the cache entry %s: %s", place, error)
            return None
        except (ValueError, KeyError, TypeError) as error:
            log.info("dropped the cache entry %s: %s", place, error)
            shutil.rmtree(place, ignore_errors=True)
            return None
        return table, about["extra"]

    @contextlib.contextmanager
    def draft(self, key: str) -> Iterator[Draft]:
        """A folder to write the entry of ``key`` into; gone afterwards unless it was committed."""
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            folder = Path(tempfile.mkdtemp(prefix=f".{key[:16]}-", dir=self.root))
        except OSError as error:
            raise StorageError(
                f"cannot make the cache of parsed rows in {self.root}: {error.strerror}; name another folder by "
                "XDG_CACHE_HOME, or read without a cache"
            ) from None
        try:
            yield Draft(self, key, folder)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        self.trim()

    def entries(self) -> list[tuple[Path, int, float]]:
        """Folder, bytes and time of last use (seconds) of each entry, the one used last first."""
        found = []
        for place in self.root.iterdir() if self.root.is_dir() else ():
            with contextlib.suppress(OSError):
                if not place.name.startswith("."):
                    size = sum(file.stat().st_size for file in place.iterdir())
                    found.append((place, size, (place / "entry.json").stat().st_mtime))
        return sorted(found, key=lambda one: -one[2])

    def trim(self) -> None:
        """Remove what was used longest ago beyond the limit, but never the entry used last; and forgotten drafts."""
        entries = self.entries()
        total = sum(size for _, size, _ in entries)
        most = self._most(total)
        for place, size, _used in reversed(entries[1:]):
            if total <= most:
                break
            log.info("the cache drops %s (%d bytes)", place, size)
            shutil.rmtree(place, ignore_errors=True)
            total -= size
        for draft in self.root.glob(".*-*"):
            with contextlib.suppress(OSError):
                if time.time() - draft.stat().st_mtime > ABANDONED:
                    shutil.rmtree(draft, ignore_errors=True)

    def _most(self, total: int) -> int:
        if self.limit is not None:
            return self.limit
        try:
            return min(MOST, int(SHARE * (shutil.disk_usage(self.root).free + total)))
        except OSError:
            return MOST


def _lasting(place: Path, boot: str) -> bool:
    """Whether what was written is what will be read; flushes an entry that has settled."""
    flushed = place / "flushed"
    if flushed.exists():
        return True
    if boot != _boot():
        return False
    if time.time() - place.stat().st_mtime > SETTLED:  # the folder's time is that of its last file
        for path in place.iterdir():
            fd = os.open(path, os.O_RDONLY)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)
        with contextlib.suppress(OSError):
            flushed.touch()
    return True


def _table(about: Mapping[str, Any], mapped: dict[str, Mapped]) -> Table:
    arrays = {name: one.open() for name, one in mapped.items()}
    columns: dict[str, Any] = {}
    for name in dict.fromkeys(name.partition(".")[0] for name in arrays):
        width = about["widths"].get(name)
        if width is None:
            columns[name] = arrays[name]
        else:
            columns[name] = Csr.of(arrays, name, width)
    return Table(
        columns,
        tuple(about["classes"]),
        about["scale"],
        about["name"],
        about["fingerprint"],
        tuple(about["notes"]),
        mapped,
    )
