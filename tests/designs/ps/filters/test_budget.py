"""Laws of the budget: nothing is lost, nothing waits for ever, what matters more goes first, the rate is kept."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trivium.designs.ps.filters import Context, parse_filters
from trivium.designs.ps.filters.budget import Account, Budget, Piece, spans, step
from trivium.designs.ps.filters.kernels.changes import relative_changes
from trivium.errors import PlanError

budgets = st.builds(Budget, rate=st.floats(1, 1e4), rounds=st.integers(0, 5), burst=st.floats(0.01, 2))
changes = st.one_of(st.floats(0), st.just(math.nan))
pieces = st.dictionaries(st.integers(0, 9), st.tuples(st.integers(1, 500), changes)).map(
    lambda found: [Piece(block, *rest) for block, rest in found.items()]
)
rounds = st.lists(st.tuples(st.floats(0, 1), pieces), min_size=1, max_size=12)


@given(budgets, rounds)
def test_each_piece_goes_or_waits_and_none_waits_beyond_the_bound(budget, rounds):
    account, now, waited = Account(), 0.0, {}
    for gap, arrived in rounds:
        now += gap
        go, account = step(budget, account, now, arrived)
        here = {piece.block for piece in arrived}
        waiting = dict(account.waits)
        assert len(go) == len(set(go))
        assert set(go) | set(waiting) == here
        assert not set(go) & set(waiting)
        waited = {block: waited.get(block, 0) + 1 for block in waiting}
        assert waiting == waited
        assert max(waiting.values(), default=0) <= budget.rounds


@given(budgets, rounds)
def test_larger_changes_go_first_but_for_those_that_must_go(budget, rounds):
    account, now = Account(), 0.0
    for gap, arrived in rounds:
        now += gap
        overdue = {block for block, times in account.waits if times >= budget.rounds}
        if budget.rounds == 0:
            overdue = {piece.block for piece in arrived}
        go, account = step(budget, account, now, arrived)
        change = {piece.block: math.inf if math.isnan(piece.change) else piece.change for piece in arrived}
        free = [block for block in go if block not in overdue]
        assert [change[block] for block in free] == sorted((change[block] for block in free), reverse=True)
        held = [change[block] for block, _ in account.waits]
        assert min((change[block] for block in free), default=math.inf) >= max(held, default=0)
        assert list(go[: len(overdue & set(go))]) == [block for block in go if block in overdue]


@given(st.floats(1, 1e4), st.floats(0.01, 2), rounds)
def test_the_rate_is_kept_where_nothing_must_go(rate, burst, rounds):
    budget, account, now, sent = Budget(rate, 10**6, burst), Account(), 0.0, 0
    for gap, arrived in rounds:
        now += gap
        go, account = step(budget, account, now, arrived)
        sent += sum(piece.bytes for piece in arrived if piece.block in go)
    largest = max((piece.bytes for _, arrived in rounds for piece in arrived), default=0)
    assert sent <= rate * (now + burst) * (1 + 1e-9) + largest


@given(st.floats(10, 1e4), st.integers(1, 2000))
def test_a_block_of_any_size_goes_and_the_link_is_used(rate, size):
    """One block a round, always there: over a long time the rate is reached."""
    budget, account, sent = Budget(rate, 10**6, burst=0.1), Account(), 0
    for turn in range(2000):
        go, account = step(budget, account, turn * 0.05, [Piece(0, size, 1.0)])
        sent += size * len(go)
    offered = 2000 * size
    assert sent >= min(offered, rate * 100) * 0.9 - size


def test_debt_of_what_had_to_go_is_forgiven_beyond_a_burst():
    budget, account = Budget(100.0, 0, burst=1.0), Account()
    for turn in range(50):
        go, account = step(budget, account, turn * 0.01, [Piece(0, 1000, 1.0)])
        assert go == (0,)
    assert account.credit >= -1000


@given(st.lists(st.lists(st.integers(-50, 50), min_size=20, max_size=20), min_size=1, max_size=10), budgets)
def test_what_is_sent_and_what_is_held_is_what_came(deltas, budget):
    """With a sender that holds, in whole numbers: to the last one, and all of it once the bound has passed."""
    block, size = 4, 20
    sender = parse_filters("").sender(size, np.float64, hold=True)
    account, sent, came = Account(), np.zeros(size), np.zeros(size)
    w = np.ones(size)

    def one_round(now, delta, account):
        change = relative_changes(delta, sender.held, w, block)
        offered = [Piece(b, block * 8, change[b]) for b in range(len(change)) if change[b] > 0]
        go, account = step(budget, account, now, offered)
        sender.encode(delta, Context(chosen=spans(go, block, size)))
        return account

    for turn, numbers in enumerate(deltas):
        delta = np.array(numbers, np.float64)
        account = one_round(turn * 0.01, delta, account)
        sent += sender.applied
        came += delta
        assert (sent + sender.held == came).all()
    for turn in range(budget.rounds + 1):
        account = one_round((len(deltas) + turn) * 0.01, np.zeros(size), account)
        sent += sender.applied
    assert (sent == came).all()


@given(st.integers(0, 40), st.integers(1, 9), st.integers(0, 99))
def test_relative_changes_are_those_of_numpy(size, block, seed):
    random = np.random.default_rng(seed)
    x, left, w = random.standard_normal((3, size))
    found = relative_changes(x, left, w, block)
    wanted = [
        np.abs(x + left)[lo : lo + block].sum() / np.abs(w)[lo : lo + block].sum() for lo in range(0, size, block)
    ]
    assert np.allclose(found, wanted)


def test_arrays_that_do_not_match_are_refused():
    sender = parse_filters("").sender(8, np.float64)
    with pytest.raises(ValueError, match="8, 0 and 8 elements"):
        relative_changes(np.ones(8), sender.held, np.ones(8), 4)


def test_settings_that_make_no_sense_are_told():
    with pytest.raises(PlanError, match="rate"):
        Budget(0)
    with pytest.raises(PlanError, match="rounds"):
        Budget(1.0, -1)
    assert spans([], 4, 10).shape == (0, 2)
