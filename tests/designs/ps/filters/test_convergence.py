"""Training with each chain, beside training without: the loss at the end, and kkt's objective beside scikit-learn's."""

import numpy as np
import pytest
from sklearn.linear_model import Lasso, LogisticRegression

from trivium.designs.ps.filters import Context, Objective, parse_filters
from trivium.errors import ProtocolError

CHAINS = ["float16", "int8", "topk:0.05", "topk:0.05,float16", "topk:0.05,int8", "key-cache,int8"]
NODES = 2


def logistic(seed=0, rows=600, features=40):
    random = np.random.default_rng(seed)
    X = random.standard_normal((rows, features))
    truth = random.standard_normal(features)
    y = np.where(random.random(rows) < 1 / (1 + np.exp(-X @ truth)), 1.0, -1.0)
    return X, y


def descend(X, y, text, steps, lr, gradient):
    """Steepest descent over nodes, each with a sender of its own, in float32."""
    chain = parse_filters(text)
    parts = np.array_split(np.arange(len(y)), NODES)
    w = np.zeros(X.shape[1], np.float32)
    senders = [chain.sender(w.size, np.float32) for _ in parts]
    receivers = [chain.receiver(w.size, np.float32) for _ in parts]
    out = np.empty_like(w)
    for _ in range(steps):
        total = np.zeros_like(w)
        for part, sender, receiver in zip(parts, senders, receivers, strict=True):
            receiver.decode(sender.encode(gradient(X[part], y[part], w).astype(np.float32)), out)
            total += out
        w -= lr * total / len(y)
    return w.astype(np.float64), senders


def log_loss(X, y, w, l2=0.01):
    return np.logaddexp(0, -y * (X @ w)).mean() + l2 / 2 * w @ w


def log_gradient(X, y, w, l2=0.01):
    return -X.T @ (y / (1 + np.exp(y * (X @ w)))) + l2 * len(y) * w


def squares_gradient(X, y, w):
    return X.T @ (X @ w - y)


@pytest.mark.parametrize("text", CHAINS)
def test_logistic_regression_ends_at_the_same_loss(text):
    X, y = logistic()
    exact = LogisticRegression(C=1 / (0.01 * len(y)), fit_intercept=False, tol=1e-10, max_iter=1000).fit(X, y)
    best = log_loss(X, y, exact.coef_[0])
    w, senders = descend(X, y, text, 600, 1.0 if "topk" not in text else 0.3, log_gradient)
    assert best - 1e-9 <= log_loss(X, y, w) <= 1.02 * best
    figures = senders[0].figures
    assert figures.bytes_out < (0.75 if "float16" in text and "topk" not in text else 0.6) * figures.bytes_in


@pytest.mark.parametrize("text", CHAINS)
def test_least_squares_end_at_the_same_loss(text):
    random = np.random.default_rng(1)
    X = random.standard_normal((500, 30))
    y = X @ random.standard_normal(30) + random.standard_normal(500)
    exact = np.linalg.lstsq(X, y, rcond=None)[0]
    w, _ = descend(X, y, text, 400, 0.3 if "topk" not in text else 0.1, squares_gradient)
    assert ((X @ w - y) ** 2).mean() <= 1.02 * ((X @ exact - y) ** 2).mean()


def test_without_its_memory_topk_would_not_get_there():
    """A large gradient that cancels over two steps hides a small one: only what is kept of it ever goes."""
    ends = {}
    for forgets in (False, True):
        sender, w = parse_filters("topk:0.5").sender(2, np.float64), np.zeros(2)
        for turn in range(4000):
            sender.encode(np.array([10.0 * (-1) ** turn, w[1] - 1]))
            w -= 0.01 * sender.applied
            if forgets:
                sender.take_back()
        ends[forgets] = w[1]
    assert ends[True] == 0
    assert abs(ends[False] - 1) < 0.15


# --- kkt -------------------------------------------------------------------------------------------------------------
def shrink(w, threshold):
    return np.where(np.abs(w) > threshold, w - np.copysign(threshold, w), 0.0)


def lasso(kind, rows=400, features=500):
    """A sparse problem; ``skewed``: the nodes' rows are of different populations, so their gradients differ."""
    random = np.random.default_rng(2)
    X = random.standard_normal((rows, features)) / np.sqrt(features)
    truth = np.zeros(features)
    truth[:20] = random.standard_normal(20) * 30
    if kind == "skewed":
        half = rows // 2
        X[:half, ::2] *= 3
        X[half:] += 0.05 * random.standard_normal(features)
    return X, X @ truth + 0.1 * random.standard_normal(rows)


def ista(X, y, l1, text, steps, shares=(0.5, 0.5), fast=False):
    """Proximal gradient descent over nodes; with ``fast``, FISTA, whose gradient is taken at the point ahead."""
    chain = parse_filters(text)
    cuts = np.cumsum([int(share * len(y)) for share in shares])[:-1]
    parts = np.split(np.arange(len(y)), cuts)
    rate = len(y) / np.linalg.norm(X, 2) ** 2
    w, ahead, t = np.zeros(X.shape[1]), np.zeros(X.shape[1]), 1.0
    senders = [chain.sender(w.size, np.float64) for _ in parts]
    for clock in range(steps):
        total = np.zeros_like(w)
        for part, sender in zip(parts, senders, strict=True):
            at = Objective(ahead, weight=float(len(part)), l1=l1, clock=clock)
            sender.encode(squares_gradient(X[part], y[part], ahead), Context(at))
            total += sender.applied
        new = shrink(ahead - rate * total / len(y), rate * l1)
        after = (1 + np.sqrt(1 + 4 * t * t)) / 2 if fast else 1.0
        ahead = new + ((t - 1) / after) * (new - w)
        w, t = new, after
    return w, senders


def lasso_objective(X, y, w, l1):
    return ((X @ w - y) ** 2).sum() / (2 * len(y)) + l1 * np.abs(w).sum()


@pytest.mark.parametrize("kind", ["alike", "skewed"])
@pytest.mark.parametrize("fast", [False, True])
def test_kkt_reaches_the_objective_with_a_part_of_the_traffic(kind, fast):
    X, y = lasso(kind)
    l1 = 0.3 * np.abs(X.T @ y).max() / len(y)
    exact = Lasso(alpha=l1, fit_intercept=False, tol=1e-10, max_iter=100_000).fit(X, y).coef_
    best = lasso_objective(X, y, exact, l1)
    w, senders = ista(X, y, l1, "kkt", 1000 if not fast else 400, fast=fast)
    assert abs(lasso_objective(X, y, w, l1) / best - 1) <= 1e-4
    figures = [sender.figures for sender in senders]
    values = sum(f.elements_out for f in figures) / sum(f.elements_in for f in figures)
    assert values <= (0.1 if kind == "alike" else 0.6)  # where senders differ much, most exceed the penalty


def test_kkt_on_one_sender_gives_the_same_bits_at_each_step():
    X, y = lasso("alike")
    l1 = 0.3 * np.abs(X.T @ y).max() / len(y)
    for steps in (1, 7, 70):
        exact, _ = ista(X, y, l1, "", steps, shares=(1.0,))
        filtered, senders = ista(X, y, l1, "kkt", steps, shares=(1.0,))
        assert filtered.tobytes() == exact.tobytes()
        assert senders[0].figures.elements_out <= senders[0].figures.elements_in


@pytest.mark.parametrize("text", ["kkt,float16", "kkt,int8"])
def test_kkt_with_coarse_values_is_exact_to_them(text):
    X, y = lasso("alike")
    l1 = 0.2 * np.abs(X.T @ y).max() / len(y)
    exact, _ = ista(X, y, l1, "", 500)
    w, _ = ista(X, y, l1, text, 500)
    assert lasso_objective(X, y, w, l1) <= 1.02 * lasso_objective(X, y, exact, l1)


def test_kkt_frees_a_coordinate_that_senders_disagree_on():
    """The mean gradient says move, one sender's own says stay: the whole clock moves it, and then all send it."""
    chain = parse_filters("kkt:0.0")
    senders = [chain.sender(1, np.float64) for _ in range(2)]
    own, l1, rate = (1.8, 0.9), 1.0, 0.1
    w, path = np.zeros(1), []
    for clock in range(1, chain.kkt.EVERY + 3):
        total = 0.0
        for sender, mean in zip(senders, own, strict=True):
            sender.encode(np.array([mean]) - w, Context(Objective(w, 1.0, l1, clock)))
            total += sender.applied[0]
        w = shrink(w - rate * total / 2, rate * l1)
        path.append(w[0])
    assert path[: chain.kkt.EVERY - 1] == [0.0] * (chain.kkt.EVERY - 1)
    assert path[chain.kkt.EVERY - 1] < 0
    assert path[-1] < path[-2] < 0


def test_kkt_sends_what_is_not_under_the_penalty():
    sender = parse_filters("kkt").sender(5, np.float32)
    at = Objective(np.zeros(5, np.float32), 1.0, 1.0, 1, penalised=np.array([[0, 2], [3, 4]]))
    sender.encode(np.full(5, 0.5, np.float32), Context(at))
    assert sender.applied.tolist() == [0, 0, 0.5, 0, 0.5]
    short = Objective(np.zeros(4, np.float32), 1.0, 1.0, 1)
    with pytest.raises(ProtocolError, match="5 elements, the point that it was computed at 4"):
        sender.encode(np.full(5, 0.5, np.float32), Context(short))
