# ruff: noqa: E501 - messages are kept in one piece where they can be
"""Inputs that are no good to the readers of places, LIBSVM, IDX, text, ratings, images and generated rows, and what is said.

``BAD`` is used by the tests, and is what a page of bad inputs can be made from.
"""

import gzip
import io
import lzma
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from trivium.data.frame import Source
from trivium.data.sources.places import format_of, resolve
from trivium.data.sources.registry import source_of
from trivium.errors import DataError

__all__ = ["BAD", "BadMatrix", "fault_of"]

Files = Mapping[str, bytes]


@dataclass(frozen=True)
class BadMatrix:
    """``files`` by name in an empty folder; ``given`` what is asked for below it; ``says`` the error, where ``{at}`` is
    the folder. ``format`` is told where it is not found out.
    """

    name: str
    files: Callable[[], Files]
    says: str
    given: str = ""
    format: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


def fault_of(bad: BadMatrix, folder: Path) -> str:
    """What reading says, with ``{at}`` for the folder; raises where nothing is wrong."""
    for name, content in bad.files().items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    try:
        places = resolve(str(folder / bad.given))
        source: Source = source_of(format_of(places, bad.format), places, dict(bad.options))
        source.fields()
        for _ in source.frames(threads=2):
            pass
    except DataError as error:
        return str(error).replace(str(folder), "{at}")
    raise AssertionError(f"nothing is wrong with {bad.name}")


def _file(content: bytes | str, name: str = "rows") -> Callable[[], Files]:
    return lambda: {name: content.encode() if isinstance(content, str) else content}


def _idx(rows: int, labels: int, cut: int = 0, magic: bytes = b"\0\0\x08\x03") -> Callable[[], Files]:
    def made() -> Files:
        images = magic + struct.pack(">3I", rows, 2, 2) + bytes(4 * rows)
        return {
            "train-images-idx3-ubyte": images[: len(images) - cut],
            "train-labels-idx1-ubyte": b"\0\0\x08\x01" + struct.pack(">I", labels) + bytes(labels),
        }

    return made


def _png(*shapes: tuple[int, ...], cut: int = 0) -> Callable[[], Files]:
    def made() -> Files:
        from PIL import Image

        found = {}
        for at, shape in enumerate(shapes):
            sink = io.BytesIO()
            Image.fromarray(np.full(shape, at, np.uint8)).save(sink, "PNG")
            content = sink.getvalue()
            found[f"{'ab'[at % 2]}/{at}.png"] = content[: len(content) - cut]
        return found

    return made


def _and(files: Callable[[], Files], **more: bytes) -> Callable[[], Files]:
    return lambda: {**files(), **{name.replace("__", "/").replace("_", "."): content for name, content in more.items()}}


_ROWS = b"".join(b"1 %d:%d\n" % (i, i * 7919 % 1000) for i in range(1, 3000))
_WIDE = "expected 'label index:value …'; correct the line"
_FORMATS = "formats that can be read: arrow, csv, idx, images, libsvm, parquet, ratings, sklearn, synthetic, text, tsv"

BAD: tuple[BadMatrix, ...] = (
    # where it lies
    BadMatrix(
        "a name that is slightly wrong",
        _file("1 1:1\n", "train.libsvm"),
        "{at}/train.libsvn: no such file; did you mean {at}/train.libsvm?",
        "train.libsvn",
    ),
    BadMatrix(
        "a folder that is not there",
        _file("", "a"),
        "{at}/no/rows: no such file; its folder {at}/no does not exist either; check the path",
        "no/rows",
    ),
    BadMatrix(
        "an empty file", _file(""), "{at}/rows: is empty, expected at least one row; check how it was written", "rows"
    ),
    BadMatrix(
        "a folder without data",
        _file("hello", "README.md"),
        "{at}: a folder without a file to read; check the path, or name the files",
    ),
    BadMatrix(
        "a folder of empty files",
        _file("", "part-0"),
        "{at}: 1 files, all empty (as {at}/part-0); check how they were written",
    ),
    BadMatrix(
        "a pattern without a match",
        _file("1 1:1\n", "a.svm"),
        "{at}/*.csv: no file matches this pattern; {at} has a.svm; check the path, or name the files",
        "*.csv",
    ),
    # what it is
    BadMatrix(
        "a zip archive",
        _file(b"PK\x03\x04...."),
        "{at}/rows: this is a zip archive (or .npz, .xlsx); unpack it, or save it as CSV; " + _FORMATS,
        "rows",
    ),
    BadMatrix(
        "an HDF5 file",
        _file(b"\x89HDF\r\n"),
        "{at}/rows: this is an HDF5 file; load it and use from_arrays or from_pandas; " + _FORMATS,
        "rows",
    ),
    BadMatrix(
        "a pickle",
        _file(b"\x80\x04\x95."),
        "{at}/rows: this is a pickle, which is never read; load it and use from_arrays; " + _FORMATS,
        "rows",
    ),
    BadMatrix(
        "JSON",
        _file('{"a": 1}'),
        "{at}/rows: this is JSON; load it and use from_pandas, or write it as CSV or Parquet; " + _FORMATS,
        "rows",
    ),
    BadMatrix(
        "packed with bzip2",
        _file(b"BZh91AY&SY"),
        "{at}/rows: this is packed with bzip2; unpack it or pack it with gzip; " + _FORMATS,
        "rows",
    ),
    BadMatrix(
        "packed with zstd",
        _file(b"\x28\xb5\x2f\xfd.."),
        "{at}/rows: this is packed with zstd; unpack it or pack it with gzip; " + _FORMATS,
        "rows",
    ),
    BadMatrix(
        "UTF-16 text",
        _file("a,b\n".encode("utf-16")),
        "{at}/rows: this is UTF-16 text; save it as UTF-8; " + _FORMATS,
        "rows",
    ),
    BadMatrix(
        "a program",
        _file(b"\x7fELF\0\0\0\0"),
        "{at}/rows: this is no known format (it starts with b'\\x7fELF\\x00\\x00\\x00\\x00'); " + _FORMATS,
        "rows",
    ),
    BadMatrix(
        "text that may be anything",
        _file("hello world\n"),
        "{at}/rows: cannot tell its format (a line begins 'hello world'); say it: format='libsvm', 'csv', 'tsv', "
        "'ratings', or 'text' for one document a line",
        "rows",
    ),
    BadMatrix(
        "a folder of two formats",
        _and(_file("a,b\n1,2\n", "a.csv"), b_svm=b"1 1:1\n"),
        "{at}: holds csv (a.csv) and libsvm (b.svm), expected one format; give a pattern such as *.csv",
    ),
    BadMatrix(
        "a format that it plainly has not",
        _idx(1, 1),
        "{at}/train-images-idx3-ubyte: format='csv', but its content is idx; leave format out",
        "train-images-idx3-ubyte",
        "csv",
    ),
    # LIBSVM
    BadMatrix(
        "a word for a label",
        _file("1 1:1\nspam 1:1\n1 1:2\n"),
        "{at}/rows: line 2: label 'spam' is no finite float32 number, " + _WIDE,
        "rows",
    ),
    BadMatrix(
        "indices from 0",
        _file("1 0:1\n"),
        "{at}/rows: line 1: found '0:1', expected indices from 1; the file counts from 0: add 1 to every index",
        "rows",
    ),
    BadMatrix(
        "indices out of order",
        _file("\n# c\n1 3:1 2:1\n"),
        "{at}/rows: line 3: found '2:1' behind an index as high or higher, expected increasing indices; sort each row",
        "rows",
    ),
    BadMatrix(
        "a value that is not a number",
        _file("1 4:nan\n"),
        "{at}/rows: line 1: found '4:nan', expected a finite value; leave the column out of the row or fill it in",
        "rows",
    ),
    BadMatrix(
        "more bad rows than allowed",
        _file("1 1:1\nx 1:1\n1 1:1\n1 y\n1 1:1\n1 0:2\n1 1:1\n"),
        "{at}/rows: line 6: found '0:2', expected indices from 1; the file counts from 0: add 1 to every index (bad row 3; "
        "at most max_bad_rows=2 are passed over)",
        "rows",
        options={"max_bad_rows": 2},
    ),
    BadMatrix(
        "only comments",
        _file("# nothing\n\n"),
        "{at}/rows: has no row in 2 lines, expected lines of 'label index:value …'; check how it was written",
        "rows",
        "libsvm",
    ),
    BadMatrix(
        "gzip that was cut short",
        _file(gzip.compress(_ROWS)[:-100]),
        f"{{at}}/rows: ends in the middle of its gzip data after {len(gzip.compress(_ROWS)) - 100} bytes, expected an end "
        "mark; the file was cut short: fetch or pack it again",
        "rows",
    ),
    BadMatrix(
        "xz with more behind it",
        _file(lzma.compress(_ROWS) + b"more"),
        "{at}/rows: b'more' follows the end of its xz data, expected nothing more; fetch or pack the file again",
        "rows",
    ),
    # IDX
    BadMatrix(
        "an IDX file that was cut short",
        _idx(3, 3, 1),
        "{at}/train-images-idx3-ubyte: ends after 11 bytes of data, "
        "expected 12 ((3, 2, 2)); it was cut short: fetch it again",
    ),
    BadMatrix(
        "fewer labels than images",
        _idx(3, 2),
        "{at}/train-images-idx3-ubyte: holds 3 images, but train-labels-idx1-ubyte 2 labels; fetch both again",
    ),
    BadMatrix(
        "an IDX file with a wrong magic",
        _idx(3, 3, 0, b"spam"),
        "{at}/train-images-idx3-ubyte: starts with b'spam', expected an IDX magic (0, 0, type, dimensions)",
    ),
    BadMatrix(
        "an IDX file of floats",
        _idx(3, 3, 0, b"\0\0\x0d\x03"),
        "{at}/train-images-idx3-ubyte: holds float32 (type "
        "code 0x0d), expected uint8 (0x08); load it with NumPy and use from_arrays",
    ),
    BadMatrix(
        "no test part",
        _idx(3, 3),
        "{at}: has no t10k-images* file, expected one for part='test'; fetch it",
        options={"part": "test"},
    ),
    # text
    BadMatrix(
        "a document without a label",
        _file("a\tfine film\nb\tbad bore\nno label\n", "t.txt"),
        "{at}/t.txt: line 3: found no tab in 'no label', expected label<TAB>text; correct the line",
        "t.txt",
        "text",
    ),
    BadMatrix(
        "a third column",
        _file("a\tfine\tfilm\n", "t.txt"),
        "{at}/t.txt: line 1: found 3 columns, expected two, "
        "label<TAB>text; read it with format='tsv', or replace the tabs in the text",
        "t.txt",
        "text",
    ),
    BadMatrix(
        "a word among numbers",
        _file("1\tfine film\n0\tbad bore\n\nx\tno film\n", "t.txt"),
        "{at}/t.txt: line 4: label 'x' is no finite number as the first labels are; correct it, or name all classes",
        "t.txt",
        "text",
    ),
    BadMatrix(
        "Latin-1",
        _file("1\tfine film\n1\tcaf\xe9 film\n".encode("latin-1"), "t.txt"),
        "{at}/t.txt: line 2: found b'\\xe9 fi', which is not UTF-8 text; convert the file (iconv -t UTF-8)",
        "t.txt",
    ),
    # ratings
    BadMatrix(
        "a rating that is a word",
        _file("user item rating\n1 2 3\n1 3 good\n"),
        "{at}/rows: line 3: rating 'good' is no finite number; correct the line",
        "rows",
    ),
    BadMatrix(
        "a rating without an item",
        _file("user,item,rating\n1,2,3\n1,4\n"),
        "{at}/rows: line 3: found 2 columns, expected 3 as in the first line; correct the line",
        "rows",
    ),
    BadMatrix(
        "a user that is no number",
        _file("1\t2\t3\n2\t2\t3\n\nu7\t2\t3\n"),
        "{at}/rows: line 4: user 'u7' is no whole "
        "number as the first ones are; correct it, or read the file with format='csv' and types='category'",
        "rows",
        "ratings",
    ),
    BadMatrix(
        "a table of two columns",
        _file("1 2\n"),
        "{at}/rows: line 1: found 2 columns in '1 2', expected user, item, "
        "rating and perhaps a time; read other tables with format='csv'",
        "rows",
        "ratings",
    ),
    # images
    BadMatrix(
        "images of two sizes",
        _png((4, 3), (4, 5)),
        "{at}/b/1.png: has 4 × 5 pixels, expected 4 × 3 as {at}/a/0.png; bring all to one size, or use resize=(4, 3)",
    ),
    BadMatrix(
        "a coloured image among grey ones",
        _png((4, 3), (4, 3, 3)),
        "{at}/b/1.png: is in colour, expected grey as {at}/a/0.png; convert one or the other",
    ),
    BadMatrix(
        "an image in no class folder",
        _and(_png((4, 3), (4, 3)), c_png=b"\x89PNG\r\n"),
        "{at}/c.png: lies in no class folder as others do, expected FOLDER/CLASS/FILE; move it to one",
    ),
    BadMatrix(
        "something else among images",
        _and(_png((4, 3), (4, 3)), b__notes_csv=b"a,b\n"),
        "{at}/b/notes.csv: lies among "
        "images, expected PNG or JPEG (.png, .jpg, .jpeg); move it, or name a pattern such as */*.png",
        format="images",
    ),
)
