"""From a file of one's own to answers: frames, paths, arrays, steps, and what does not fit."""

import json
from dataclasses import replace

import numpy as np
import pytest

import trivium as tv
from trivium.errors import DataError, UsageError
from trivium.face.trained import Run
from trivium.running.job import Job, settled

pd = pytest.importorskip("pandas")
ONE = tv.Plan("sequential", threads=1)


def people(rows=600):
    draw = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "age": draw.integers(18, 80, rows),
            "city": draw.choice(["Rome", "Oslo", "Kyiv"], rows),
            "income": draw.normal(30, 9, rows).round(2),
        }
    )
    frame["bought"] = np.where((frame.age > 40) ^ (frame.city == "Rome"), "yes", "no")
    return frame


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("people")
    people().to_csv(path / "people.csv", index=False)
    people().drop(columns="bought").iloc[:50].to_csv(path / "new.csv", index=False)
    return path


@pytest.fixture(scope="module")
def run(folder):
    data = tv.read(folder / "people.csv", label="bought", prep="standardize", cache=False)
    return tv.train(
        "mlp:8", data, valid=0.2, epochs=20, lr=0.02, plan=ONE, test=folder / "people.csv", out=folder / "run"
    )


@pytest.mark.slow
@pytest.mark.parametrize("form", ["path", "frame", "frame without label", "polars", "arrow", "dataset", "loaded"])
def test_the_same_rows_get_the_same_answers_in_every_form(form, run, folder):
    frame = people().iloc[:50]
    expected = run.predict(folder / "new.csv")
    assert (expected == frame.bought.to_numpy()).mean() > 0.9
    if form == "polars":
        given = pytest.importorskip("polars").from_pandas(frame)
    elif form == "arrow":
        given = pytest.importorskip("pyarrow").Table.from_pandas(frame, preserve_index=False)
    else:
        given = {
            "path": str(folder / "new.csv"),
            "frame": frame,
            "frame without label": frame.drop(columns="bought"),
            "dataset": tv.read(folder / "people.csv", label="bought"),
            "loaded": frame,
        }[form]
    model = tv.load(run.path) if form == "loaded" else run
    np.testing.assert_array_equal(model.predict(given)[:50], expected)


@pytest.mark.slow
def test_steps_are_fitted_on_training_rows_alone_and_test_rows_use_them(run, folder):
    data = tv.read(folder / "people.csv", label="bought", prep="standardize", cache=False)
    train, _held = data.split(0.2, 0)
    assert run.reading.mark == train.reading.mark != data.reading.mark
    assert run.evaluate(people())["accuracy"] == pytest.approx(run.metrics["test_accuracy"])


@pytest.mark.slow
def test_a_run_goes_on_with_the_files_it_was_started_on(folder, tmp_path):
    data = tv.read(folder / "people.csv", label="bought", prep="standardize")
    path = folder / "people.csv"
    first = tv.train(
        "mlp:8", data, valid=0.2, max_time=0.2, epochs=10**6, patience=10**6, plan=ONE, test=path, out=tmp_path / "r"
    )
    (tmp_path / "r" / "record.json").unlink()
    again = tv.resume(tmp_path / "r")
    assert again.record.clocks > first.record.clocks
    assert again.reading.mark == first.reading.mark
    with (tmp_path / "other.csv").open("w") as other:
        other.write(path.read_text().replace("Rome", "Oslo"))
    told = json.loads((tmp_path / "r" / "plan.json").read_text())
    told["sources"]["test"] |= {"source": str(tmp_path / "other.csv"), "name": "other.csv"}
    (tmp_path / "r" / "plan.json").write_text(json.dumps(told))
    with pytest.raises(UsageError, match=r"other\.csv is not what .* was started on \(fingerprint of the test data"):
        tv.resume(tmp_path / "r")


@pytest.mark.slow
def test_columns_that_are_missing_are_named(run):
    with pytest.raises(DataError, match="has no column 'income'"):
        run.predict(people()[["age", "city"]])
    with pytest.raises(DataError, match=r"trained on 3 columns: age, city, income"):
        run.predict(np.zeros((2, 5)))


def test_a_share_is_cut_before_steps_are_fitted(folder):
    data = tv.read(folder / "people.csv", label="bought", prep="standardize", cache=False)
    job = settled(Job(tv.models.logistic(), data, ONE, valid=0.25))
    ages = job.data.columns["x"]
    ages = ages.toarray() if hasattr(ages, "toarray") else np.asarray(ages)
    assert len(job.data) == 450 and len(job.valid) == 150
    np.testing.assert_allclose(ages[:, 0].mean(), 0.0, atol=1e-5)
    np.testing.assert_allclose(ages[:, 0].std(), 1.0, atol=1e-3)
    assert settled(job) is job


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (people(), "data is a frame of pandas: say which column is the label"),
        (np.zeros((3, 2)), r"data is a ndarray; give a Dataset \(tv\.read\), a Table, a path, a pair \(x, y\)"),
        (None, "data is a NoneType"),
    ],
    ids=["frame", "array", "nothing"],
)
def test_what_rows_cannot_be_had_from_is_refused(given, said):
    with pytest.raises(UsageError, match=said):
        tv.train("logistic", given)


# -- pixels ------------------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """A model of images whose pixels are from 0 to 16, and times 1/16 in training."""
    return tv.train("softmax", "sklearn:digits", plan=ONE, out=tmp_path_factory.mktemp("images") / "run")


def pixels():
    from sklearn.datasets import load_digits

    return load_digits(return_X_y=True)


@pytest.mark.parametrize("form", ["uint8", "int8", "int32", "int64", "uint16", "list", "frame", "scaled"])
def test_pixels_are_scaled_whatever_integers_they_come_as(form, images):
    x, _ = pixels()
    expected = images.predict_proba(x.astype(np.uint8))
    given = {
        "list": lambda: x.astype(int).tolist(),
        "frame": lambda: pd.DataFrame(x.astype(int)),
        "scaled": lambda: x / 16,
    }.get(form, lambda: x.astype(form))()
    np.testing.assert_allclose(images.predict_proba(given), expected, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("kind", ["uint8", "int64", "scaled"])
def test_pixels_are_scaled_where_they_are_evaluated_and_tested(kind, images, tmp_path):
    x, y = pixels()
    given = x / 16 if kind == "scaled" else x.astype(kind)
    accuracy = np.mean(images.predict(x.astype(np.uint8)) == y)
    assert accuracy > 0.9
    assert images.evaluate((given, y))["accuracy"] == pytest.approx(accuracy)
    run = tv.train("softmax", "sklearn:digits", test=(given, y), plan=ONE, out=tmp_path / "run")
    assert run.metrics["test_accuracy"] == pytest.approx(accuracy)


def test_pixels_are_scaled_before_steps(tmp_path):
    x, y = pixels()
    data = tv.read("sklearn:digits", prep="standardize", cache=False)
    run = tv.train("softmax", data, plan=ONE, out=tmp_path / "run")
    recalled = replace(run._recalled, reading=replace(run.reading, scale=1 / 16))
    run = Run(run.path, recalled, run.record)
    expected = run.predict_proba(x / 16)
    assert (run.predict(x / 16) == y).mean() > 0.95
    np.testing.assert_allclose(run.predict_proba(x.astype(int)), expected, rtol=1e-4, atol=1e-9)


def test_floats_that_no_pixel_comes_to_are_refused(images):
    x, y = pixels()
    with pytest.raises(DataError, match=r"X holds 16, .* pixels times 0\.0625, which come to 15\.9375 at most"):
        images.predict(x)
    with pytest.raises(DataError, match="data holds 16"):
        images.evaluate((x, y))


@pytest.mark.parametrize("value", [-1, 256])
def test_integers_that_are_no_pixels_are_refused(value, images):
    with pytest.raises(DataError, match=f"X holds {value}, but the model was trained on pixels from 0 to 255"):
        images.predict(np.full((2, 64), value))


def test_evaluation_prepares_arrays_as_prediction_does(folder, tmp_path):
    draw = np.random.default_rng(2)
    x = draw.normal(100.0, 30.0, (300, 2))
    frame = pd.DataFrame(x, columns=["a", "b"]).assign(y=(x[:, 0] > 100).astype(int))
    data = tv.from_pandas(frame, label="y", prep="standardize")
    run = tv.train("logistic", data, plan=ONE, out=tmp_path / "run")
    assert run.evaluate((x, frame.y.to_numpy()))["accuracy"] == np.mean(run.predict(x) == frame.y) > 0.95
