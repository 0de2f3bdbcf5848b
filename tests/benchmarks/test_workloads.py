import gzip

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.sparse import csr_matrix
from scipy.special import log_expit
from sklearn.datasets import load_svmlight_file
from sklearn.preprocessing import normalize

from benchmarks import optima, workloads

SHARED = workloads.folder()


def csr(rows, width):
    return csr_matrix((rows.values, rows.indices, rows.indptr), shape=(len(rows.y), width))


@pytest.fixture(autouse=True)
def own_scratch(tmp_path, monkeypatch):
    monkeypatch.setattr(workloads, "scratch", lambda: tmp_path)


def test_unit_log_rows_are_what_scikit_learn_makes_of_the_logs():
    rng = np.random.default_rng(0)
    dense = rng.integers(0, 4, (20, 9)) + np.eye(20, 9, dtype=int)
    dense[:, 0] += 1  # no row is empty
    sparse = csr_matrix(dense)
    rows = workloads.Sparse(sparse.indptr, sparse.indices, sparse.data.astype(float), np.ones(20))
    expected = normalize(np.log1p(dense.astype(float)))
    np.testing.assert_allclose(csr(workloads.unit_log_rows(rows), 9).toarray(), expected, rtol=1e-12)


def test_log_loss_is_scipys_and_does_not_overflow():
    scores, signs = np.array([-800.0, -1.5, 0.0, 2.0, 800.0]), np.array([1.0, -1.0, 1.0, -1.0, 1.0])
    assert workloads.log_loss(scores, signs) == pytest.approx(float(-log_expit(signs * scores).mean()))


def test_missing_data_name_the_file():
    with pytest.raises(FileNotFoundError, match="no/such/file"):
        workloads.need("no/such/file")


def test_what_is_kept_is_read_back_the_same(monkeypatch):
    monkeypatch.setattr(workloads, "DENSE_ROWS", 500)
    first, again = workloads.dense(), workloads.dense()
    assert first[0].shape == (500, 54)
    assert first[0].dtype == np.float32
    assert 0.2 < first[1].mean() < 0.8
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_optimum_of_the_dense_rows_is_scipys(monkeypatch):
    monkeypatch.setattr(workloads, "DENSE_ROWS", 2000)
    x, y = workloads.dense()

    def cost(w):
        return optima.dense_objective(w[:-1], float(w[-1]))

    def slope(w):
        chance = 1 / (1 + np.exp(-(x @ w[:-1] + w[-1])))
        return np.append(x.T @ (chance - y) / len(y) + optima.DENSE_L2 * w[:-1], np.mean(chance - y))

    found = minimize(
        cost, np.zeros(55), jac=slope, method="L-BFGS-B", options={"gtol": 1e-9, "ftol": 1e-14, "maxiter": 2000}
    )
    assert optima.dense_best() == pytest.approx(found.fun, rel=1e-8)
    assert optima.dense_best() <= found.fun


@pytest.mark.data
def test_the_reviews_are_what_scikit_learn_reads(tmp_path, monkeypatch):
    short = tmp_path / "imdb" / "imdb_train.libsvm.gz"
    short.parent.mkdir()
    with gzip.open(SHARED / "imdb" / "imdb_train.libsvm.gz", "rt") as lines:
        text = "".join(next(lines) for _ in range(200))
    short.write_bytes(gzip.compress(text.encode()))
    monkeypatch.setattr(workloads, "folder", lambda: tmp_path)
    rows = workloads.imdb()
    x, y = load_svmlight_file(str(short), n_features=workloads.IMDB_COLUMNS, zero_based=False)
    np.testing.assert_array_equal(rows.y, y)
    assert (csr(rows, workloads.IMDB_COLUMNS) != x).nnz == 0
    assert workloads.imdb_text().read_text() == text


@pytest.mark.data
def test_mnist_has_its_known_shapes_and_first_labels():
    x, y = workloads.mnist("t10k")
    assert x.shape == (10_000, 784)
    assert y[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
