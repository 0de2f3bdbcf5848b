"""From a run's directory back to its program: by name where a name makes it again, and never by an unasked pickle."""

import json

import numpy as np
import pytest

import trivium as tv
from trivium.cli.words import in_options
from trivium.errors import UsageError
from trivium.face.fallback import run_here
from trivium.face.trained import Run
from trivium.program.models import model as named
from trivium.running import session
from trivium.running.job import Job
from trivium.running.recalling import is_named, needs_trust, options_of, program_of, recall, reference, spec_of
from trivium.running.remembering import as_json, remembered_job

DRAW = np.random.default_rng(1)
X = DRAW.standard_normal((200, 4))
NUMBERS = X @ [1.0, 2.0, 0.0, -1.0] + 0.01 * DRAW.standard_normal(200)
ONE = tv.Plan("sequential")
LABELS = (NUMBERS > 0).astype(int)


def trained(model, y, out, load=True, **more):
    job = Job(model, tv.from_arrays(X, y), tv.Plan("sequential"), out, **more)
    run_here(job, None, "a test")
    return Run.load(out) if load else None


@pytest.mark.parametrize("name", ["logistic", "softmax", "mlp:8,4:tanh"])
def test_a_name_makes_the_same_program_again(name):
    from trivium.program.models import model

    program = model(name)
    assert is_named(program)
    assert json.loads(as_json(options_of(program))).keys() == options_of(program).keys()


def test_options_that_differ_from_the_defaults_come_back(tmp_path):
    run = trained(tv.models.logistic(dtype="float32"), LABELS, tmp_path / "run")
    assert run.model.layout.dtype == "float32"
    assert program_of(tmp_path / "run").for_data(spec_of(tmp_path / "run")[0]) == run.model
    assert (run.predict(X) == LABELS).mean() > 0.95
    assert not (tmp_path / "run" / "program.pkl").exists()


def test_regression_gives_numbers(tmp_path):
    run = trained(tv.models.linear(), NUMBERS, tmp_path / "run")
    expected = np.linalg.lstsq(np.c_[X, np.ones(200)], NUMBERS, rcond=None)[0]
    np.testing.assert_allclose(run.predict(X), np.c_[X, np.ones(200)] @ expected, atol=0.05)
    assert run.evaluate((X, NUMBERS), ("r2", "rmse"))["r2"] > 0.99
    assert len(run.classes) == 0
    with pytest.raises(tv.errors.PlanError, match="no probabilities; use predict"):
        run.predict_proba(X)


def test_margins_give_labels_and_no_probabilities(tmp_path):
    run = trained(tv.models.svm(), LABELS, tmp_path / "run")
    assert (run.predict(X) == LABELS).mean() > 0.95
    np.testing.assert_array_equal(run.predict(X), (run.scores(X) > 0).astype(int))
    with pytest.raises(tv.errors.PlanError, match="no probabilities"):
        run.predict_proba(X)
    with pytest.raises(tv.errors.PlanError, match="metric log_loss needs probabilities"):
        run.evaluate((X, LABELS), "log_loss")


@pytest.mark.parametrize("name", ["plan.json", "data.json"])
def test_a_file_that_is_damaged_is_named(name, tmp_path):
    trained(tv.models.logistic(), LABELS, tmp_path / "run")
    (tmp_path / "run" / name).write_text("{")
    with pytest.raises(UsageError, match=rf"{name} cannot be read \(.*bring the file back"):
        recall(tmp_path / "run")


def test_parameters_of_another_model_are_refused(tmp_path):
    trained(tv.models.logistic(), LABELS, tmp_path / "run")
    told = json.loads((tmp_path / "run" / "data.json").read_text())
    wide = told | {"features": 9, "columns": told["columns"] | {"x": ["float64", [9]]}}
    (tmp_path / "run" / "data.json").write_text(json.dumps(wide))
    with pytest.raises(UsageError, match=r"holds .*'w': \(4,\).*, its program logistic has .*'w': \(9,\)"):
        recall(tmp_path / "run")


# -- code of others ----------------------------------------------------------------------------------------------------
OWN = """import pathlib
import trivium as tv

pathlib.Path(__file__).with_suffix(".ran").touch()
program = tv.models.logistic()
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    """The folder of a run by ``mine.py:program``, and what is there once that file was run again."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(OWN)
    trained(named("mine.py:program"), LABELS, tmp_path / "run", sources={"model": "mine.py:program"}, load=False)
    (tmp_path / "mine.ran").unlink()
    return tmp_path / "run", tmp_path / "mine.ran"


def test_a_file_that_the_directory_names_is_run_only_for_who_trusts_it(own, monkeypatch):
    run, ran = own
    assert needs_trust(run)
    for load in (tv.load, recall, program_of):
        with pytest.raises(
            UsageError, match=r"plan\.json names the program /.*mine\.py:program.*'trust=True'"
        ) as caught:
            load(run)
        assert "give --trust (in Python 'trust=True')" in in_options(str(caught.value))
    assert not ran.exists()
    monkeypatch.chdir("/")
    assert (tv.load(run, trust=True).predict(X) == LABELS).mean() > 0.95
    assert ran.exists()


def test_nor_does_a_run_go_on_by_it(own):
    run, ran = own
    job = Job(
        tv.models.logistic(), tv.read("synthetic:80x4"), ONE, run.with_name("b"), sources={"model": "mine.py:program"}
    )
    run_here(job, None, "a test")
    for resume in (tv.resume, session.resume):
        (job.folder / "checkpoints").mkdir(exist_ok=True)
        with pytest.raises(UsageError, match=r"names the program /.*mine\.py:program"):
            resume(job.folder)
    assert not ran.exists()
    assert remembered_job(job.folder, trust=True).program == tv.models.logistic()
    assert ran.exists()


@pytest.mark.parametrize("sources", [None, {"model": None}])
def test_the_name_of_a_program_is_no_way_around_that(sources, own):
    run, ran = own
    told = json.loads((run / "plan.json").read_text())
    (run / "plan.json").write_text(json.dumps(told | {"model": "mine.py:program", "sources": sources}))
    with pytest.raises(UsageError, match=r"names the program mine\.py:program"):
        recall(run)
    assert not ran.exists() and needs_trust(run)


def test_a_model_by_name_needs_no_trust(tmp_path):
    trained(tv.models.logistic(), LABELS, tmp_path / "run", sources={"model": "logistic"})
    assert not needs_trust(tmp_path / "run") and not needs_trust(tmp_path / "none")


@pytest.mark.parametrize("name", ["logistic", "linear:huber", "mlp:8,4:tanh", "package.module:make"])
def test_what_is_no_file_is_remembered_as_it_is(name):
    assert reference(name) == name


def test_a_file_is_remembered_from_the_root_on(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert reference("a/mine.py:net") == f"{tmp_path}/a/mine.py:net" == reference(f"{tmp_path}/a/mine.py:net")
