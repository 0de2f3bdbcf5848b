import gzip
import hashlib
import lzma

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trivium.data.sources import stream
from trivium.data.sources.stream import ByteStream, regular_file
from trivium.errors import DataError

PACKS = {"plain": bytes, "gzip": gzip.compress, "xz": lzma.compress}


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    content=st.one_of(st.binary(min_size=1, max_size=3000), st.integers(1, 100_000).map(lambda size: b"ab" * size)),
    kind=st.sampled_from(list(PACKS)),
    raw=st.integers(6, 500),
    piece=st.sampled_from([1, 7, 258, 1 << 12]),
)
def test_unpacks_to_what_was_packed_whatever_the_pieces(tmp_path, monkeypatch, content, kind, raw, piece):
    content = content[: 4000 * piece]
    if kind == "plain":
        content = b"-" + content  # never a magic number
    path = tmp_path / "file"
    path.write_bytes(PACKS[kind](content))
    monkeypatch.setattr(stream, "_RAW_PIECE", raw)
    monkeypatch.setattr(stream, "_PIECE", piece)
    pieces = list(ByteStream(path))
    assert b"".join(pieces) == content
    assert max(map(len, pieces)) <= piece


@pytest.mark.parametrize("kind", ["gzip", "xz"])
def test_streams_behind_one_another_with_zeros_between(tmp_path, monkeypatch, kind):
    path = tmp_path / "file"
    path.write_bytes(PACKS[kind](b"one ") + b"\0" * 64 + PACKS[kind](b"two") + b"\0" * 64)
    for raw in (6, 13, 1 << 18):
        monkeypatch.setattr(stream, "_RAW_PIECE", raw)
        assert b"".join(ByteStream(path)) == b"one two"


def test_the_fingerprint_is_sha256_of_size_and_raw_bytes(tmp_path):
    path = tmp_path / "file"
    packed = gzip.compress(b"1 1:1\n", mtime=0)
    path.write_bytes(packed)
    one = ByteStream(path)
    list(one)
    assert one.fingerprint == hashlib.sha256(f"{len(packed)}\n".encode() + packed).hexdigest()


def test_head_gives_what_there_is(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(gzip.compress(b"abcdef"))
    assert ByteStream(path).head(4) == b"abcd"
    assert ByteStream(path).head(40) == b"abcdef"


def test_damage_in_the_checksum_is_found(tmp_path):
    path = tmp_path / "file"
    packed = bytearray(gzip.compress(b"1 1:1\n"))
    packed[-6] ^= 1
    path.write_bytes(packed)
    with pytest.raises(DataError, match=r"damaged gzip data \(.*incorrect data check"):
        list(ByteStream(path))


def test_a_file_is_told_from_what_is_none(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"x")
    assert regular_file(str(path)) == path
    with pytest.raises(DataError, match="is a folder"):
        regular_file(tmp_path)
    with pytest.raises(DataError, match=r"no such file; did you mean .*file\?"):
        regular_file(tmp_path / "flie")
