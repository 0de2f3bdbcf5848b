import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trivium.designs.ps.filters import FILTERS, parse_filters
from trivium.errors import PlanError

SOUND = ["", "key-cache", "kkt", "kkt:0.25", "topk:0.01", "float16", "int8", "key-cache,int8", "topk:0.01,float16",
         "key-cache,kkt,int8", "key-cache,topk:1e-3,int8", "kkt,float16", "key-cache, int8"]  # fmt: skip


@pytest.mark.parametrize("text", SOUND)
def test_text_comes_back_and_chains_travel(text):
    chain = parse_filters(text)
    assert str(chain) == text
    assert pickle.loads(pickle.dumps(chain)) == chain
    assert hash(parse_filters(text)) == hash(chain)
    assert len(chain.filters) == len([part for part in text.split(",") if part])
    assert ",".join(map(str, chain.filters)) == text.replace(" ", "")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            "topc:0.1",
            r"unknown filter 'topc' \(did you mean 'topk:F'\?\); allowed: float16, int8, key-cache, kkt, topk:F",
        ),
        ("topk", "topk wants the fraction that is sent, above 0 and at most 1, as in 'topk:0.01'"),
        ("topk:0", "'topk:0'.*above 0"),
        ("topk:1.5", "at most 1"),
        ("topk:nan", "above 0"),
        ("topk:one", "'topk:one'"),
        ("int8:4", "int8 takes no number; write 'int8'"),
        ("float16:", "float16 takes no number"),
        ("key-cache:9", "key-cache takes no number"),
        ("kkt:0.6", "from 0 to 0.5"),
        ("kkt:x", "from 0 to 0.5"),
        ("float16,int8", "float16 and int8 both say how values are written"),
        ("int8,float16", "int8 and float16 both say how values are written"),
        ("int8,int8", "int8 is there twice"),
        ("int8,topk:0.1", "topk must stand before int8.*write 'topk:0.1,int8'"),
        ("int8,key-cache", "key-cache must stand before int8"),
        ("topk:0.1,kkt", "kkt must stand before topk"),
        ("kkt,topk:0.1", "keep kkt or topk"),
        ("int8,", "a name is missing"),
        (",", "a name is missing"),
    ],
)
def test_what_makes_no_sense_is_told(text, says):
    with pytest.raises(PlanError, match=says):
        parse_filters(text)


def test_every_filter_can_be_written_as_its_usage_says():
    for name, kind in FILTERS.items():
        assert kind.usage.partition(":")[0] == name
        assert str(parse_filters(kind.usage.replace(":F", ":0.5")).filters[0]).partition(":")[0] == name


@pytest.mark.parametrize("dtype", [np.float16, np.int64, ">f4"])
def test_only_native_floats_are_filtered(dtype):
    with pytest.raises(PlanError, match="float32 and float64"):
        parse_filters("int8").sender(4, dtype)


def test_check_says_where_a_filter_cannot_be_used():
    kkt, int8 = parse_filters("kkt"), parse_filters("key-cache,int8")
    kkt.check("sgd", l1=0.1)
    kkt.check("adagrad", l1=0.1)
    int8.check("ftrl", l1=0.0)
    parse_filters("key-cache").check("lbfgs", l1=0.0, sums=False)
    with pytest.raises(PlanError, match="l1 is 0"):
        kkt.check("sgd", l1=0.0)
    for optimizer in ("ftrl", "momentum", "adam", "lbfgs"):
        with pytest.raises(PlanError, match="adagrad, sgd"):
            kkt.check(optimizer, l1=0.1)
    with pytest.raises(PlanError, match="'int8' sends a part of each delta later"):
        int8.check("lbfgs", l1=0.0, sums=False)


def test_only_what_gives_the_same_bits_is_lossless():
    assert [text for text in SOUND if parse_filters(text).lossless] == ["", "key-cache"]


@given(st.floats(1e-6, 1), st.integers(1, 10**7))
def test_topk_sends_its_fraction_and_at_least_one(fraction, size):
    count = parse_filters(f"topk:{fraction!r}").topk.count(size)
    assert 1 <= count <= size
    assert count - 1 < fraction * size <= count or count == 1


@pytest.mark.parametrize("text", SOUND)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_warmed_chain_compiles_nothing_more(text, dtype, monkeypatch):
    from numba.core.dispatcher import Dispatcher

    from trivium.designs.ps.filters import Context, Objective

    chain = parse_filters(text)
    chain.warm(dtype)
    monkeypatch.setattr(Dispatcher, "compile", lambda self, sig: pytest.fail(f"{self} is compiled for {sig}"))
    sender, receiver = chain.sender(3000, dtype), chain.receiver(3000, dtype)
    random, keys = np.random.default_rng(0), np.arange(0, 9000, 3, dtype=np.uint64)
    for clock in range(3):
        delta = random.standard_normal(3000).astype(dtype)
        context = Context(Objective(np.zeros(3000, dtype), 1.0, 1.0, clock))
        out = np.empty(3000, dtype)
        receiver.decode([bytes(buffer) for buffer in sender.encode(delta, context)], out)
        assert (sender.applied == out).all()
        receiver.decode_rows([bytes(buffer) for buffer in sender.encode_rows(keys, delta[:, None], context)])
