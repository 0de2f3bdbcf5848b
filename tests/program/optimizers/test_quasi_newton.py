"""L-BFGS and OWL-QN: the optimum against SciPy and scikit-learn, and the state machine's promises."""

import gzip
import io
import math
from pathlib import Path

import numpy as np
import pytest
from scipy import optimize, sparse
from sklearn.datasets import load_breast_cancer, load_svmlight_file
from sklearn.linear_model import LogisticRegression

from trivium.errors import PlanError, UsageError
from trivium.program.optimizers import optimizer
from trivium.program.optimizers.base import Step
from trivium.program.optimizers.gram import Gram, coefficients
from trivium.program.optimizers.line_search import Accept, Fail, Point, Search, Try, judge
from trivium.program.optimizers.minimize import minimize, new_state
from trivium.program.optimizers.quasi_newton import Memo
from trivium.program.optimizers.totals import total
from trivium.program.params import Layout

REVIEWS_OPTIMUM = 0.18120134  # of ``reviews`` at l2 = 1e-5, by SciPy's L-BFGS-B to gtol 1e-8


class Logistic:
    """Mean log loss of labels ±1 with a free intercept, in the two forms that we and SciPy want."""

    def __init__(self, x, y, dtype="float64"):
        self.x, self.y, width = x, y, x.shape[1]
        self.across = x.T.tocsr() if sparse.issparse(x) else x.T
        self.layout = Layout.of({"w": (width,), "b": (1,)}, dtype, free=("b",))

    def sums(self, a):
        part = self.layout.views(a.astype(np.float64)) if a.dtype != np.float64 else self.layout.views(a)
        z = self.y * (self.x @ part["w"] + part["b"])
        c = -self.y / (1 + np.exp(np.minimum(z, 700)))
        g = self.layout.pack({"w": self.across @ c, "b": np.array([c.sum()])})
        return float(len(self.y)), float(np.logaddexp(0, -z).sum()), g

    def objective(self, a, l1, l2):
        weight, loss, _ = self.sums(a)
        w = self.layout.views(a)["w"]
        return loss / weight + l1 * np.abs(w).sum() + l2 / 2 * w @ w

    def scipy_optimum(self, l2):
        def both(v):
            a = self.layout.pack({"w": v[:-1], "b": v[-1:]})
            weight, loss, g = self.sums(a)
            g = np.append(self.layout.views(g)["w"], self.layout.views(g)["b"]) / weight
            g[:-1] += l2 * v[:-1]
            return loss / weight + l2 / 2 * v[:-1] @ v[:-1], g

        size = self.x.shape[1] + 1
        options = {"gtol": 1e-9, "ftol": 1e-15, "maxiter": 5000, "maxfun": 10000}
        return optimize.minimize(both, np.zeros(size), jac=True, method="L-BFGS-B", options=options)


def cancer():
    x, y = load_breast_cancer(return_X_y=True)
    return Logistic((x - x.mean(0)) / x.std(0), 2.0 * y - 1)


def generated(rows=300, width=12, seed=3):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((rows, width)) * np.logspace(-1, 1, width)
    return Logistic(x, np.where(x @ rng.standard_normal(width) + rng.standard_normal(rows) > 0, 1.0, -1.0))


def bag_of_words(rows=400, width=300, seed=4):
    """Non-negative columns whose frequencies fall as those of words do, in rows of norm 1."""
    rng = np.random.default_rng(seed)
    x = rng.poisson(20.0 / np.arange(1, width + 1), (rows, width)) * 1.0
    x = np.log1p(x)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    score = x @ rng.standard_normal(width)
    return Logistic(x, np.where(score + 0.1 * rng.standard_normal(rows) > np.median(score), 1.0, -1.0))


def rosenbrock(a):
    return 1.0, float(optimize.rosen(a)), optimize.rosen_der(a)


@pytest.mark.parametrize("problem", [cancer, generated])
@pytest.mark.parametrize("l2", [1e-1, 1e-3])
@pytest.mark.parametrize("name", ["lbfgs", "owlqn"])
def test_the_smooth_optimum_is_scipys(problem, l2, name):
    model = problem()
    reference = model.scipy_optimum(l2)
    opt = optimizer(name, tol=1e-8)
    end = minimize(model.sums, model.layout.empty(), opt, l2=l2, layout=model.layout, max_clocks=600)
    assert end.finished
    assert model.objective(end.a, 0, l2) == pytest.approx(reference.fun, rel=1e-9)
    if name == "lbfgs":
        assert end.clocks <= 1.3 * reference.nfev + 3
    assert end.iterations < end.clocks


@pytest.mark.parametrize("problem", [cancer, generated])
@pytest.mark.parametrize("l1", [1e-1, 2e-2, 5e-3])
def test_the_l1_optimum_is_scikit_learns(problem, l1):
    model = problem()
    saga = LogisticRegression(l1_ratio=1.0, C=1 / (l1 * len(model.y)), solver="saga", tol=1e-9, max_iter=20000)
    saga.fit(model.x, model.y)
    theirs = model.layout.pack({"w": saga.coef_[0], "b": saga.intercept_})
    opt = optimizer("owlqn", tol=1e-7)
    end = minimize(model.sums, model.layout.empty(), opt, l1=l1, layout=model.layout, max_clocks=3000)
    assert end.finished
    assert model.objective(end.a, l1, 0) <= model.objective(theirs, l1, 0) * (1 + 1e-6)
    ours, sparse = model.layout.views(end.a)["w"], saga.coef_[0] == 0
    assert (np.abs(ours[sparse]) < 1e-3).all()
    assert (ours == 0).sum() >= 0.7 * sparse.sum()


def reviews():
    """Every seventh film review of the data folder: word counts, log1p, rows of norm 1."""
    path = Path(__file__).parents[4] / "shared" / "data" / "imdb" / "imdb_train.libsvm.gz"
    if not path.exists():
        pytest.skip(f"needs {path}")
    lines = gzip.decompress(path.read_bytes()).splitlines()[::7]
    x, y = load_svmlight_file(io.BytesIO(b"\n".join(lines)), n_features=79_769, zero_based=False)
    x.data = np.log1p(x.data)
    norms = np.sqrt(np.asarray(x.multiply(x).sum(axis=1)).ravel())
    return Logistic(sparse.csr_matrix(sparse.diags(1 / norms) @ x), y)


@pytest.mark.data
def test_preconditioning_saves_evaluations_on_text():
    model, l2, needed = reviews(), 1e-5, {}
    for precondition in (False, True):
        values = []

        def sums(a, values=values):
            weight, loss, g = model.sums(a)
            w = model.layout.views(a)["w"]
            values.append(loss / weight + l2 / 2 * w @ w)
            return weight, loss, g

        opt = optimizer("lbfgs", tol=1e-6, precondition=precondition)
        minimize(sums, model.layout.empty(), opt, l2=l2, layout=model.layout, max_clocks=70)
        needed[precondition] = next(i for i, f in enumerate(values) if f <= 1.01 * min(values))
        assert min(values) == pytest.approx(REVIEWS_OPTIMUM, rel=2e-3)
    assert needed[True] < 0.6 * needed[False]


def test_preconditioned_lbfgs_ends_at_the_same_optimum():
    model, l2 = bag_of_words(), 1e-4
    opt = optimizer("lbfgs", tol=1e-8, precondition=True)
    end = minimize(model.sums, model.layout.empty(), opt, l2=l2, layout=model.layout, max_clocks=900)
    assert end.finished
    assert Memo.of(end.states[0].head).scaled == 1
    assert model.objective(end.a, 0, l2) == pytest.approx(model.scipy_optimum(l2).fun, rel=1e-6)


def test_preconditioned_owlqn_ends_at_the_same_optimum():
    model, l1 = bag_of_words(), 1e-3
    ends = [
        minimize(
            model.sums,
            model.layout.empty(),
            optimizer("owlqn", tol=1e-7, precondition=precondition),
            l1=l1,
            layout=model.layout,
            max_clocks=900,
        )
        for precondition in (False, True)
    ]
    assert all(end.finished for end in ends)
    plain, scaled = (model.objective(end.a, l1, 0) for end in ends)
    assert scaled == pytest.approx(plain, rel=1e-6)


def test_preconditioning_is_left_out_where_columns_have_both_signs():
    model = generated()
    end = minimize(model.sums, model.layout.empty(), optimizer("lbfgs", precondition=True), layout=model.layout)
    assert end.finished
    assert Memo.of(end.states[0].head).scaled == 0


def test_l1_so_large_that_zero_is_best():
    model = cancer()
    end = minimize(model.sums, model.layout.empty(), optimizer("owlqn", tol=1e-7), l1=5.0, layout=model.layout)
    assert end.finished
    assert not model.layout.views(end.a)["w"].any()
    share = (model.y > 0).mean()
    assert model.layout.views(end.a)["b"][0] == pytest.approx(math.log(share / (1 - share)), rel=1e-5)


@pytest.mark.parametrize("name", ["lbfgs", "owlqn"])
def test_rosenbrock(name):
    end = minimize(rosenbrock, np.array([-1.2, 1.0] * 5), optimizer(name, tol=1e-8, ftol=0.0))
    assert end.finished
    np.testing.assert_allclose(end.a, 1.0, atol=1e-6)


@pytest.mark.parametrize(("name", "l1"), [("lbfgs", 0.0), ("owlqn", 1e-3)])
@pytest.mark.parametrize(("dtype", "precondition"), [("float32", False), ("float64", False), ("float32", True)])
def test_bits_do_not_depend_on_shards_nor_on_garbage(name, l1, dtype, precondition):
    n = 7 * 4096 - 100
    rng = np.random.default_rng(5)
    scale, centre = rng.uniform(0.1, 10, n), rng.standard_normal(n)
    layout = Layout.of({"w": (n - 10,), "b": (10,)}, dtype, free=("b",))

    def bowl(a):
        full = a.astype(np.float64)
        g = np.zeros(layout.size)
        g[:n] = scale * (full[:n] - centre) + 0.1 * np.sin(full[:n])
        return 2.0, float(2 * (0.5 * scale @ (full[:n] - centre) ** 2 - 0.1 * np.cos(full[:n]).sum())), 2 * g

    def run(shards, poison=None):
        opt = optimizer(name, memory=3, precondition=precondition)
        return minimize(bowl, layout.empty(), opt, l1, 1e-2, layout, shards=shards, max_clocks=25, poison=poison)

    whole = run(1)
    assert whole.iterations > 3
    assert Memo.of(whole.states[0].head).scaled == precondition
    for shards, poison in [(2, math.nan), (3, 1e30), (7, -5.0)]:
        cut = run(shards, poison)
        assert cut.a.tobytes() == whole.a.tobytes()
        assert {s.head.tobytes() for s in cut.states} == {whole.states[0].head.tobytes()}


def test_float32_comes_as_near_as_its_rounding():
    model = cancer()
    single = Logistic(model.x, model.y, "float32")
    opt = optimizer("lbfgs", tol=1e-5)
    end = minimize(single.sums, single.layout.empty(), opt, l2=1e-3, layout=single.layout)
    assert end.finished
    assert end.a.dtype == np.float32
    best = model.scipy_optimum(1e-3).fun
    assert single.objective(end.a.astype(np.float64)[: single.layout.size], 0, 1e-3) == pytest.approx(best, rel=1e-6)


def test_what_it_ends_at_is_the_best_point_seen():
    seen = []

    def noisy(a):  # a floor of noise: the line search must fail in the end
        rough = 1e-3 * math.sin(1e9 * float(a.sum()))
        seen.append((float(a @ a) + rough, a))
        return 1.0, seen[-1][0], 2 * a

    opt = optimizer("lbfgs", tol=1e-12, ftol=0.0)
    end = minimize(noisy, np.full(3, 2.0), opt, max_clocks=300)
    assert end.finished
    assert any(np.array_equal(end.a, a) for _, a in seen)
    value = next(f for f, a in seen if np.array_equal(end.a, a))
    assert value < 0.01
    after = minimize(noisy, end.a, opt, max_clocks=1)
    assert after.clocks == 1


def test_an_overflow_shrinks_the_step():
    def steep(a):
        if a[0] > -1:
            return 1.0, float((a[0] + 2) ** 2), 2 * (a + 2)
        return 1.0, math.inf, np.full_like(a, math.nan)

    def wall(a):  # not finite beyond 0.7; the optimum lies at 0.5, the first step goes to 1
        if a[0] > 0.7:
            return 1.0, math.nan, np.full_like(a, math.nan)
        return 1.0, float((a[0] - 0.5) ** 2), 2 * (a - 0.5)

    for name in ("lbfgs", "owlqn"):
        end = minimize(wall, np.zeros(1), optimizer(name, tol=1e-9))
        assert end.a[0] == pytest.approx(0.5, abs=1e-8)
        assert np.isfinite(minimize(steep, np.zeros(1), optimizer(name), max_clocks=100).a).all()


def test_a_start_that_is_not_finite_ends_at_once():
    opt = optimizer("lbfgs")
    end = minimize(lambda a: (1.0, math.inf, a), np.ones(3), opt)
    assert (end.clocks, end.finished) == (1, True)
    assert "not finite" in opt.reason(end.states[0].head)
    np.testing.assert_array_equal(end.a, np.ones(3))


def test_a_start_at_the_optimum_ends_at_once():
    opt = optimizer("lbfgs", tol=1e-6)
    end = minimize(lambda a: (1.0, 0.0, 0 * a), np.ones(3), opt)
    assert (end.clocks, end.iterations, end.finished) == (1, 0, True)


def test_tol_is_about_the_largest_element():
    # Every element of the gradient is 0.9·tol: the 2-norm exceeds tol, the largest element does not.
    for factor, finished in [(0.9, True), (1.1, False)]:
        opt = optimizer("lbfgs", tol=1e-3)
        end = minimize(lambda a, c=factor: (2.0, 0.0, np.full(50, 2e-3 * c)), np.zeros(50), opt, max_clocks=1)
        assert end.finished is finished


@pytest.mark.parametrize("precondition", [False, True])
def test_live_rows_are_never_written(precondition):
    model, opt = bag_of_words(), optimizer("lbfgs", memory=3, tol=1e-8, precondition=precondition)
    n = model.layout.size
    a, state, free = model.layout.empty(), new_state(opt, n, "float64"), new_state(opt, n, "float64")
    free.ring = state.ring
    moved = 0
    for clock in range(25):
        weight, loss, g = model.sums(a)
        step = Step(clock, weight, loss, 0.0, 1e-3, model.layout.penalised())
        rows = np.empty((1, opt.scalar_count))
        opt.scalars(a, g, state, step, rows)
        memo = Memo.of(state.head)
        live = opt._live(memo)
        named = [*live, *(live + opt.memory + 1), *opt._rows(memo), *([opt._root(memo)] if memo.scaled else [])]
        before, out = state.ring.copy(), np.empty(n)
        opt.update(a, g, state, total(rows), step, out, free)
        np.testing.assert_array_equal(state.ring[named], before[named])
        moved += not np.array_equal(state.ring, before)
        # Whoever repeats an update that was never committed gets the same.
        again, other = np.empty(n), new_state(opt, n, "float64")
        other.ring = state.ring
        opt.update(a, g, state, total(rows), step, again, other)
        assert again.tobytes() == out.tobytes()
        assert other.head.tobytes() == free.head.tobytes()
        a, state, free = out, free, state
    assert moved > 12


def test_lbfgs_refuses_l1():
    with pytest.raises(PlanError, match="use owlqn"):
        minimize(rosenbrock, np.zeros(2), optimizer("lbfgs"), l1=0.1)


@pytest.mark.parametrize(("option", "value"), [("tol", -1.0), ("memory", 0), ("ftol", math.nan)])
def test_bad_values_are_refused(option, value):
    with pytest.raises(UsageError, match=f"lbfgs: {option} must be"):
        optimizer("lbfgs", **{option: value})


def test_the_direction_is_that_of_the_bfgs_matrix():
    # H by the dense update formula, from H0 = γI, against the coefficients on dot products.
    rng = np.random.default_rng(2)
    curve = rng.standard_normal((6, 6))
    curve = curve @ curve.T + np.eye(6)
    s = rng.standard_normal((4, 6))
    y, p = s @ curve, rng.standard_normal(6)
    inverse = np.eye(6) * (s[-1] @ y[-1]) / (y[-1] @ y[-1])
    for si, yi in zip(s, y, strict=True):
        left = np.eye(6) - np.outer(si, yi) / (si @ yi)
        inverse = left @ inverse @ left.T + np.outer(si, si) / (si @ yi)
    order = np.array([2, 4, 0, 1])  # physical rows of a ring of five
    gram = Gram(np.full(Gram.size(5), np.nan), 5)
    gram.sy[np.ix_(order, order)], gram.yy[np.ix_(order, order)] = s @ y.T, y @ y.T
    gram.sp[order], gram.yp[order], gram.pp[0] = s @ p, y @ p, p @ p
    weights, slope = coefficients(gram, order)
    direction = weights[:4] @ s + weights[4:8] @ y + weights[8] * p
    np.testing.assert_allclose(direction, -inverse @ p, rtol=1e-9)
    assert slope == pytest.approx(p @ direction, rel=1e-9)


CURVES = {
    "quartic": (lambda t: (t - 3) ** 4 - 81, lambda t: 4 * (t - 3) ** 3),
    "far": (lambda t: (t - 1e4) ** 2 / 1e4 - 1e4, lambda t: 2 * (t - 1e4) / 1e4),
    "near": (lambda t: (t - 1e-5) ** 2, lambda t: 2 * (t - 1e-5)),
    "wavy": (lambda t: -t / (t * t + 2) + 0.01 * t, lambda t: (t * t - 2) / (t * t + 2) ** 2 + 0.01),
    "overflow": (
        lambda t: math.exp(t) - 5 * t if t < 20 else math.inf,
        lambda t: math.exp(t) - 5 if t < 20 else math.nan,
    ),
}


@pytest.mark.parametrize("curve", sorted(CURVES))
@pytest.mark.parametrize("t", [1e-3, 1.0, 100.0])
def test_the_line_search_ends_at_a_strong_wolfe_point(curve, t):
    f, slope = CURVES[curve]
    search = Search.begin(f(0.0), slope(0.0))
    for _ in range(20):
        verdict = judge(search, Point(t, f(t), slope(t)), 0.0)
        if not isinstance(verdict, Try):
            break
        t, search = verdict.t, verdict.search
    assert isinstance(verdict, Accept)
    assert f(t) <= f(0.0) + 1e-4 * t * slope(0.0)
    assert abs(slope(t)) <= 0.9 * abs(slope(0.0))


def test_the_line_search_gives_up_in_bounded_time():
    search, t = Search.begin(0.0, -1.0), 1.0
    for _ in range(21):
        verdict = judge(search, Point(t, 1.0, 1.0), 0.0)
        if isinstance(verdict, Fail):
            break
        t, search = verdict.t, verdict.search
    assert isinstance(verdict, Fail)
    assert verdict.best.t == 0
