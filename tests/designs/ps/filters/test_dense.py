"""Laws of dense deltas: what is decoded, what is kept, how many bytes it takes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from trivium.designs.ps.filters import Context, parse_filters
from trivium.errors import ProtocolError

FLOATS = (np.float32, np.float64)
CHAINS = ["", "float16", "int8", "topk:0.01", "topk:0.1,float16", "topk:0.2,int8", "topk:1"]
REMEMBER = [text for text in CHAINS if parse_filters(text).remembers]


def size_of(buffers):
    return sum(memoryview(buffer).nbytes for buffer in buffers)


sizes = st.integers(0, 700)


def moderate(dtype, size=sizes):
    """Deltas of magnitudes from 1e-12 to 1e12, zeros among them."""
    number = st.floats(-(2.0**40), 2.0**40, width=np.dtype(dtype).itemsize * 8, allow_subnormal=False)
    return size.flatmap(lambda n: arrays(dtype, n, elements=number))


anything = st.sampled_from(FLOATS).flatmap(
    lambda dtype: st.integers(0, 600).flatmap(
        lambda n: arrays(dtype, n, elements=st.floats(width=np.dtype(dtype).itemsize * 8))
    )
)
ordinary = st.sampled_from(FLOATS).flatmap(moderate)


def through(text, delta):
    """Sender, buffers and what is decoded."""
    chain = parse_filters(text)
    sender = chain.sender(delta.size, delta.dtype)
    buffers = sender.encode(delta)
    out = np.full_like(delta, 7)
    chain.receiver(delta.size, delta.dtype).decode([bytes(memoryview(b).cast("B")) for b in buffers], out)
    return sender, buffers, out


@given(anything)
def test_no_filter_gives_the_same_bits(delta):
    assert through("", delta)[2].tobytes() == delta.tobytes()


@pytest.mark.filterwarnings("ignore:overflow")
@given(anything, st.sampled_from(CHAINS))
def test_finite_stays_finite_and_applied_is_what_receivers_decode(delta, text):
    sender, _, out = through(text, delta)
    assert sender.applied.tobytes() == out.tobytes()
    assert np.isfinite(sender.residual).all()
    if np.isfinite(delta).all():
        assert np.isfinite(out).all()


@pytest.mark.parametrize("text", CHAINS)
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_shows_and_is_not_remembered(text, dtype, bad):
    delta = np.ones(3000, dtype)
    delta[1500:1560] = bad  # more than topk:0.01 sends
    sender, _, out = through(text, delta)
    assert not np.isfinite(out[1500])
    assert np.isfinite(sender.residual).all()
    sender.encode(np.ones(3000, dtype))
    assert np.isfinite(sender.applied).all()


@given(ordinary)
def test_float16_rounds_to_the_nearest_of_its_block(delta):
    """Against NumPy's conversion, of values scaled by the same power of two."""
    out = through("float16", delta)[2]
    for lo in range(0, delta.size, 1024):
        block = delta[lo : lo + 1024].astype(np.float64)
        peak = np.abs(block).max()
        if peak == 0:
            continue
        scale = 2.0 ** (np.frexp(peak)[1] - 15)
        assert (out[lo : lo + 1024] == (block / scale).astype(np.float16).astype(np.float64) * scale).all()
        close = np.abs(block) >= peak * 2.0**-28
        assert (np.abs(out[lo : lo + 1024] - block)[close] <= np.abs(block)[close] * 2.0**-11).all()


@pytest.mark.parametrize("dtype", FLOATS)
def test_float16_saturates_and_keeps_what_float16_alone_would_lose(dtype):
    """The largest number overflows float16 by far, the smallest is far below its least."""
    most, least = np.finfo(dtype).max, dtype(1e-30)
    out = through("float16", np.repeat(np.array([most, least, -most], dtype), 1024))[2]
    assert np.allclose(out[::1024] / np.array([most, least, -most]), 1, rtol=2**-10)


@given(ordinary)
def test_int8_is_within_half_a_step_of_its_block(delta):
    sender, _, out = through("int8", delta)
    for lo in range(0, delta.size, 256):
        block, read = delta[lo : lo + 256].astype(np.float64), out[lo : lo + 256].astype(np.float64)
        peak = np.abs(block).max()
        assert (np.abs(read - block) <= peak / 254 * (1 + 1e-4)).all() or peak < 1e-30
        assert np.allclose(read + sender.residual[lo : lo + 256], block, rtol=0, atol=peak * 1e-6)


@given(ordinary, st.sampled_from([0.001, 0.1, 0.5, 1.0]))
def test_topk_sends_the_largest_and_keeps_the_rest(delta, fraction):
    sender, _, out = through(f"topk:{fraction}", delta)
    k = parse_filters(f"topk:{fraction}").topk.count(delta.size) if delta.size else 0
    first = np.sort(np.argsort(-np.abs(delta), kind="stable")[:k])
    wanted = np.zeros_like(delta)
    wanted[first] = delta[first]
    assert (out == wanted).all()
    assert (sender.residual == delta - wanted).all()


@pytest.mark.parametrize("dtype", FLOATS)
def test_topk_does_not_depend_on_what_was_sent_before(dtype):
    """The last threshold is only a guess for the next: right, too high, too low."""
    random = np.random.default_rng(3)
    sender = parse_filters("topk:0.01").sender(20_000, dtype)
    left = np.zeros(20_000, dtype)
    for scale in (1, 1, 100, 1e-3, 1, 1e-6, 1e6):
        delta = (random.standard_normal(20_000) * scale).astype(dtype)
        left += delta
        sender.encode(delta)
        first = np.sort(np.argsort(-np.abs(left), kind="stable")[:200])
        assert (np.flatnonzero(sender.applied) == first).all()
        assert (sender.applied[first] == left[first]).all()
        left[first] = 0


@given(
    st.sampled_from(FLOATS).flatmap(
        lambda dtype: st.integers(1, 400).flatmap(
            lambda n: st.lists(moderate(dtype, st.just(n)), min_size=1, max_size=6)
        )
    ),
    st.sampled_from(REMEMBER),
)
def test_what_was_decoded_and_what_is_kept_add_up_to_what_came(deltas, text):
    sender = parse_filters(text).sender(deltas[0].size, deltas[0].dtype)
    decoded = np.zeros(deltas[0].size)
    for delta in deltas:
        sender.encode(delta)
        decoded += sender.applied
    came = np.sum(deltas, axis=0, dtype=np.float64)
    # Each step rounds sums of what was kept, which is at most all that came by then.
    bound = np.finfo(deltas[0].dtype).eps * 8 * len(deltas) * np.sum(np.abs(deltas), dtype=np.float64)
    assert (np.abs(decoded + sender.residual - came) <= bound).all()
    kept = sender.take_back()
    assert (sender.residual == 0).all()
    other = parse_filters(text).sender(kept.size, kept.dtype)
    other.remember(kept)
    assert (other.residual == kept).all()


@pytest.mark.parametrize(
    ("text", "share"),
    [("", 1.0), ("float16", 0.501), ("int8", 0.26), ("topk:0.01", 0.0135), ("topk:0.01,float16", 0.0085),
     ("topk:0.01,int8", 0.006), ("topk:0.5", 0.5 + 1 / 32)],
)  # fmt: skip
@pytest.mark.parametrize("size", [1000, 100_000])
def test_bytes(text, share, size):
    delta = np.random.default_rng(1).standard_normal(size).astype(np.float32)
    sender, buffers, _ = through(text, delta)
    header = memoryview(buffers[0]).nbytes
    assert header <= 40
    assert size_of(buffers) <= share * delta.nbytes + header + (8 if size == 1000 else 0)
    figures = sender.figures
    assert (figures.messages, figures.bytes_in, figures.bytes_out) == (1, delta.nbytes, size_of(buffers))
    assert figures.elements_in == size


@pytest.mark.parametrize("text", CHAINS)
def test_neither_delta_nor_buffers_are_shared(text):
    delta = np.random.default_rng(2).standard_normal(5000).astype(np.float32)
    chain = parse_filters(text)
    sender, receiver = chain.sender(5000, np.float32), chain.receiver(5000, np.float32)
    buffers = sender.encode(delta)
    before = [bytes(buffer) for buffer in buffers]
    applied = sender.applied.copy()
    delta[:] = 9
    sender.encode(delta)
    assert [bytes(buffer) for buffer in buffers] == before
    out = np.empty(5000, np.float32)
    receiver.decode(buffers, out)
    assert (out == applied).all()


@pytest.mark.parametrize("text", CHAINS)
def test_same_deltas_give_the_same_bytes(text):
    deltas = np.random.default_rng(4).standard_normal((4, 3000)).astype(np.float32)
    senders = [parse_filters(text).sender(3000, np.float32) for _ in range(2)]
    for delta in deltas:
        first, second = ([bytes(buffer) for buffer in sender.encode(delta)] for sender in senders)
        assert first == second


@given(st.sampled_from(["topk:0.1,int8", "float16", "int8"]), st.data())
def test_damaged_messages_are_refused_or_read_but_never_crash(text, data):
    delta = np.random.default_rng(5).standard_normal(2000).astype(np.float32)
    chain = parse_filters(text)
    buffers = [bytearray(memoryview(b).cast("B")) for b in chain.sender(2000, np.float32).encode(delta)]
    which = data.draw(st.sampled_from([i for i, b in enumerate(buffers) if b]))
    how = data.draw(st.sampled_from(["flip", "cut", "grow"]))
    if how == "flip":
        at = data.draw(st.integers(0, len(buffers[which]) - 1))
        buffers[which][at] ^= 1 << data.draw(st.integers(0, 7))
    elif how == "cut":
        del buffers[which][data.draw(st.integers(0, len(buffers[which]) - 1)) :]
    else:
        buffers[which] += b"\x00" * data.draw(st.integers(1, 9))
    out = np.empty(2000, np.float32)
    try:
        chain.receiver(2000, np.float32).decode(buffers, out)
    except ProtocolError as error:
        assert "filtered delta" in str(error)
    else:
        assert how == "flip"


def test_unaligned_buffers_are_read():
    delta = np.random.default_rng(6).standard_normal(3000)
    chain = parse_filters("topk:0.3")
    buffers = chain.sender(3000, np.float64).encode(delta)
    odd = [memoryview(b"x" + bytes(buffer))[1:] for buffer in buffers]
    straight, slanted = np.empty(3000), np.empty(3000)
    chain.receiver(3000, np.float64).decode(buffers, straight)
    chain.receiver(3000, np.float64).decode(odd, slanted)
    assert (straight == slanted).all()


def test_wrong_size_type_or_chain_is_refused():
    delta = np.ones(8, np.float32)
    sender = parse_filters("float16").sender(8, np.float32)
    for wrong in (np.ones(7, np.float32), np.ones(8)):
        with pytest.raises(ProtocolError, match="this sender is for"):
            sender.encode(wrong)
    buffers = sender.encode(delta)
    with pytest.raises(ProtocolError, match="expected dense 9"):
        parse_filters("float16").receiver(9, np.float32).decode(buffers, np.empty(9, np.float32))
    with pytest.raises(ProtocolError, match="of coder 1"):
        parse_filters("int8").receiver(8, np.float32).decode(buffers, np.empty(8, np.float32))
    with pytest.raises(ProtocolError, match="4 bytes"):
        parse_filters("float16").receiver(8, np.float64).decode(buffers, np.empty(8))
    with pytest.raises(ProtocolError, match="it is dense"):
        parse_filters("float16").receiver(8, np.float32).decode_rows([*buffers, b""])
    with pytest.raises(ProtocolError, match="5 buffers"):
        parse_filters("float16").receiver(8, np.float32).decode([*buffers, b""], delta)
    with pytest.raises(ProtocolError, match="nothing was encoded"):
        parse_filters("").sender(8, np.float32).applied  # noqa: B018
    with pytest.raises(ProtocolError, match="keep no residual"):
        parse_filters("").sender(8, np.float32).remember(delta)


@given(st.sampled_from(["", "int8", "float16", "topk:0.2,int8"]), st.data())
def test_what_is_not_chosen_is_held_and_goes_later(text, data):
    sender = parse_filters(text).sender(100, np.float32, hold=True)
    decoded, came = np.zeros(100), np.zeros(100)
    for _ in range(4):
        delta = data.draw(arrays(np.float32, 100, elements=st.floats(-100, 100, width=32)))
        cuts = sorted(data.draw(st.sets(st.integers(0, 100), max_size=6)))
        chosen = np.array(list(zip(cuts[::2], cuts[1::2], strict=False)), np.int64).reshape(-1, 2)
        sender.encode(delta, Context(chosen=chosen))
        inside = np.zeros(100, bool)
        for lo, hi in chosen:
            inside[lo:hi] = True
        assert (sender.applied[~inside] == 0).all()
        decoded += sender.applied
        came += delta
    assert np.allclose(decoded + sender.residual, came, atol=1e-3)


def test_runs_of_chosen_elements_cost_a_few_bytes():
    sender = parse_filters("").sender(100_000, np.float32, hold=True)
    delta = np.ones(100_000, np.float32)
    buffers = sender.encode(delta, Context(chosen=np.array([[0, 4096], [50_000, 54_096]])))
    assert size_of(buffers) <= 2 * 4096 * 4 + 60
    assert (np.flatnonzero(sender.applied) == np.r_[0:4096, 50_000:54_096]).all()
    with pytest.raises(ProtocolError, match="hold=True"):
        parse_filters("int8").sender(100_000, np.float32).encode(delta, Context(chosen=np.zeros((0, 2), np.int64)))
