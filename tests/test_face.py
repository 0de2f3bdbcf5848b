"""The face on real processes: train, start, resume, load; what a run says and answers."""

import json
import pickle
import threading

import numpy as np
import pytest
import scipy.sparse
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score, log_loss

import trivium as tv
from tests.watching import Watcher
from trivium.errors import DataError, PlanError, UsageError
from trivium.record import SilentObserver

pytestmark = pytest.mark.slow
X, Y = load_digits(return_X_y=True)
TWO = (Y > 4).astype(int)
ONE = tv.Plan("sequential", threads=1)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    return tv.train(
        "mlp:16", (X / 16, Y), valid=0.2, epochs=8, lr=0.01, plan=ONE, out=tmp_path_factory.mktemp("a") / "run"
    )


def test_a_run_gets_a_directory_of_its_own_and_says_what_was_chosen(folder):
    run = tv.train(tv.models.logistic(), (X, TWO), max_iter=5)
    assert run.path.parent.name == "runs" and run.path.name == "logistic-sequential-0001"
    assert run.record.notices[0].startswith("sequential with ")
    assert run.record.notices[0] in " ".join(run.summary().split())
    told = json.loads((run.path / "plan.json").read_text())
    assert told["plan"]["design"] == "sequential" and told["chosen"] == run.record.notices[0]
    assert tv.train(tv.models.logistic(), (X, TWO), max_iter=2).path.name == "logistic-sequential-0002"


def test_logistic_regression_answers_as_scikit_learn_does():
    run = tv.train("logistic", (X, TWO), plan=ONE, tol=1e-8, max_iter=5000, out="run")
    peer = LogisticRegression(C=1.0, tol=1e-8, max_iter=5000).fit(X, TWO)
    np.testing.assert_array_equal(run.predict(X), peer.predict(X))
    np.testing.assert_allclose(run.predict_proba(X), peer.predict_proba(X), atol=1e-4)
    assert run.predict(X).dtype.kind == "i"
    assert run.metrics["train_accuracy"] == pytest.approx(peer.score(X, TWO))
    scores = run.evaluate((X, TWO), ("f1", "log_loss"))
    assert scores["f1"] == pytest.approx(f1_score(TWO, run.predict(X)))
    assert scores["log_loss"] == pytest.approx(log_loss(TWO, run.predict_proba(X)))


def test_a_run_is_loaded_with_the_same_answers(digits):
    again = tv.load(digits.path)
    np.testing.assert_array_equal(again.predict_proba(X / 16), digits.predict_proba(X / 16))
    assert again.metrics == digits.metrics
    assert again.model.name == "mlp:16" and set(again.params) == set(digits.params)
    assert again.evaluate((X / 16, Y))["accuracy"] > 0.8
    copied = pickle.loads(pickle.dumps(again))
    np.testing.assert_array_equal(copied.predict(X[:9] / 16), digits.predict(X[:9] / 16))


@pytest.mark.parametrize("given", [list, np.float32, "table", "fortran", "pieces"])
def test_rows_may_come_in_many_forms(given, digits):
    rows = X[:100] / 16
    expected = digits.predict(rows)
    if given is list:
        found = digits.predict(rows.tolist())
    elif given == "table":
        found = digits.predict(tv.from_arrays(rows))
    elif given == "fortran":
        found = digits.predict(np.asfortranarray(rows))
    elif given == "pieces":  # more rows than are predicted at a time
        found = digits.predict(np.tile(rows, (100, 1)))[-100:]
    else:
        found = digits.predict(rows.astype(given))
    np.testing.assert_array_equal(found, expected)


def test_sparse_rows_and_text_labels():
    names = np.array(["low", "high"])[TWO]
    run = tv.train("logistic", (scipy.sparse.csr_matrix(X), names), plan=ONE, out="run")
    assert set(run.classes) == {"high", "low"}
    found = run.predict(scipy.sparse.csc_array(X))
    assert (found == names).mean() == pytest.approx(run.metrics["train_accuracy"])
    assert (tv.load("run").predict(scipy.sparse.csr_array(X)) == found).all()
    with pytest.raises(DataError, match="X is dense, the model was trained on sparse rows"):
        run.predict(X)


def test_features_that_are_not_those_of_training_are_refused(digits):
    with pytest.raises(DataError, match="X has 5 features, but the model was trained on 64"):
        digits.predict(X[:, :5])
    with pytest.raises(DataError, match=r"x\.reshape\(1, -1\)"):
        digits.predict(X[0])
    with pytest.raises(DataError, match="expected numbers"):
        digits.predict(np.full((2, 64), "a"))


# -- what is asked for -------------------------------------------------------------------------------------------------
def test_further_metrics_are_measured_on_rows_that_were_held_out():
    run = tv.train(
        "logistic", (X[:1200], TWO[:1200]), test=(X[1200:], TWO[1200:]), metrics=("f1", "auc"), plan=ONE, out="r"
    )
    assert run.metrics["test_f1"] == pytest.approx(f1_score(TWO[1200:], run.predict(X[1200:])))
    assert {"test_auc", "test_accuracy", "test_loss"} <= run.metrics.keys()
    assert "test_auc" in run.summary()


def test_metrics_of_a_share_are_those_of_the_rows_that_were_held_out():
    run = tv.train("mlp:8", (X / 16, Y), valid=0.25, epochs=4, metrics="accuracy", plan=ONE, out="run")
    assert run.metrics["valid_accuracy"] == pytest.approx(run.record.valid_accuracy)


@pytest.mark.parametrize(
    ("asked", "error", "said"),
    [
        ({"model": "mpl:5"}, UsageError, "unknown model 'mpl'.*'mlp'"),
        ({"data": 7}, UsageError, r"data is a int; give a Dataset \(tv.read\)"),
        ({"lr": 0.1}, PlanError, "lr=0.1: lbfgs has no learning rate"),
        ({"optimizer": "adan"}, UsageError, "unknown optimizer 'adan'.*'adam'"),
        ({"batch_size": 9, "batch_per_worker": 9}, PlanError, "give one of them"),
        ({"batch_size": "all"}, UsageError, "batch_size='all'; expected a number of rows, or 'full'"),
        ({"metrics": "acuracy"}, UsageError, "unknown metric 'acuracy'.*'accuracy'"),
        ({"valid": (X, TWO + 9)}, DataError, r"y\[0\] is 9.0, none of classes=\(0, 1\)"),
        ({"metrics": "f1"}, PlanError, "metrics=f1: they are measured on rows that are held out; give valid or test"),
        ({"epochs": 0}, PlanError, "epochs must be above 0"),
    ],
)
def test_a_mistake_is_an_error_before_anything_starts(asked, error, said, folder):
    given = {"model": "logistic", "data": (X, TWO)} | asked
    with pytest.raises(error, match=said):
        tv.train(given.pop("model"), given.pop("data"), **given)
    assert not (folder / "runs").exists()


def test_batch_per_worker_is_the_other_way_to_say_batch_size():
    plan = tv.Plan("ps", workers=2)
    run = tv.train("mlp:4", (X, Y), epochs=1, batch_per_worker=64, plan=plan, out="run", valid=0.0)
    assert json.loads((run.path / "plan.json").read_text())["batch_size"] == 128


def test_the_rate_alone_changes_no_other_default():
    run = tv.train("mlp:4", (X, Y), lr=0.02, epochs=1, plan=ONE, out="run")
    told = json.loads((run.path / "plan.json").read_text())
    assert told["optimizer"] == "adam" and told["optimizer_options"]["lr"] == 0.02
    assert ("validation" in json.loads((run.path / "data.json").read_text())["parts"]) == (run.model.defaults.valid > 0)


def test_an_observer_of_ones_own_is_told():
    class Hears(SilentObserver):
        stages = ()

        def stage(self, name, seconds=None):
            self.stages += (name,)

    heard = Hears()
    tv.train("logistic", (X, TWO), plan=ONE, out="run", progress=heard)
    assert {"start", "save"} <= set(heard.stages)


def test_lines_are_shown_where_they_are_asked_for(capsys):
    tv.train("logistic", (X, TWO), out="a", progress=True)
    assert "notice: sequential with" in capsys.readouterr().err
    tv.train("logistic", (X, TWO), out="b", progress=False)
    tv.train("logistic", (X, TWO), out="c")
    assert capsys.readouterr().err == ""


# -- runs that go on ---------------------------------------------------------------------------------------------------
def test_a_run_that_was_stopped_goes_on():
    watcher, endless = Watcher(), {"epochs": 100_000, "patience": 100_000}
    live = tv.start("mlp:8", "sklearn:digits", **endless, valid=0.2, plan=ONE, out="run", progress=watcher)
    assert live.wait(0.0) is None
    assert watcher.middle.wait(60)
    assert set(live.pids) == {"worker 0"}
    live.stop()
    first = live.result()
    assert first.record.stopped_by == "stopped" and first.path.name == "run"
    told = json.loads((first.path / "plan.json").read_text())
    told["stopping"]["max_time"] = 0.2
    (first.path / "plan.json").write_text(json.dumps(told))
    again = tv.resume("run")
    assert again.record.stopped_by == "max_time" and again.record.clocks > first.record.clocks
    assert again.predict(X[:3].astype(int)).shape == (3,)


def test_a_session_keeps_processes_and_has_a_plan_of_its_own():
    with tv.Session(workers=2) as session:
        first = session.train("mlp:4", (X, Y), epochs=1, out="a")
        second = session.start("mlp:4", (X, Y), epochs=1, out="b").result()
    assert (first.record.design, first.record.workers) == ("ps", 2)
    assert second.record.params_sha256 == first.record.params_sha256 or second.record.workers == 2
    assert second.record.startup_seconds < max(1.0, first.record.startup_seconds)


def test_two_threads_train_beside_each_other():
    found = {}

    def work(name):
        found[name] = tv.train("logistic", (X, TWO), plan=ONE, out=name).record.params_sha256

    threads = [threading.Thread(target=work, args=(name,)) for name in "ab"]
    for one in threads:
        one.start()
    for one in threads:
        one.join(100)
    assert found["a"] == found["b"]


# -- programs of one's own ---------------------------------------------------------------------------------------------
def own_program():
    def start(_key):
        return {"w": np.zeros((64, 10), np.float32)}

    def loss(params, batch, _key):
        import jax

        logits = jax.nn.log_softmax(batch["x"] @ params["w"])
        return -jax.numpy.take_along_axis(logits, batch["y"][:, None], axis=1).mean(), {}

    def predict(params, batch):
        import jax

        return jax.nn.softmax(batch["x"] @ params["w"])

    return tv.Program.from_loss(start, loss, tv.optim.adam(0.05), predict=predict, batch_size=128)


def test_a_program_from_python_is_loaded_only_where_it_is_trusted():
    run = tv.train(own_program(), ((X / 16).astype(np.float32), Y), epochs=5, plan=ONE, out="run")
    assert (run.path / "program.pkl").exists()
    with pytest.raises(UsageError, match=r"to read it is to run it.*trust=True"):
        tv.load("run")
    again = tv.load("run", trust=True)
    rows = (X / 16).astype(np.float32)
    np.testing.assert_array_equal(again.predict(rows), run.predict(rows))
    assert (again.predict(rows) == Y).mean() > 0.9


def test_a_model_by_name_needs_no_pickle(digits):
    assert not (digits.path / "program.pkl").exists()


@pytest.mark.parametrize(
    ("made", "said"), [(False, "no such run"), (True, "has no model; it did not finish")], ids=["missing", "unfinished"]
)
def test_what_is_no_finished_run_cannot_be_loaded(made, said, folder):
    if made:
        (folder / "run").mkdir()
    with pytest.raises(UsageError, match=said):
        tv.load("run")


# -- what it says ------------------------------------------------------------------------------------------------------
def test_the_report_is_one_page_that_needs_nothing_else(digits, folder):
    text = digits.report("r.html")
    page = (folder / "r.html").read_text()
    assert "validation" in text and page.startswith("<!DOCTYPE html>")
    for outside in ("http://", "https://", "<script", "<link", "src=", "@import", "url("):
        assert outside not in page
    assert "<svg" in digits._repr_html_()
    assert "mlp:16" in repr(digits) and "valid_accuracy" in repr(digits)
