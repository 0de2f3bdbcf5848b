import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

from trivium.data.sources.idx import read_idx, read_idx_array
from trivium.errors import DataError

SHARED = Path(__file__).parents[4] / "shared" / "data"


def idx(array: np.ndarray, code: int = 8) -> bytes:
    return bytes([0, 0, code, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def images(rows: int = 5, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (rows, 4, 3), np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for prefix, rows in (("train", 5), ("t10k", 3)):
        (tmp_path / f"{prefix}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(images(rows))))
        labels = np.array([7, 0, 7, 2, 0][:rows], np.uint8)
        (tmp_path / f"{prefix}-labels-idx1-ubyte").write_bytes(idx(labels))
    return tmp_path


def test_a_folder_has_two_parts(folder):
    train, test = read_idx(folder), read_idx(folder, part="test")
    np.testing.assert_array_equal(train.columns["x"], images(5).reshape(5, 12))
    np.testing.assert_array_equal(train.columns["y"], np.int32([2, 0, 2, 1, 0]))
    assert (train.classes, train.scale) == ((0.0, 2.0, 7.0), 1 / 255)
    assert (train.columns["x"].dtype, train.columns["y"].dtype) == (np.uint8, np.int32)
    assert (len(test), test.classes) == (3, (0.0, 7.0))
    assert train.fingerprint != test.fingerprint


def test_a_test_part_with_the_classes_of_the_training_part(folder):
    test = read_idx(folder, part="test", features=12, classes=read_idx(folder).classes)
    np.testing.assert_array_equal(test.columns["y"], np.int32([2, 0, 2]))
    with pytest.raises(DataError, match=r"labels-idx1-ubyte: label 7\.0 is none of"):
        read_idx(folder, classes=(0, 2))
    with pytest.raises(DataError, match="12 pixels an image, expected features=784"):
        read_idx(folder, features=784)


def test_a_file_of_images_finds_its_labels(folder):
    table = read_idx(folder / "train-images-idx3-ubyte.gz")
    assert len(table) == 5
    (folder / "train-labels-idx1-ubyte").unlink()
    with pytest.raises(DataError, match="labels are missing, expected train-labels-idx1-ubyte"):
        read_idx(folder)


def test_the_labels_file_is_not_the_images_file(folder):
    with pytest.raises(DataError, match="give the images' file"):
        read_idx(folder / "train-labels-idx1-ubyte")
    (folder / "digits").write_bytes(idx(images()))
    with pytest.raises(DataError, match="cannot tell its labels' file"):
        read_idx(folder / "digits")


GOOD = idx(images())
FAULTS = {
    "magic": (b"spam" + GOOD[4:], "starts with b'spam', expected an IDX magic"),
    "type": (GOOD[:2] + b"\x0d" + GOOD[3:], r"holds float32 \(type code 0x0d\), expected uint8"),
    "cut in the head": (GOOD[:9], "ends after 9 bytes, within its head of 16"),
    "cut in the data": (GOOD[:-1], "ends after 59 bytes of data, expected 60"),
    "too long": (GOOD + b"x", "goes on behind its 60 bytes"),
    "huge": (GOOD[:4] + b"\xff" * 12, "the head is damaged"),
    "cut gzip": (gzip.compress(GOOD)[:-9], "ends in the middle of its gzip data"),
    "empty": (b"", "is empty"),
    "no row": (idx(images(0)), "but .* 5 labels"),
    "fewer": (idx(images(4)), "holds 4 images, but train-labels-idx1-ubyte 5 labels"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_name_the_file_and_what_was_expected(folder, fault):
    content, words = FAULTS[fault]
    path = folder / "train-images-idx3-ubyte.gz"
    path.write_bytes(content)
    with pytest.raises(DataError, match=words) as caught:
        read_idx(folder)
    assert str(caught.value).startswith(f"{path}: ")


def test_no_image_at_all(folder):
    (folder / "train-images-idx3-ubyte.gz").write_bytes(idx(images(0)))
    (folder / "train-labels-idx1-ubyte").write_bytes(idx(np.zeros(0, np.uint8)))
    with pytest.raises(DataError, match="holds no pixel"):
        read_idx(folder)


def test_unknown_part_and_missing_part(folder):
    with pytest.raises(DataError, match="unknown part 'valid'; allowed: test, train"):
        read_idx(folder, part="valid")
    (folder / "t10k-images-idx3-ubyte.gz").unlink()
    with pytest.raises(DataError, match=r"has no t10k-images\* file"):
        read_idx(folder, part="test")


@pytest.mark.data
@pytest.mark.skipif(not SHARED.is_dir(), reason=f"the shared data folder {SHARED} is missing")
def test_mnist_has_its_known_counts():
    train, test = read_idx(SHARED / "mnist"), read_idx(SHARED / "mnist", part="test")
    assert (train.spec.rows, test.spec.rows, train.spec.features) == (60_000, 10_000, 784)
    # counts of each digit as published with the set
    expected = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    np.testing.assert_array_equal(np.bincount(train.columns["y"]), expected)
    raw = gzip.decompress((SHARED / "mnist" / "t10k-images-idx3-ubyte.gz").read_bytes())[16:]
    np.testing.assert_array_equal(test.columns["x"].ravel(), np.frombuffer(raw, np.uint8))
    labels, _ = read_idx_array(SHARED / "mnist" / "t10k-labels-idx1-ubyte.gz")
    np.testing.assert_array_equal(labels, test.columns["y"])
