"""From a CSV to predictions, scores and exported models, by the commands alone."""

import csv
import json

import joblib
import numpy as np
import onnxruntime
import pandas as pd
import pyarrow.parquet as pq
import pytest
from sklearn import metrics

from trivium.cli import main

pytestmark = pytest.mark.slow
CITIES = ("Bern", "Oslo", "Rome")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """``rows.csv`` and two runs on it: ``runs/yes`` of two classes, ``runs/age`` of numbers."""
    place = tmp_path_factory.mktemp("applying")
    draw = np.random.default_rng(3)
    frame = pd.DataFrame({"age": draw.integers(18, 80, 600), "city": draw.choice(CITIES, 600)})
    frame["income"] = draw.random(600).round(4) * 5
    noisy = frame.age / 20 + frame.income + draw.standard_normal(600)
    frame["clicked"] = np.where(noisy > 5, "yes", "no")
    frame.to_csv(place / "rows.csv", index=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.setenv("XDG_CACHE_HOME", str(place / "cache"))
        assert (
            main(
                ["train", "logistic", "rows.csv", "--label", "clicked", "--prep", "standardize", "-q", "-o", "runs/yes"]
            )
            == 0
        )
        assert main(["train", "linear", "rows.csv", "--label", "income", "-q", "-o", "runs/age"]) == 0
    return place


@pytest.fixture(autouse=True)
def here(folder, monkeypatch):
    monkeypatch.chdir(folder)
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))


@pytest.fixture
def frame(folder):
    return pd.read_csv(folder / "rows.csv")


def encoded(frame):
    """x as the model saw it before its steps."""
    return np.column_stack([frame.age, *(frame.city == city for city in CITIES), frame.income]).astype(np.float32)


def predicted(capsys, *words):
    assert main(["predict", *words]) == 0
    return list(csv.DictReader(capsys.readouterr().out.splitlines()))


def test_predictions_go_to_the_screen_in_the_order_of_the_rows(capsys, frame):
    rows = predicted(capsys, "runs/yes", "rows.csv", "--proba")
    assert list(rows[0]) == ["prediction", "p_no", "p_yes"]
    shares = np.array([[float(row["p_no"]), float(row["p_yes"])] for row in rows])
    np.testing.assert_allclose(shares.sum(axis=1), 1)
    assert [row["prediction"] for row in rows] == list(np.array(["no", "yes"])[shares.argmax(axis=1)])
    assert np.mean([row["prediction"] for row in rows] == frame.clicked) > 0.8


def test_numbers_are_predicted_as_numbers(capsys):
    assert all(np.isfinite(float(row["prediction"])) for row in predicted(capsys, "runs/age", "rows.csv"))


def test_files_hold_the_same(capsys, tmp_path):
    shown = [row["prediction"] for row in predicted(capsys, "runs/yes", "rows.csv")]
    assert main(["predict", "runs/yes", "rows.csv", "-o", str(tmp_path / "out.parquet")]) == 0
    assert pq.read_table(tmp_path / "out.parquet")["prediction"].to_pylist() == shown
    assert "600 predicted" in capsys.readouterr().err


def test_rows_without_a_label_are_enough(capsys, frame, tmp_path):
    frame.drop(columns="clicked").to_csv(tmp_path / "new.csv", index=False)
    assert predicted(capsys, "runs/yes", str(tmp_path / "new.csv")) == predicted(capsys, "runs/yes", "rows.csv")


def test_unseen_categories_are_an_error_unless_they_are_allowed(capsys, frame, tmp_path):
    frame.assign(city="Lyon").to_csv(tmp_path / "new.csv", index=False)
    assert main(["predict", "runs/yes", str(tmp_path / "new.csv")]) == 2
    assert "column 'city': found 'Lyon', expected one of Bern, Oslo, Rome" in capsys.readouterr().err
    assert len(predicted(capsys, "runs/yes", str(tmp_path / "new.csv"), "--unseen", "ignore")) == 600
    assert main(["predict", "runs/yes", "rows.csv", "--unseen", "guess"]) == 2
    assert "unknown way 'guess'; allowed: error, ignore" in capsys.readouterr().err


def test_fewer_columns_are_an_error_that_names_them(capsys, frame, tmp_path):
    frame.drop(columns="income").to_csv(tmp_path / "few.csv", index=False)
    assert main(["predict", "runs/yes", str(tmp_path / "few.csv")]) == 2
    assert "income" in capsys.readouterr().err


def test_scores_are_those_of_scikit_learn(capsys, frame):
    p = np.array([float(row["p_yes"]) for row in predicted(capsys, "runs/yes", "rows.csv", "--proba")])
    assert main(["evaluate", "runs/yes", "rows.csv", "--metric", "auc,f1,log_loss", "--json"]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    y = frame.clicked == "yes"
    assert found["rows"] == 600
    assert found["metrics"]["auc"] == pytest.approx(metrics.roc_auc_score(y, p))
    assert found["metrics"]["f1"] == pytest.approx(metrics.f1_score(y, p > 0.5))
    assert found["metrics"]["log_loss"] == pytest.approx(metrics.log_loss(y, p))


def test_numbers_have_scores_of_their_own(capsys):
    assert main(["evaluate", "runs/age", "rows.csv"]) == 0
    assert "r2" in capsys.readouterr().out
    assert main(["evaluate", "runs/age", "rows.csv", "--metric", "auc"]) == 2
    assert "metric auc needs classes" in capsys.readouterr().err
    assert main(["evaluate", "runs/age", "rows.csv", "--metric", "rmsd"]) == 2
    assert "unknown metric 'rmsd' (did you mean 'rmse'?)" in capsys.readouterr().err


def test_probabilities_of_numbers_are_an_error(capsys):
    assert main(["predict", "runs/age", "rows.csv", "--proba"]) == 2
    assert "--proba: linear gives values, no probabilities" in capsys.readouterr().err


def test_the_exported_onnx_model_agrees(capsys, frame, tmp_path):
    p = [float(row["p_yes"]) for row in predicted(capsys, "runs/yes", "rows.csv", "--proba")]
    assert main(["export", "runs/yes", "--to", "onnx", "-o", str(tmp_path / "m.onnx")]) == 0
    assert "city=Bern, city=Oslo, city=Rome" in capsys.readouterr().out
    session = onnxruntime.InferenceSession(str(tmp_path / "m.onnx"), providers=["CPUExecutionProvider"])
    names = json.loads(session.get_modelmeta().custom_metadata_map["features"])
    assert names == ["age", "city=Bern", "city=Oslo", "city=Rome", "income"]
    label, shares = session.run(None, {"x": encoded(frame)})
    np.testing.assert_allclose(shares[:, 1], p, rtol=1e-3, atol=1e-5)
    assert set(label) == {"no", "yes"}


def test_the_exported_scikit_learn_model_agrees(capsys, frame, tmp_path):
    p = [float(row["p_yes"]) for row in predicted(capsys, "runs/yes", "rows.csv", "--proba")]
    assert main(["export", "runs/yes", "--to", "sklearn", "-o", str(tmp_path / "m.joblib")]) == 0
    made = joblib.load(tmp_path / "m.joblib")
    np.testing.assert_allclose(made.predict_proba(encoded(frame).astype(float))[:, 1], p, rtol=1e-4, atol=1e-6)


def test_the_exported_arrays_hold_everything_and_no_pickle(capsys, folder):
    assert main(["export", "runs/yes", "--to", "npz"]) == 0
    held = np.load(folder / "yes.npz", allow_pickle=False)
    about = json.loads(str(held["about"]))
    assert list(held["classes"]) == ["no", "yes"]
    assert held["param.w"].shape == (about["features"],) == (5,)
    assert about["reading"]["steps"] == [{"name": "standardize"}]
    assert main(["export", "runs/yes", "--to", "pmml"]) == 2
    assert "unknown form 'pmml'" in capsys.readouterr().err


def test_a_run_that_is_not_there_is_one_error(capsys):
    for words in (["predict", "none", "rows.csv"], ["evaluate", "none", "rows.csv"], ["export", "none", "--to", "npz"]):
        assert main(words) == 2
        assert "none: no such run; `trivium runs` lists those there are" in capsys.readouterr().err
