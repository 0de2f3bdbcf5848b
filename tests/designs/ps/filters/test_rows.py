"""Laws of rows of tables: keys and values, keys that go once, what is kept for each key."""

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trivium.designs.ps.filters import Context, Objective, UnknownKeys, parse_filters
from trivium.designs.ps.filters.key_cache import KeyLists
from trivium.errors import ProtocolError

CHAINS = ["", "key-cache", "int8", "key-cache,float16", "topk:0.3", "key-cache,topk:0.3,int8"]


def plain(buffers):
    return [bytes(memoryview(buffer).cast("B")) for buffer in buffers]


def key_bytes(buffers):
    return memoryview(buffers[1]).nbytes


def keys_of(numbers):
    return np.array(sorted(numbers), np.uint64)


key_sets = st.sets(st.one_of(st.integers(0, 50), st.integers(0, 2**64 - 1)), max_size=40).map(keys_of)


@given(st.lists(key_sets, min_size=1, max_size=5), st.sampled_from(CHAINS), st.integers(1, 5), st.integers(0, 99))
def test_what_was_decoded_and_what_is_kept_add_up_key_by_key(batches, text, width, seed):
    random = np.random.default_rng(seed)
    chain = parse_filters(text)
    sender, receiver = chain.sender(0, np.float32), chain.receiver(0, np.float32)
    came, total = {}, {}
    for keys in [*batches, *batches]:
        rows = random.standard_normal((keys.size, width)).astype(np.float32)
        buffers = plain(sender.encode_rows(keys, rows))
        got, values = receiver.decode_rows(buffers)
        mine, applied = sender.applied_rows
        assert (got == mine).all()
        assert values.tobytes() == applied.tobytes()
        assert got.dtype == np.uint64
        assert (np.diff(got) > 0).all()
        assert set(got.tolist()) <= set(keys.tolist())
        for key, row in zip(keys.tolist(), rows, strict=True):
            came[key] = came.get(key, 0) + row.astype(np.float64)
        for key, row in zip(got.tolist(), values, strict=True):
            total[key] = total.get(key, 0) + row.astype(np.float64)
    kept, rest = sender.take_back_rows()
    assert (np.diff(kept) > 0).all()
    for key, row in zip(kept.tolist(), rest, strict=True):
        total[key] = total.get(key, 0) + row
    if text != "key-cache,float16":
        for key, row in came.items():
            assert np.allclose(total.get(key, 0), row, atol=1e-4)
    assert sender.take_back_rows()[0].size == 0


@given(key_sets, st.integers(1, 3))
def test_without_lossy_filters_the_bits_are_the_same(keys, width):
    rows = np.random.default_rng(0).standard_normal((keys.size, width))
    for text in ("", "key-cache"):
        chain = parse_filters(text)
        sender, receiver = chain.sender(0, np.float64), chain.receiver(0, np.float64)
        for _ in range(2):
            got, values = receiver.decode_rows(plain(sender.encode_rows(keys, rows)))
            assert got.tobytes() == keys.tobytes()
            assert values.tobytes() == rows.tobytes()


@pytest.mark.parametrize("text", ["key-cache", "key-cache,int8", "key-cache,topk:0.1,float16"])
def test_keys_go_once(text):
    keys = keys_of(np.random.default_rng(0).integers(0, 2**60, 1000).tolist())
    rows = np.ones((keys.size, 4), np.float32)
    sender = parse_filters(text).sender(0, np.float32)
    assert key_bytes(sender.encode_rows(keys, rows)) > 6 * keys.size
    assert [key_bytes(sender.encode_rows(keys, rows)) for _ in range(3)] == [0, 0, 0]
    assert key_bytes(sender.encode_rows(keys[1:], rows[1:])) > 6 * keys.size


def test_close_keys_take_a_byte_each_and_far_ones_never_more_than_eight():
    rows = np.ones((1000, 1), np.float32)
    sender = parse_filters("").sender(0, np.float32)
    assert key_bytes(sender.encode_rows(np.arange(1000, dtype=np.uint64) * np.uint64(100), rows)) == 1000
    far = np.arange(600, dtype=np.uint64) * np.uint64(2**54 + 2**53)
    assert key_bytes(sender.encode_rows(far, rows[:600])) == 4793
    farther = np.arange(200, dtype=np.uint64) * np.uint64(2**56 + 2)
    assert key_bytes(sender.encode_rows(farther, rows[:200])) == 1600


def test_a_receiver_that_lacks_the_keys_says_so_and_gets_the_same_message_spelled_out():
    chain = parse_filters("key-cache,topk:0.5,int8")
    keys = keys_of(range(0, 900, 9))
    random = np.random.default_rng(1)
    sender, receiver, late = chain.sender(0, np.float32), chain.receiver(0, np.float32), chain.receiver(0, np.float32)
    receiver.decode_rows(sender.encode_rows(keys, random.standard_normal((100, 3)).astype(np.float32)))
    buffers = sender.encode_rows(keys, random.standard_normal((100, 3)).astype(np.float32))
    known = receiver.decode_rows(buffers)
    with pytest.raises(UnknownKeys) as caught:
        late.decode_rows(buffers)
    assert pickle.loads(pickle.dumps(caught.value)).signature == caught.value.signature
    sender.forget(caught.value.signature)
    spelled = sender.spelled_out(buffers)
    for one, other in zip(known, late.decode_rows(spelled), strict=True):
        assert one.tobytes() == other.tobytes()
    assert sender.spelled_out(spelled) == spelled
    assert key_bytes(sender.encode_rows(keys, np.ones((100, 3), np.float32))) > 0
    again = sender.encode_rows(keys, np.ones((100, 3), np.float32))
    assert key_bytes(again) == 0
    assert late.decode_rows(again)[0].size == 50


def test_lists_beyond_the_bound_go_the_least_recently_used_first():
    lists = KeyLists(most=24)
    for signature in (1, 2, 3):
        lists.put(signature, np.array([signature], np.uint64))
    assert lists.get(1) is not None
    lists.put(4, np.array([4], np.uint64))
    assert [signature for signature in (1, 2, 3, 4) if lists.get(signature) is not None] == [1, 3, 4]
    lists.put(5, np.arange(100, dtype=np.uint64))
    assert lists.get(5) is not None
    assert lists.get(1) is None


@pytest.mark.parametrize("numbers", [[2, 1], [1, 1]])
def test_keys_must_ascend(numbers):
    with pytest.raises(ProtocolError, match="must ascend"):
        parse_filters("").sender(0, np.float32).encode_rows(np.array(numbers, np.uint64), np.ones((2, 1), np.float32))


def test_wrong_rows_are_refused():
    sender = parse_filters("int8").sender(0, np.float32)
    keys = keys_of([1, 2])
    sender.encode_rows(keys, np.ones((2, 3), np.float32))
    for wrong in (np.ones((2, 4), np.float32), np.ones((2, 3)), np.ones(2, np.float32), np.ones((3, 3), np.float32)):
        with pytest.raises(ProtocolError, match="rows"):
            sender.encode_rows(keys, wrong)
    with pytest.raises(ProtocolError, match="rows"):
        sender.encode_rows(keys.astype(np.int64), np.ones((2, 3), np.float32))


@given(st.sampled_from(["", "key-cache,topk:0.4,int8"]), st.data())
def test_damaged_messages_are_refused_or_read_but_never_crash(text, data):
    keys = keys_of(np.random.default_rng(0).integers(0, 2**40, 60).tolist())
    rows = np.random.default_rng(1).standard_normal((keys.size, 2)).astype(np.float32)
    chain = parse_filters(text)
    buffers = [bytearray(buffer) for buffer in plain(chain.sender(0, np.float32).encode_rows(keys, rows))]
    which = data.draw(st.sampled_from([i for i, b in enumerate(buffers) if b]))
    at = data.draw(st.integers(0, len(buffers[which]) - 1))
    if data.draw(st.booleans()):
        buffers[which][at] ^= 1 << data.draw(st.integers(0, 7))
    else:
        del buffers[which][at:]
    try:
        got, values = chain.receiver(0, np.float32).decode_rows(buffers)
    except ProtocolError as error:
        assert "filtered delta" in str(error) or isinstance(error, UnknownKeys)
    else:
        assert len(got) == len(values) <= keys.size


def test_kkt_leaves_out_rows_that_the_penalty_holds_at_zero():
    chain = parse_filters("key-cache,kkt:0.0")
    sender, receiver = chain.sender(0, np.float64), chain.receiver(0, np.float64)
    keys = keys_of([3, 5, 8, 13])
    w = np.array([[0, 0], [0, 1], [0, 0], [0, 0]], np.float64)
    mean = np.array([[0.5, -0.5], [0.1, 0.1], [1.5, 0], [0.9, 1.0]])
    at = Objective(w, weight=10.0, l1=1.0, clock=1)
    got, values = receiver.decode_rows(sender.encode_rows(keys, mean * 10, Context(at)))
    assert got.tolist() == [5, 8]
    assert (values == mean[1:3] * 10).all()
    back = Objective(np.zeros_like(w), weight=10.0, l1=1.0, clock=2)
    assert receiver.decode_rows(sender.encode_rows(keys, mean * 10, Context(back)))[0].tolist() == [5, 8]
    whole = Objective(np.zeros_like(w), weight=10.0, l1=1.0, clock=chain.kkt.EVERY)
    assert receiver.decode_rows(sender.encode_rows(keys, mean * 10, Context(whole)))[0].tolist() == keys.tolist()
    with pytest.raises(ProtocolError, match="kkt needs"):
        sender.encode_rows(keys, mean)
