import gzip
import lzma

import numpy as np
import pytest

from trivium.data.sources import lines
from trivium.data.sources.places import resolve
from trivium.data.sources.text import TextSource


def texts(path, **options):
    return TextSource(resolve(path), **options)


@pytest.mark.parametrize("pack", [bytes, gzip.compress, lzma.compress])
@pytest.mark.parametrize("block", [8, 1 << 20])
def test_labels_before_a_tab(tmp_path, monkeypatch, pack, block):
    monkeypatch.setattr(lines, "BLOCK", block)
    path = tmp_path / "t"
    path.write_bytes(pack("﻿good\ta fine film\r\n\nbad\tein öder Streifen\ngood\t".encode()))
    source = texts(path)
    frames = list(source.frames(threads=2))
    assert [text for one in frames for text in one.columns["text"].to_pylist()] == [
        "a fine film",
        "ein öder Streifen",
        "",
    ]
    assert [name for one in frames for name in one.columns["label"].to_pylist()] == ["good", "bad", "good"]
    assert [one.line(row) for one in frames for row in range(one.rows)] == [1, 3, 4]
    assert [(one.name, one.kind) for one in source.fields()] == [("text", "text"), ("label", "category")]
    assert source.label == "label"


def test_labels_that_are_numbers(tmp_path):
    (tmp_path / "t").write_text("1\tfine\n-1\tbad\n")
    frame = next(texts(tmp_path / "t").frames())
    np.testing.assert_array_equal(frame.columns["label"], [1.0, -1.0])
    assert texts(tmp_path / "t").fields()[1].kind == "number"


def test_one_document_a_line_keeps_blank_ones(tmp_path):
    (tmp_path / "t").write_text("a fine film\n\nthe\ttab is a blank here\n")
    source = texts(tmp_path / "t")
    frame = next(source.frames())
    assert frame.columns["text"].to_pylist() == ["a fine film", "", "the\ttab is a blank here"]
    assert source.label is None
    assert [one.name for one in source.fields()] == ["text"]
    assert texts(tmp_path / "t", labelled=False).stamp() == source.stamp()


def test_bad_documents_are_passed_over(tmp_path):
    (tmp_path / "t").write_bytes(b"1\tfine\n0\tb\xff\xff\nno tab\n1\tlast\n1\ta\tb\n")
    frames = list(texts(tmp_path / "t", max_bad_rows=3).frames())
    assert [text for one in frames for text in one.columns["text"].to_pylist()] == ["fine", "last"]
    assert [bad.line for one in frames for bad in one.skipped] == [2, 3, 5]
    assert [frames[0].line(row) for row in range(2)] == [1, 4]
    (tmp_path / "u").write_bytes(b"fine\n\xff\nlast\n")
    (frame,) = texts(tmp_path / "u", max_bad_rows=1).frames()
    assert (frame.rows, frame.line(1), frame.skipped[0].line) == (2, 3, 2)
