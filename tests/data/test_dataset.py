"""Data sets: the same rows from the cache, from memory or piece by piece; steps fitted on their own share only."""

import json
import os
import threading

import numpy as np
import pandas as pd
import pytest

from trivium.data import dataset as room
from trivium.data.cache import Cache
from trivium.data.frame import Partition
from trivium.data.read import from_generator, from_pandas, from_recipe, read, split
from trivium.data.reading import Reading
from trivium.data.spool import DiskSpool
from trivium.data.table import Csr
from trivium.errors import DataError, StorageError


@pytest.fixture
def people(tmp_path):
    """A CSV of 500 people in two files, and the frame that it was written from."""
    draw = np.random.default_rng(7)
    frame = pd.DataFrame(
        {
            "age": draw.integers(18, 90, 500),
            "income": draw.normal(40, 9, 500).round(3),
            "city": draw.choice(["Rome", "Oslo", "Bern"], 500),
            "weight": draw.uniform(0.5, 2, 500).round(3),
            "label": draw.choice(["no", "yes"], 500),
        }
    )
    folder = tmp_path / "people"
    folder.mkdir()
    frame[:300].to_csv(folder / "a.csv", index=False)
    frame[300:].to_csv(folder / "b.csv", index=False)
    return folder, frame


@pytest.fixture
def cache(tmp_path):
    return Cache(tmp_path / "rows")


def matrix(frame):
    cities = pd.get_dummies(frame["city"])[["Bern", "Oslo", "Rome"]].to_numpy(np.float32)
    return np.column_stack([frame["age"], frame["income"], cities]).astype(np.float32)


def test_the_second_reading_comes_from_the_cache(people, cache, monkeypatch):
    folder, frame = people
    first = read(folder, weight="weight", cache=cache)
    np.testing.assert_array_equal(first.table().columns["x"], matrix(frame))
    monkeypatch.setattr("trivium.data.sources.csv.CsvSource.read", lambda *_: pytest.fail("it was read again"))
    again = read(folder, weight="weight", cache=cache)
    table = again.table()
    np.testing.assert_array_equal(table.columns["x"], matrix(frame))
    np.testing.assert_array_equal(table.columns["y"], frame["label"] == "yes")
    np.testing.assert_array_equal(table.columns["weight"], frame["weight"].to_numpy(np.float32))
    assert table.mapped and table.classes == ("no", "yes")
    assert again.fingerprint == first.fingerprint
    assert again.reading.encoding == first.reading.encoding


def test_a_changed_file_and_other_wishes_are_read_anew(people, cache):
    folder, _frame = people
    before = read(folder, weight="weight", cache=cache).fingerprint
    assert read(folder, weight="weight", dtype="float64", cache=cache).table().columns["x"].dtype == np.float64
    with (folder / "b.csv").open("a") as file:
        file.write("44,12.5,Rome,1.0,no\n")
    grown = read(folder, weight="weight", cache=cache)
    assert len(grown) == 501 and grown.fingerprint != before


def test_memory_and_cache_hold_the_same(people, cache):
    folder, _frame = people
    one, other = read(folder, cache=False, prep="standardize"), read(folder, cache=cache, prep="standardize")
    np.testing.assert_array_equal(one.table().columns["x"], other.table().columns["x"])
    assert not one.table().mapped and other.table().mapped


def test_where_the_cache_cannot_be_written_memory_serves(people, cache, monkeypatch, caplog):
    def full(_self, _name, _piece):
        raise StorageError("no room")

    monkeypatch.setattr(DiskSpool, "_write", full)
    folder, frame = people
    np.testing.assert_array_equal(read(folder, weight="weight", cache=cache).table().columns["x"], matrix(frame))
    assert "no room" in caplog.text
    assert not list(cache.root.glob(".*"))


def test_steps_are_fitted_on_the_share_that_is_trained_on(people, cache):
    folder, frame = people
    train, valid = read(folder, features=["age", "income"], prep="standardize", cache=cache).split(0.2, seed=3)
    rows = np.random.default_rng(3).permutation(500)
    kept, held = np.sort(rows[100:]), np.sort(rows[:100])
    x = frame[["age", "income"]].to_numpy(np.float64)
    mean, std = x[kept].mean(axis=0), x[kept].std(axis=0)
    np.testing.assert_allclose(train.table().columns["x"], (x[kept] - mean) / std, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(valid.table().columns["x"], (x[held] - mean) / std, rtol=1e-4, atol=1e-5)
    assert len({train.fingerprint, valid.fingerprint}) == 2
    np.testing.assert_array_equal(valid.table().columns["y"], frame["label"].to_numpy()[held] == "yes")


def test_a_share_of_a_large_table_passes_through_the_cache(people, cache, monkeypatch):
    monkeypatch.setattr(room, "SMALL", 0)
    monkeypatch.setattr(room, "STRIP_BYTES", 1000)
    folder, _frame = people
    data = read(folder, cache=cache)
    train, valid = data.split(0.3, seed=1)
    expected = split(data.table(), 0.3, seed=1)
    for got, wanted in zip((train, valid), expected, strict=True):
        assert got.table().mapped
        for name in ("x", "y"):
            np.testing.assert_array_equal(got.table().columns[name], wanted.columns[name])


def test_test_rows_are_read_like_the_training_rows(people, cache, tmp_path):
    folder, frame = people
    data = read(folder, weight="weight", prep="standardize", cache=cache)
    frame[:5].drop(columns=["weight"]).assign(weight=1.0)[["label", "city", "income", "age", "weight"]].to_csv(
        tmp_path / "test.csv", index=False
    )
    test = read(tmp_path / "test.csv", like=data, cache=cache)
    np.testing.assert_array_equal(test.table().columns["x"], data.table().columns["x"][:5])
    np.testing.assert_array_equal(test.table().columns["y"], data.table().columns["y"][:5])


def test_a_reading_is_saved_and_means_the_same(people, cache, tmp_path):
    folder, frame = people
    data = read(folder, weight="weight", prep="log1p|standardize", cache=cache)
    about, arrays = data.reading.as_json()
    saved = Reading.from_json(json.loads(json.dumps(about)), arrays)
    assert saved.mark == data.reading.mark
    frame.drop(columns=["label", "weight"]).to_csv(tmp_path / "new.csv", index=False)
    pieces = list(read(tmp_path / "new.csv", like=saved, cache=cache).tables())
    np.testing.assert_array_equal(np.concatenate([one.columns["x"] for one in pieces]), data.table().columns["x"])
    assert all("y" not in one.columns for one in pieces)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"drop": "age"}, "has no column 'age'"),
        ({"rename": ("age", "agee")}, r"has no column 'age' \(did you mean 'agee'\?\)"),
        ({"add": "height"}, "1 column more than the training rows: height"),
        ({"city": "Lima"}, "Lima"),
        ({"label": "maybe"}, "maybe"),
    ],
)
def test_what_does_not_fit_the_training_rows_is_told(people, cache, tmp_path, change, words):
    folder, frame = people
    data = read(folder, weight="weight", cache=cache)
    other = frame[:50].copy()
    if "drop" in change:
        other = other.drop(columns=change["drop"])
    if "rename" in change:
        other = other.rename(columns=dict([change["rename"]]))
    if "add" in change:
        other[change["add"]] = 1
    for name in ("city", "label"):
        if name in change:
            other.loc[other.index[40], name] = change[name]
    other.to_csv(tmp_path / "test.csv", index=False)
    with pytest.raises(DataError, match=words):
        read(tmp_path / "test.csv", like=data, cache=cache).table()


def test_bad_rows_are_counted_over_all_parts_and_remembered(people, cache):
    folder, _frame = people
    for name in ("a.csv", "b.csv"):
        with (folder / name).open("a") as file:
            file.write("old,1.5,Rome,1.0,no\n44,1.5,Rome\n")
    with pytest.raises(DataError, match=r"a.csv: line 302"):
        read(folder, weight="weight", cache=cache, types={"age": "number"}).table()
    with pytest.raises(DataError, match="bad rows"):
        read(folder, weight="weight", cache=cache, types={"age": "number"}, max_bad_rows=3).table()
    for _ in range(2):
        data = read(folder, weight="weight", cache=cache, types={"age": "number"}, max_bad_rows=4)
        assert len(data) == 500
        assert [(one.file[-5:], one.line) for one in data.skipped] == [
            ("a.csv", 302), ("a.csv", 303), ("b.csv", 202), ("b.csv", 203),
        ]  # fmt: skip
        assert "passed over 4 bad rows" in data.table().notes


def test_frames_in_memory_are_not_cached(people, cache):
    _folder, frame = people
    data = from_pandas(frame, weight="weight")
    np.testing.assert_array_equal(data.table().columns["x"], matrix(frame))
    assert not data.table().mapped and not cache.root.exists()


def test_sparse_rows_pass_through_files_alike(tmp_path, cache):
    (tmp_path / "a.libsvm").write_text("1 1:2 5:1\n-1 2:4\n1 3:0.5 4:1\n")
    for _ in range(2):
        data = read(tmp_path / "a.libsvm", prep="normalize", cache=cache)
        x = data.table().columns["x"]
        assert isinstance(x, Csr) and x.width == 5
        np.testing.assert_allclose(x.values, [2 / 5**0.5, 1 / 5**0.5, 1, 0.5 / 1.25**0.5, 1 / 1.25**0.5], rtol=1e-6)
    (tmp_path / "b.libsvm").write_text("1 1:1\n")
    assert read(tmp_path / "b.libsvm", like=data, cache=cache).spec.features == 5


def test_a_generator_is_called_anew_for_each_reading():
    def rows():
        for seed in range(4):
            draw = np.random.default_rng(seed)
            yield draw.normal(size=(10, 3)), draw.integers(0, 2, 10)

    one, other = from_generator(rows), from_generator(rows, prep="standardize")
    assert len(one) == 40
    np.testing.assert_allclose(other.table().columns["x"].mean(axis=0), 0, atol=1e-6)


def test_wishes_that_follow_from_like_are_refused(people, cache):
    data = read(people[0], cache=cache)
    with pytest.raises(DataError, match="label='city': follows from like= already"):
        read(people[0], like=data, label="city")


def test_options_that_a_format_cannot_use_are_refused(people):
    with pytest.raises(DataError, match="part='test' is nothing that csv has a use for; idx, sklearn, synthetic have"):
        read(people[0], part="test")


def test_steps_that_the_encoding_carries_out_are_not_done_again(people, cache):
    plain = read(people[0], weight="weight", cache=cache)
    asked = read(people[0], weight="weight", prep="onehot", cache=cache)
    np.testing.assert_array_equal(asked.table().columns["x"], plain.table().columns["x"])
    assert asked.reading.steps == ()
    hashed = read(people[0], weight="weight", prep="hash:16,standardize", cache=cache)
    assert hashed.spec.features == 18
    assert [step.name for step in hashed.reading.steps] == ["standardize"]
    again = list(read(people[0], like=hashed, cache=cache).tables())
    got = np.concatenate([one.columns["x"].values for one in again])
    np.testing.assert_array_equal(got, hashed.table().columns["x"].values)


def rows_of(data):
    return [tuple(row) for row in data.table().columns["x"].tolist()]


def test_a_split_of_a_split_holds_none_of_what_was_held_out(people, cache):
    data = read(people[0], weight="weight", cache=cache)
    rest, test = data.split(0.2, seed=1)
    train, valid = rest.split(0.25, seed=1)
    assert [len(one) for one in (train, valid, test)] == [300, 100, 100]
    assert sorted(rows_of(train) + rows_of(valid) + rows_of(test)) == sorted(rows_of(data))
    again, held = test.split(0.5)
    assert sorted(rows_of(again) + rows_of(held)) == sorted(rows_of(test))


def test_a_share_answers_for_its_own_rows_only(people, cache):
    _, test = read(people[0], weight="weight", prep="standardize", cache=cache).split(0.2)
    pieces = list(test.tables())
    np.testing.assert_array_equal(np.concatenate([one.columns["x"] for one in pieces]), test.table().columns["x"])
    assert all(set(one.columns) == {"x"} for one in pieces)


def test_further_steps_are_done_to_both_sides_or_refused(people, cache):
    from trivium.data.transforms import Normalize

    data = read(people[0], weight="weight", cache=cache)
    for side in data.split(0.2):
        lengths = np.linalg.norm(side.prepared_by(Normalize()).table().columns["x"], axis=1)
        np.testing.assert_allclose(lengths, 1, rtol=1e-5)
    with pytest.raises(DataError, match="read like other rows"):
        read(people[0], like=data).prepared_by(Normalize())


@pytest.mark.parametrize("ways", [[], ["train"], ["valid"], ["train", "valid"]])
def test_a_recipe_gives_the_same_rows_again_from_any_folder(people, cache, tmp_path, monkeypatch, ways):
    folder, _frame = people
    with (folder / "b.csv").open("a") as file:
        file.write("old,1.5,Rome,1.0,no\n")
    monkeypatch.chdir(tmp_path)
    data = read(["people/a.csv", "people/b.csv"], weight="weight", prep="standardize", max_bad_rows=1, cache=cache)
    for way in ways:
        data = data.split(0.3, seed=5)[way == "valid"]
    told = json.loads(json.dumps(data.recipe()))
    data.table()
    monkeypatch.chdir("/")
    again = from_recipe(told, data.reading)
    assert again.fingerprint == data.fingerprint
    np.testing.assert_array_equal(again.table().columns["x"], data.table().columns["x"])


def test_rows_in_memory_have_no_recipe(people):
    assert from_pandas(people[1]).recipe() is None
    with pytest.raises(DataError, match="this is no recipe"):
        from_recipe({"source": "x"}, None)


def test_what_is_not_read_in_time_is_named_and_given_up(monkeypatch):
    from trivium.data import frame

    held = threading.Event()
    monkeypatch.setattr(frame, "PATIENCE", 0.1)
    try:
        with pytest.raises(DataError, match=r"slow\.csv, from 7 on: not read after 0\.1 s"):
            list(frame.in_order(lambda item: held.wait(20), [Partition("slow.csv", 7), Partition("b")], threads=2))
    finally:
        held.set()


def test_a_file_that_changes_while_it_is_read_is_told(people, cache):
    folder, _frame = people
    data = read(folder, cache=cache)
    with (folder / "b.csv").open("a") as file:
        file.write("44,12.5,Rome,1.0,no\n")
    with pytest.raises(DataError, match=r"b\.csv: changed while it was read"):
        data.table()
    assert not list(cache.root.glob("*/entry.json"))


def test_a_file_of_the_same_size_and_time_is_still_another(people, cache):
    folder, _frame = people
    path = folder / "a.csv"
    before, time = read(folder, cache=cache).fingerprint, path.stat().st_mtime_ns
    path.write_text(path.read_text().replace("Rome", "Oslo"))
    os.utime(path, ns=(time, time))
    assert read(folder, cache=cache).fingerprint != before


def test_weights_that_are_all_zero_are_refused(tmp_path):
    (tmp_path / "a.csv").write_text("a,w,label\n1,0,0\n2,0,1\n")
    with pytest.raises(DataError, match="the weight is 0 in every row"):
        read(tmp_path / "a.csv", weight="w", cache=False).table()


def test_what_is_too_large_for_memory_is_not_read_into_it(people, cache, monkeypatch):
    def full(_self, _name, _piece):
        raise StorageError("no room")

    monkeypatch.setattr(DiskSpool, "_write", full)
    monkeypatch.setattr(room, "UNPACKED", 1 << 40)
    with pytest.raises(StorageError, match="no room"):
        read(people[0], weight="weight", cache=cache).table()
