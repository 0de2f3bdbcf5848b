import gzip
import os
import subprocess
import sys
from pathlib import Path

import pytest
from pyarrow import fs

from trivium.data.sources import places as module
from trivium.data.sources.places import format_of, resolve
from trivium.errors import DataError


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in ("b.csv", "a.csv", "deep/er/c.csv", ".hidden.csv", "_SUCCESS", "deep/_tmp/d.csv", "README.md", "e.svm"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"x,y\n1,{len(name)}\n")
    return tmp_path


def names(found, root: Path) -> list[str]:
    return [str(Path(place.path).relative_to(root)) for place in found.files]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.csv", ["a.csv", "b.csv"]),
        ("**/*.csv", ["a.csv", "b.csv", "deep/_tmp/d.csv", "deep/er/c.csv"]),
        ("deep/**/c*", ["deep/er/c.csv"]),
        ("[ab].csv", ["a.csv", "b.csv"]),
        ("a.csv", ["a.csv"]),
        ("", ["a.csv", "b.csv", "deep/er/c.csv", "e.svm"]),
        ("deep", ["deep/er/c.csv"]),
    ],
)
def test_paths_patterns_and_folders(tree, pattern, expected):
    found = resolve(str(tree / pattern))
    assert names(found, tree) == expected
    first = found.files[0]
    assert (first.size, first.mtime_ns) == (Path(first.path).stat().st_size, Path(first.path).stat().st_mtime_ns)
    assert found.name == str(tree / pattern)
    assert found.nbytes == sum(Path(place.path).stat().st_size for place in found.files)


def test_a_list_and_a_file_url(tree):
    both = resolve([tree / "e.svm", str(tree / "*.csv"), tree / "a.csv"])
    assert names(both, tree) == ["e.svm", "a.csv", "b.csv"]
    (tree / "with space.csv").write_text("x\n1\n")
    url = (tree / "with space.csv").as_uri()
    assert names(resolve(url), tree) == ["with space.csv"]
    assert resolve(url).name == url
    with pytest.raises(DataError, match="an empty list"):
        resolve([])


def test_a_name_with_a_star_in_it_is_meant_as_it_is(tree):
    (tree / "odd[1].csv").write_text("x\n1\n")
    assert names(resolve(tree / "odd[1].csv"), tree) == ["odd[1].csv"]


def test_empty_files_among_others_are_passed_over_with_a_note(tree):
    (tree / "a.csv").write_text("")
    found = resolve(tree / "*.csv")
    assert names(found, tree) == ["b.csv"]
    assert found.notes == (f"passed over 1 empty files, the first {tree / 'a.csv'}",)


def test_the_stamp_tells_any_change(tree):
    before = resolve(tree).stamp()
    assert resolve(tree).stamp() == before
    os.utime(tree / "a.csv", ns=(1, 1))
    touched = resolve(tree).stamp()
    (tree / "new.csv").write_text("x\n")
    assert len({before, touched, resolve(tree).stamp(), resolve("synthetic:3x3").stamp()}) == 4


def test_other_filesystems_are_listed_like_this_one(tree):
    """pyarrow's own view of the disk stands for one that is far away."""
    far = fs.LocalFileSystem()
    for pattern in ("*.csv", "**/*.csv", "deep/**/c*", "[ab].csv", "a.csv", "", "deep"):
        path = str(tree / pattern) if pattern else str(tree)
        url = f"s3://{path}"
        assert [one.path for one in module._listed(far, path, url).files] == [
            one.path for one in resolve(str(tree / pattern)).files
        ]
    with pytest.raises(DataError, match="no such file or folder"):
        module._listed(far, str(tree / "none.csv"), "s3://none.csv")
    with pytest.raises(DataError, match="no file matches this pattern"):
        module._listed(far, str(tree / "*.parquet"), "s3://*.parquet")


def test_a_far_file_is_unpacked_like_a_near_one(tree, monkeypatch):
    (tree / "e.svm").write_bytes(gzip.compress(b"1 1:1\n"))
    far = module._listed(fs.LocalFileSystem(), str(tree / "e.svm"), "s3://bucket/e.svm")
    monkeypatch.setattr(module, "_connected", lambda url: (fs.LocalFileSystem(), url))
    stream = far.stream(far.files[0])
    assert stream.packed
    assert b"".join(stream) == b"1 1:1\n"
    assert far.stream(far.files[0]).head(3) == b"1 1"
    with far.open(far.files[0]) as file:
        file.seek(1)
        assert file.read(1) == b"\x8b"
    assert not far.local


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("https://example.org/a.csv", r"https is not read; download the file \(curl -O https://example.org/a.csv\)"),
        ("ftp://example.org/a.csv", "unknown scheme 'ftp'; allowed: file, s3, gs"),
        ("/dev/null", "device or a pipe"),
        ("a\0b", "cannot be opened"),
        ("x" * 5000, "cannot be opened"),
    ],
)
def test_what_is_not_read(url, words):
    with pytest.raises(DataError, match=words):
        resolve(url)


FORMS = {
    "csv": b"age,city\n31,Rome\n",
    "tsv": b"age\tcity\n31\tRome\n",
    "libsvm": b"# made\n-1 1:0.5 3:2\n\n+1 2:1 # end\n",
    "ratings": b"User_ID\tItem_ID\tRating\n1\t2\t3\n",
    "parquet": b"PAR1....",
    "arrow": b"ARROW1..",
    "idx": b"\0\0\x08\x03\0\0\0\1",
    "images": b"\x89PNG\r\n\x1a\n",
}


@pytest.mark.parametrize("kind", FORMS)
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_the_format_follows_from_the_content(tmp_path, kind, pack):
    (tmp_path / "data").write_bytes(pack(FORMS[kind]))
    assert format_of(resolve(tmp_path / "data")) == kind
    assert format_of(resolve(tmp_path / "data"), kind) == kind


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("one.csv", "alone\n1\n2\n", "csv"),
        ("one.csv.gz", "alone\n1\n2\n", "csv"),
        ("t.tsv", "a,b\tc\n", "tsv"),
        ("t.csv", "time,at\n3,12:30\n", "csv"),
        ("t.csv", "-1 1:2 3:4\n", "libsvm"),
        ("t.txt", "good\ta fine film\nbad\tan awful bore\n", "text"),
        ("t.txt", "31\t64\n7\t9\n", "tsv"),
        ("t.txt", "a,b\n1,2\n", "csv"),
        ("t", "a;b\n1;2\n", "csv"),
        ("t", "user item rating\n1 2 3\n", "ratings"),
        ("t.csv", "userId,movieId,rating,timestamp\n1,2,3,4\n", "ratings"),
        ("t.csv", "user,age,rating\n1,2,3\n", "csv"),
        ("t", "﻿-1 1:1\n", "libsvm"),
    ],
)
def test_names_help_where_the_content_is_not_clear(tmp_path, name, content, kind):
    (tmp_path / name).write_text(content, encoding="utf-8")
    assert format_of(resolve(tmp_path / name)) == kind


def test_formats_of_what_is_made():
    assert format_of(resolve("synthetic:3x3")) == "synthetic"
    assert format_of(resolve("sklearn:digits"), "sklearn") == "sklearn"
    with pytest.raises(DataError, match="is made, not read"):
        format_of(resolve("synthetic:3x3"), "csv")
    with pytest.raises(DataError, match=r"unknown format 'cvs'.*did you mean 'csv'"):
        format_of(resolve("synthetic:3x3"), "cvs")


def test_text_is_text_where_somebody_says_so(tmp_path):
    (tmp_path / "t").write_text("{not json}\n")
    assert format_of(resolve(tmp_path / "t"), "text") == "text"
    with pytest.raises(DataError, match="format='synthetic' is for names"):
        format_of(resolve(tmp_path / "t"), "synthetic")


def test_plain_paths_need_no_pyarrow():
    code = (
        "import sys; from trivium.data.sources.places import resolve; resolve('.'); sys.exit('pyarrow' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
