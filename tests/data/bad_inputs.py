"""Tabular inputs that cannot be read as they are, how each is made, and what is said of it.

``BAD`` is used by the tests, and is what a page of bad inputs can be made from.
"""

import gzip
import lzma
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["BAD", "BadInput", "fault_of"]

Files = Mapping[str, bytes]


@dataclass(frozen=True)
class BadInput:
    """``files`` by name in an empty folder; ``options`` of the source and of the encoding; ``says`` the error, where
    ``{at}`` is the folder. ``predict``: files that are read with what was found out from ``files``.
    """

    name: str
    files: Callable[[], Files]
    says: str
    options: Mapping[str, Any] = field(default_factory=dict)
    predict: Callable[[], Files] | None = None


def _text(**files: str) -> Callable[[], Files]:
    return lambda: {name.replace("_", "."): content.encode() for name, content in files.items()}


def _parquet(**files: Mapping[str, Any]) -> Callable[[], Files]:
    def made() -> Files:
        import pyarrow as pa
        from pyarrow import parquet

        found = {}
        for name, columns in files.items():
            sink = pa.BufferOutputStream()
            parquet.write_table(pa.table(dict(columns)), sink)
            found[f"{name}.parquet"] = sink.getvalue().to_pybytes()
        return found

    return made


def _cut(files: Callable[[], Files], share: float) -> Callable[[], Files]:
    return lambda: {name: content[: int(len(content) * share)] for name, content in files().items()}


_ROWS = "age,city,label\n31,Rome,0\n7,Oslo,1\n"
_MANY = "".join(f"{i},{i * 7919 % 1000}\n" for i in range(5000))

BAD: tuple[BadInput, ...] = (
    BadInput(
        "a row with a field too few",
        _text(a_csv="age,city,label\n31,Rome,0\n7,Oslo\n"),
        "{at}/a.csv: line 3: found 2 fields, expected 3; correct the line, or pass over such rows with max_bad_rows",
    ),
    BadInput(
        "a row with a field too many",
        _text(a_csv="age,city,label\n31,Rome,0\n\n7,Oslo,1,2\n"),
        "{at}/a.csv: line 4: found 4 fields, expected 3; correct the line, or pass over such rows with max_bad_rows",
    ),
    BadInput(
        "more bad rows than allowed",
        _text(a_csv="age,label\n31,0\n7\n8,0,0\n9,1\n"),
        "{at}/a.csv: line 3: found 1 field, expected 2; correct the line, or pass over such rows with max_bad_rows "
        "(the first of 2 bad rows found so far, max_bad_rows=1)",
        {"max_bad_rows": 1},
    ),
    BadInput(
        "text where a number should be",
        _text(a_csv="age,label\n31,0\nold,1\n7,1\n"),
        "{at}/a.csv: line 3: column 'age': found 'old', expected a number; correct it, declare types={'age': "
        '"category"} if text is meant, or name it as missing, or pass over such rows with max_bad_rows',
    ),
    BadInput(
        "text where true or false should be",
        _text(a_csv="on,label\ntrue,0\nfalse,1\nmaybe,1\n"),
        "{at}/a.csv: line 4: column 'on': found 'maybe', expected true or false; correct it, declare types={'on': "
        '"category"} if text is meant, or name it as missing, or pass over such rows with max_bad_rows',
    ),
    BadInput(
        "a missing number",
        _text(a_csv="age,label\n31,0\nNA,1\n"),
        "{at}/a.csv: line 3: column 'age': found no value, expected a number; fill it in, use prep='impute' (--prep "
        "impute), or pass over such rows with max_bad_rows",
    ),
    BadInput(
        "an infinite number",
        _text(a_csv="age,label\n31,0\n-inf,1\n"),
        "{at}/a.csv: line 3: column 'age': found -inf, expected a finite number; correct it, or pass over such rows "
        "with max_bad_rows",
    ),
    BadInput(
        "a number too large for float32",
        _text(a_csv="age,label\n31,0\n1e300,1\n"),
        "{at}/a.csv: line 3: column 'age': found 1e+300, expected a number below 3.4e38 (float32); scale the column, "
        "or read it with dtype='float64'",
    ),
    BadInput(
        "a missing label",
        _text(a_csv="age,label\n31,0\n7,\n"),
        "{at}/a.csv: line 3: column 'label': found no value, expected a label, a finite number; fill it in, or pass "
        "over such rows with max_bad_rows",
    ),
    BadInput(
        "a label column that is not there",
        _text(a_csv=_ROWS),
        "{at}/a.csv: label='lable': unknown column 'lable' (did you mean 'label'?); allowed: age, city, label",
        {"label": "lable"},
    ),
    BadInput(
        "no column that is called a label",
        _text(a_csv="age,height\n31,180\n"),
        "{at}/a.csv: no column is called label, target, class or y; say which is the label, label=… (--label …): age, "
        "height",
    ),
    BadInput(
        "a negative weight",
        _text(a_csv="age,w,label\n31,1,0\n7,-1,1\n"),
        "{at}/a.csv: line 3: column 'w': found -1.0, expected a weight, 0 or more; correct it",
        {"weight": "w"},
    ),
    BadInput(
        "a label that is none of the classes",
        _text(a_csv="age,label\n31,no\n7,maybe\n"),
        "{at}/a.csv: line 3: column 'label': found 'maybe', expected one of the classes (no, yes); correct it, or give "
        "all classes",
        {"classes": ("no", "yes")},
    ),
    BadInput(
        "a label of its own for each row",
        _text(a_csv="age,label\n" + _MANY),
        "5000 distinct whole-number labels in 5000 rows, expected classes that recur; name the right label column, or "
        "give classes=() to predict numbers",
        {"label": "age"},
    ),
    BadInput(
        "a category of more than 10,000 values",
        lambda: {"a.csv": ("id,label\n" + "".join(f"u{i},{i % 2}\n" for i in range(10_001))).encode()},
        "{at}/a.csv: column 'id' has more than 10000 values, expected a category; hash it (--prep hash:2^20), or leave "
        "it out (types={'id': 'skip'})",
    ),
    BadInput(
        "a type that there is not",
        _text(a_csv=_ROWS),
        "{at}/a.csv: types={'age': 'numbr'}: unknown type 'numbr' (did you mean 'number'?); allowed: bool, category, "
        "float, float32, float64, int, int64, number, skip, str, text, time",
        {"types": {"age": "numbr"}},
    ),
    BadInput(
        "a type for a column that there is not",
        _text(a_csv=_ROWS),
        "{at}/a.csv: types={'town': 'category'}: unknown column 'town'; allowed: age, city, label",
        {"types": {"town": "category"}},
    ),
    BadInput(
        "two columns of one name",
        _text(a_csv="age,city,age,label\n31,Rome,31,0\n"),
        "{at}/a.csv: line 1: found the name 'age' for columns 1 and 3, expected different names; rename one",
    ),
    BadInput(
        "a quote that is not closed",
        _text(a_csv='age,city,label\n31,"Rome,0\n7,Oslo,1\n'),
        '{at}/a.csv: line 2: a quoted field begins and does not end, expected a closing quote; add it, or write each " '
        "inside a field twice",
    ),
    BadInput(
        "text that is not UTF-8",
        lambda: {"a.csv": "age,city,label\n31,Rome,0\n7,Malmö,1\n".encode("latin-1")},
        "{at}/a.csv: line 3: column 'city': found b'Malm\\xf6', which is no UTF-8; save the file as UTF-8",
    ),
    BadInput(
        "UTF-16 text",
        lambda: {"a.csv": _ROWS.encode("utf-16")},
        "{at}/a.csv: is UTF-16 text, expected UTF-8; convert it (iconv -f UTF-16 -t UTF-8)",
    ),
    BadInput(
        "only blank lines",
        _text(a_csv="\n\n\n"),
        "{at}/a.csv: has no row, only blank lines; check how it was written",
    ),
    BadInput(
        "files with different columns",
        _text(a_csv=_ROWS, b_csv="age,town,label\n31,Rome,0\n"),
        "{at}/b.csv: line 1: has no column 'city', expected the columns of {at}/a.csv; give files of one kind",
    ),
    BadInput(
        "a second file without a header",
        _text(a_csv=_ROWS, b_csv="8,Rome,0\n9,Oslo,1\n"),
        "{at}/b.csv: line 1: found '8', expected the header of {at}/a.csv (age, city, label); write the same header to "
        "each file",
    ),
    BadInput(
        "a gzip file that was cut short",
        _cut(lambda: {"a.csv.gz": gzip.compress(("age,label\n" + _MANY).encode(), mtime=0)}, 0.5),
        "{at}/a.csv.gz: ends in the middle of its gzip data after",
    ),
    BadInput(
        "a damaged xz file",
        lambda: {"a.csv.xz": lzma.compress(("age,label\n" + _MANY).encode())[:-30] + b"\0" * 30},
        "{at}/a.csv.xz: damaged xz data",
    ),
    BadInput(
        "a Parquet file that was cut short",
        _cut(_parquet(a={"age": [1.0] * 1000, "label": [0, 1] * 500}), 0.6),
        "{at}/a.parquet: is damaged or was cut short (",
    ),
    BadInput(
        "Parquet files with different columns",
        _parquet(a={"age": [1], "label": [0]}, b={"aeg": [1], "label": [0]}),
        "{at}/b.parquet: has no column 'age' that {at}/a.parquet has, expected the columns of {at}/a.parquet; give "
        "files of one kind",
    ),
    BadInput(
        "Parquet files with different types",
        _parquet(a={"age": [1], "label": [0]}, b={"age": ["1"], "label": [0]}),
        "{at}/b.parquet: column 'age' is string, expected int64 as in {at}/a.parquet; write the column with one type",
    ),
    BadInput(
        "a Parquet column of lists",
        _parquet(a={"age": [[1, 2]], "label": [0]}),
        "{at}/a.parquet: column 'age' is list<element: int64>, expected numbers, text or times; leave it out "
        "(types={'age': 'skip'}), or write it as a column for each number",
    ),
    BadInput(
        "a missing number in Parquet",
        _parquet(a={"age": [1.0, 2.0, None], "label": [0, 1, 1]}),
        "{at}/a.parquet: row 3: column 'age': found no value, expected a number; fill it in, use prep='impute' (--prep "
        "impute), or pass over such rows with max_bad_rows",
    ),
    BadInput(
        "fewer features at prediction",
        _text(a_csv=_ROWS),
        "{at}/new/b.csv: has no column 'age' (did you mean 'aeg'?), which the training rows had; it has aeg, city: "
        "rename or add the column",
        predict=_text(b_csv="aeg,city\n31,Rome\n"),
    ),
    BadInput(
        "more features at prediction",
        _text(a_csv=_ROWS),
        "{at}/new/b.csv: has 1 column more than the training rows: height, expected age, city; leave them out",
        predict=_text(b_csv="age,city,height\n31,Rome,180\n"),
    ),
    BadInput(
        "an unseen category at prediction",
        _text(a_csv=_ROWS),
        "{at}/new/b.csv: line 2: column 'city': found 'Bonn', expected one of Oslo, Rome as in training; correct it, "
        "or train with prep='onehot:ignore', so that unseen values count as none",
        predict=_text(b_csv="age,city\n31,Bonn\n"),
    ),
)


def fault_of(bad: BadInput, folder: Path) -> str:
    """The message of the error that ``bad`` gives, its files being made in ``folder``; "" if there is none."""
    from trivium.errors import DataError

    try:
        _read(bad, folder)
    except DataError as error:
        return str(error)
    return ""


def _read(bad: BadInput, folder: Path) -> None:
    from trivium.data.encode import fit_encoding, settle_labels

    _write(bad.files(), folder)
    fitting = {name: value for name, value in bad.options.items() if name in ("label", "weight", "classes", "prep")}
    source = _source(folder, {name: value for name, value in bad.options.items() if name not in fitting})
    encoding = fit_encoding(source, **fitting)
    pieces = [encoding.encode(frame) for frame in source.frames(encoding.inputs, threads=1)]
    settle_labels(pieces, encoding.classes)
    if bad.predict is not None:
        _write(bad.predict(), folder / "new")
        new = _source(folder / "new", {})
        encoding.check(new)
        for frame in new.frames(threads=1):
            encoding.encode(frame, labelled=False)


def _write(files: Files, folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)


def _source(folder: Path, options: Mapping[str, Any]) -> Any:
    from trivium.data.sources.columnar import ColumnarSource
    from trivium.data.sources.csv import CsvSource
    from trivium.data.sources.places import resolve

    files = sorted(path for path in folder.iterdir() if path.is_file())
    places = resolve(files[0] if len(files) == 1 else files)
    kind = ColumnarSource if ".parquet" in files[0].name else CsvSource
    return kind(places, **options)
