"""From a run's directory back to its program: by name where a name makes it again, and never by an unasked pickle."""

import json

import numpy as np
import pytest

import trivium as tv
from trivium.errors import UsageError
from trivium.face.fallback import run_here
from trivium.face.trained import Run
from trivium.running.job import Job
from trivium.running.recalling import is_named, options_of, program_of, recall, spec_of
from trivium.running.remembering import as_json

DRAW = np.random.default_rng(1)
X = DRAW.standard_normal((200, 4))
NUMBERS = X @ [1.0, 2.0, 0.0, -1.0] + 0.01 * DRAW.standard_normal(200)
LABELS = (NUMBERS > 0).astype(int)


def trained(model, y, out, **more):
    job = Job(model, tv.from_arrays(X, y), tv.Plan("sequential"), out, **more)
    run_here(job, None, "a test")
    return Run.load(out)


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
