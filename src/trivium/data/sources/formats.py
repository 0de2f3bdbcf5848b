"""Which format data has: by what is in it, through gzip and xz, then by its name.

Rules
-----
* Content decides where it is clear: a magic number, ``index:value`` pairs, a header ``user item rating``, class folders
  of images, ``label<TAB>text`` in a ``.txt``.
* Otherwise the name does (``.csv``, ``.tsv``), then what separates the columns.
* A file that is neither is never guessed at: the error says which formats can be asked for.
"""

from __future__ import annotations

import re
from pathlib import PurePath
from typing import TYPE_CHECKING

from trivium.data.sources.idx import is_idx
from trivium.errors import DataError, unknown

if TYPE_CHECKING:
    from trivium.data.sources.places import Place, Places

__all__ = ["FORMATS", "MADE", "format_of", "looks_like_ratings"]

FORMATS = (
    "arrow", "csv", "idx", "images", "libsvm", "parquet", "ratings", "sklearn", "synthetic", "text", "tsv",
)  # fmt: skip
MADE = ("synthetic", "sklearn")  # names that need no file
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")
_HEAD = 1 << 15
_LINES = 20
_MAGIC = {
    b"PAR1": "parquet",
    b"ARROW1": "arrow",
    b"\xff\xff\xff\xff": "arrow",  # a stream of record batches
    b"\x89PNG\r\n": "images",
    b"\xff\xd8\xff": "images",
}
_FOREIGN = {
    b"\x93NUMPY": "a NumPy file; load it with numpy.load and use from_arrays",
    b"PK\x03\x04": "a zip archive (or .npz, .xlsx); unpack it, or save it as CSV",
    b"\x89HDF": "an HDF5 file; load it and use from_arrays or from_pandas",
    b"BZh": "packed with bzip2; unpack it or pack it with gzip",
    b"\x28\xb5\x2f\xfd": "packed with zstd; unpack it or pack it with gzip",
    b"\x04\x22\x4d\x18": "packed with lz4; unpack it or pack it with gzip",
    b"7z\xbc\xaf": "a 7-zip archive; unpack it",
    b"FEA1": "a Feather file of version 1; write it as Arrow or Parquet",
    b"ORC": "an ORC file; write it as Parquet",
    b"Obj\x01": "an Avro file; write it as Parquet",
    b"SQLite format 3": "an SQLite database; write the table as CSV or Parquet",
    b"%PDF": "a PDF",
    b"GIF8": "a GIF image; save it as PNG",
    b"BM": "a bitmap image; save it as PNG",
    b"RIFF": "a WebP image or a sound; save images as PNG",
    b"\xff\xfe": "UTF-16 text; save it as UTF-8",
    b"\xfe\xff": "UTF-16 text; save it as UTF-8",
    b"\x80\x02": "a pickle, which is never read; load it and use from_arrays",
    b"\x80\x03": "a pickle, which is never read; load it and use from_arrays",
    b"\x80\x04": "a pickle, which is never read; load it and use from_arrays",
    b"\x80\x05": "a pickle, which is never read; load it and use from_arrays",
    b"{": "JSON; load it and use from_pandas, or write it as CSV or Parquet",
    b"[": "JSON or a settings file; load it and use from_pandas",
    b"<": "HTML or XML; save it as CSV",
}
_SUFFIXES = {
    ".csv": "csv", ".tsv": "tsv", ".tab": "tsv", ".parquet": "parquet", ".pq": "parquet", ".arrow": "arrow",
    ".arrows": "arrow", ".feather": "arrow", ".ipc": "arrow", ".libsvm": "libsvm", ".svm": "libsvm",
    ".svmlight": "libsvm", ".ratings": "ratings", **dict.fromkeys(IMAGE_SUFFIXES, "images"),
}  # fmt: skip
_TEXTUAL = ("csv", "tsv", "libsvm", "text", "ratings")
_PAIR = re.compile(rb"[^\s:,]+:[^\s,]*")
_NUMBER = re.compile(rb"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?(,[+-]?\d+)*")
_RATINGS = (re.compile(r"(user|u)([ _-]?id)?"), re.compile(r"[a-z]*([ _-]?id)"), re.compile(r"ratings?|feedback|score"))
_TIMES = ("timestamp", "time", "date")


def format_of(places: Places, given: str | None = None) -> str:
    """The format of ``places``, one of ``FORMATS``; ``given`` wins where it is not plainly wrong.

    >>> from trivium.data.sources.places import resolve
    >>> format_of(resolve("synthetic:30x4"))
    'synthetic'

    Raises ``DataError``: an unknown ``given``, a format that cannot be read, files of several formats, or none clear.
    """
    if given is not None and given not in FORMATS:
        raise DataError(unknown("format", given, FORMATS))
    scheme = places.name.partition(":")[0]
    if not places.files:
        if given not in (None, scheme):
            raise DataError(f"format={given!r}: {places.name} is made, not read; leave format out")
        return scheme
    if given in MADE:
        raise DataError(f"{places.name}: format={given!r} is for names such as {given}:…; leave format out")
    if _is_idx_pair(places) and given in (None, "idx"):
        return "idx"
    kinds = _named(places)
    if given is None and len(kinds) > 1:
        (one, first), (two, second) = list(kinds.items())[:2]
        raise DataError(
            f"{places.name}: holds {one} ({_short(places, first)}) and {two} ({_short(places, second)}), expected "
            f"one format; give a pattern such as *{PurePath(first.path).suffix}"
        )
    return _of_file(places, places.files[0], given)


def _is_idx_pair(places: Places) -> bool:
    """Images and their labels, each in a file of its own."""
    return any(re.search(r"(^|[-_.])images[-_.]idx", PurePath(place.path).name) for place in places.files)


def _named(places: Places) -> dict[str, Place]:
    """The formats that suffixes tell, each with its first file."""
    kinds: dict[str, Place] = {}
    for place in places.files:
        kinds.setdefault(_of_name(place) or "files without a telling name", place)
    return kinds


def _short(places: Places, place: Place) -> str:
    return place.path.removeprefix(places.root or "").lstrip("/") if places.root else PurePath(place.path).name


def _of_name(place: Place) -> str | None:
    path = PurePath(place.path.lower())
    while path.suffix in (".gz", ".xz"):
        path = path.with_suffix("")
    return _SUFFIXES.get(path.suffix)


def _of_file(places: Places, place: Place, given: str | None) -> str:
    start = places.stream(place).head(_HEAD)
    found = "idx" if is_idx(start) else next((kind for magic, kind in _MAGIC.items() if start.startswith(magic)), None)
    if found:
        if given not in (None, found):
            raise DataError(f"{place.path}: format={given!r}, but its content is {found}; leave format out")
        return found
    if given in _TEXTUAL and b"\0" not in start:
        return given
    foreign = next((what for magic, what in _FOREIGN.items() if start.startswith(magic)), None)
    if foreign is None and b"\0" in start:
        foreign = f"no known format (it starts with {start[:8]!r})"
    if foreign:
        raise DataError(f"{place.path}: this is {foreign}; formats that can be read: {', '.join(FORMATS)}")
    if given is not None:
        raise DataError(
            f"{place.path}: format={given!r}, but it starts with {start[:8]!r}; check the file, or the format"
        )
    return _of_text(place, _lines(start))


def _lines(start: bytes) -> list[bytes]:
    """The first whole lines that hold data (a part of one where there is no whole one)."""
    lines = start.removeprefix(b"\xef\xbb\xbf").splitlines()
    if len(lines) > 1 and len(start) >= _HEAD:
        lines = lines[:-1]
    return [line for line in lines if line.strip() and not line.lstrip().startswith(b"#")][:_LINES]


def _of_text(place: Place, lines: list[bytes]) -> str:
    named = _of_name(place)
    if lines and sum(map(_is_libsvm, lines)) * 2 >= len(lines):
        return "libsvm"
    if lines and looks_like_ratings(lines[0].decode("utf-8", "replace")):
        return "ratings"
    if named in _TEXTUAL:
        return named
    if lines and PurePath(place.path).suffix == ".txt" and all(map(_is_labelled_text, lines)):
        return "text"
    for mark, kind in ((b"\t", "tsv"), (b",", "csv"), (b";", "csv"), (b"|", "csv")):
        if lines and lines[0].count(mark) and all(line.count(mark) == lines[0].count(mark) for line in lines):
            return kind
    shown = (lines[0] if lines else b"")[:40].decode("utf-8", "backslashreplace")
    raise DataError(
        f"{place.path}: cannot tell its format (a line begins {shown!r}); say it: format='libsvm', 'csv', 'tsv', "
        "'ratings', or 'text' for one document a line"
    )


def _is_libsvm(line: bytes) -> bool:
    words = line.split(b"#", 1)[0].split()
    return len(words) > 1 and bool(_NUMBER.fullmatch(words[0])) and all(map(_PAIR.fullmatch, words[1:]))


def _is_labelled_text(line: bytes) -> bool:
    label, tab, text = line.partition(b"\t")
    return bool(tab) and b"\t" not in text and len(label.split()) == 1 and len(text.split()) > 1


def looks_like_ratings(line: str) -> bool:
    r"""Whether ``line`` is the header of ratings: user, item and rating, and perhaps a time.

    >>> looks_like_ratings("user\titem\trating"), looks_like_ratings("User_ID,Anime_ID,Feedback")
    (True, True)
    >>> looks_like_ratings("age,height,score")
    False
    """
    words = [word.strip("\"' ").lower() for word in re.split(r"[\t,; ]+", line.strip())]
    if len(words) == 4 and words[3] in _TIMES:
        words.pop()
    if len(words) != 3:
        return False
    user, item, rating = words
    names = all(form.fullmatch(word) for form, word in zip(_RATINGS, words, strict=True))
    return names or (bool(_RATINGS[0].fullmatch(user)) and item == "item" and bool(_RATINGS[2].fullmatch(rating)))
