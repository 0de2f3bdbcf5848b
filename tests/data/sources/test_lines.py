"""What holds for all formats of lines, tried with LIBSVM; and what LIBSVM's source gives beside ``read_libsvm``."""

import gzip
from io import BytesIO

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array, vstack
from sklearn.datasets import dump_svmlight_file, load_svmlight_file

from trivium.data.sources import lines
from trivium.data.sources.lines import LineFrame
from trivium.data.sources.matrices import LibsvmSource
from trivium.data.sources.places import resolve
from trivium.errors import DataError


def source(path, **options) -> LibsvmSource:
    return LibsvmSource(resolve(path), **options)


def whole(frames) -> tuple[csr_array, np.ndarray]:
    frames = list(frames)
    width = max(frame.columns["x"].width for frame in frames)
    parts = [
        csr_array((x.values, x.indices, x.indptr), shape=(len(x), width))
        for x in (frame.columns["x"] for frame in frames)
    ]
    return vstack(parts).tocsr(), np.concatenate([frame.columns["label"] for frame in frames])


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 1000),
    block=st.sampled_from([1, 64, 1 << 20]),
    part=st.sampled_from([1, 37, 200, 1 << 20]),
    packed=st.booleans(),
    end=st.sampled_from([b"", b"\n", b"\n\n# end"]),
)
def test_frames_and_partitions_give_the_same_rows_as_scikit_learn(tmp_path, seed, block, part, packed, end):
    rng = np.random.default_rng(seed)
    x = rng.integers(1, 9, size=(40, 9)) * (rng.random((40, 9)) < 0.5)
    x[0, 8] = 1
    buffer = BytesIO()
    dump_svmlight_file(x, rng.integers(0, 3, 40), buffer, zero_based=False)
    text = b"# head\n\n" + buffer.getvalue().rstrip(b"\n") + end
    path = tmp_path / "rows"
    path.write_bytes(gzip.compress(text) if packed else text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lines, "BLOCK", block)
        patch.setattr(lines, "PART_BYTES", part)
        given_ = source(path)
        partitions = given_.partitions()
        by_part = [given_.read(one) for one in partitions]
        streamed = list(given_.frames(threads=2))
    expected, labels = load_svmlight_file(BytesIO(buffer.getvalue()), zero_based=False)
    read = [frame for frame in by_part if frame.rows]
    for found, y in (whole(streamed), whole(read)):
        np.testing.assert_array_equal(found.toarray(), expected.toarray())
        np.testing.assert_array_equal(y, labels)
    true = [at + 1 for at, line in enumerate(text.split(b"\n")) if line and not line.startswith(b"#")]
    for frames in (streamed, read):
        assert [frame.line(row) for frame in frames for row in range(frame.rows)] == true
    if not packed:
        assert partitions[0].start == 0
        assert partitions[-1].stop == len(text)


def test_a_fault_in_a_late_partition_has_its_line(tmp_path, monkeypatch):
    monkeypatch.setattr(lines, "PART_BYTES", 50)
    path = tmp_path / "rows"
    path.write_text("1 1:1\n" * 100 + "1 x:1\n" + "1 1:1\n" * 9)
    given_ = source(path)
    with pytest.raises(DataError, match="line 101: found 'x:1'"):
        for one in given_.partitions():
            given_.read(one)


def test_bad_rows_are_passed_over_and_noted(tmp_path, monkeypatch):
    texts = [f"1 1:{i + 1}" for i in range(300)]
    bad = {0: "x 1:1", 7: "1 0:1", 8: "1 2:1 1:1", 150: "nan", 299: "1 1:nan"}
    for at, text in bad.items():
        texts[at] = text
    texts[20] = "# a comment"
    path = tmp_path / "rows"
    path.write_text("\n".join(texts))
    for block in (40, 1 << 20):
        monkeypatch.setattr(lines, "BLOCK", block)
        given_ = source(path, max_bad_rows=5)
        frames = list(given_.frames(threads=2))
        skipped = [one for frame in frames for one in frame.skipped]
        assert [(one.file, one.line, one.text) for one in skipped] == [
            (str(path), at + 1, text) for at, text in bad.items()
        ]
        assert "indices from 1" in skipped[1].why
        left = [at for at in range(300) if at not in bad and at != 20]
        x, _ = whole(frames)
        np.testing.assert_array_equal(x.toarray()[:, 0], np.array(left) + 1)
        assert [frame.line(row) for frame in frames for row in range(frame.rows)] == [at + 1 for at in left]
        with pytest.raises(DataError, match=r"line 300: .* \(bad row 5; at most max_bad_rows=4 are passed over\)"):
            list(source(path, max_bad_rows=4).frames())


def test_many_bad_rows_cost_little(tmp_path):
    path = tmp_path / "rows"
    path.write_text("1 1:1 2:2 3:3\n1 0:1\n" * 30_000)
    frames = list(source(path, max_bad_rows=30_000).frames(threads=1))
    assert sum(frame.rows for frame in frames) == sum(len(frame.skipped) for frame in frames) == 30_000


def test_several_files_follow_one_another(tmp_path):
    (tmp_path / "a").write_text("﻿1 1:1\n2 2:1", encoding="utf-8")
    (tmp_path / "b").write_bytes(gzip.compress(b"3 5:1\n"))
    frames = list(source(tmp_path).frames())
    assert np.concatenate([frame.columns["label"] for frame in frames]).tolist() == [1, 2, 3]
    assert [frame.file for frame in frames] == [str(tmp_path / "a"), str(tmp_path / "b")]
    assert all(isinstance(frame, LineFrame) and frame.first == 1 for frame in frames)
    (tmp_path / "b").write_bytes(gzip.compress(b"3 5:1\nx"))
    with pytest.raises(DataError, match="b: line 2: label 'x'"):
        list(source(tmp_path).frames())


def test_fields_columns_and_the_stamp(tmp_path):
    path = tmp_path / "rows"
    path.write_text("1 3:1\n")
    assert [(one.name, one.kind, one.shape) for one in source(path).fields()] == [
        ("x", "sparse", ()),
        ("label", "number", ()),
    ]
    assert source(path, features=9).fields()[0].shape == (9,)
    assert next(source(path, features=9).frames()).columns["x"].width == 9
    assert list(next(source(path).frames(("x",))).columns) == ["x"]
    assert len({source(path).stamp(), source(path, features=9).stamp(), source(path, max_bad_rows=1).stamp()}) == 3
    with pytest.raises(DataError, match="found index 3, expected at most features=2"):
        list(source(path, features=2).frames())
    with pytest.raises(DataError, match="features=0: expected 1 to"):
        source(path, features=0)


def test_a_file_larger_than_its_blocks_passes_in_little_memory(tmp_path):
    import tracemalloc

    path = tmp_path / "rows"
    path.write_bytes((b"1 " + b" ".join(b"%d:1" % i for i in range(1, 101)) + b"\n") * 60_000)  # 24 MB
    rows = sum(frame.rows for frame in source(path).frames(threads=2))  # compiles
    tracemalloc.start()
    again = sum(frame.rows for frame in source(path).frames(threads=2))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert rows == again == 60_000
    assert peak < 24e6
