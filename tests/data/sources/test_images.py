import builtins
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from trivium.data.sources import images as module
from trivium.data.sources.images import ImageSource
from trivium.data.sources.places import resolve
from trivium.errors import DataError


def save(path: Path, pixels: np.ndarray, mode: str | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(path)


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    kept = {}
    for name in ("cat/1.png", "cat/deep/2.png", "dog/1.png", "dog/3.PNG"):
        kept[name] = rng.integers(0, 256, (4, 3), np.uint8)
        save(tmp_path / name, kept[name])
    return tmp_path, np.stack(list(kept.values()))


@pytest.mark.parametrize("part", [1, 3, 256])
def test_class_folders(folder, monkeypatch, part):
    monkeypatch.setattr(module, "FILES_A_PART", part)
    root, pixels = folder
    source = ImageSource(resolve(root))
    frames = list(source.frames(threads=2))
    np.testing.assert_array_equal(np.concatenate([one.columns["x"] for one in frames]), pixels.reshape(4, 12))
    assert [x for one in frames for x in one.columns["label"].to_pylist()] == ["cat", "cat", "dog", "dog"]
    assert (source.label, source.scale, source.shape) == ("label", 1 / 255, (4, 3, 1))
    assert source.fields()[0].shape == (12,)
    assert sum(one.rows for one in source.partitions()) == 4


def test_colour_and_grey_among_it(tmp_path):
    red = np.zeros((2, 2, 3), np.uint8)
    red[..., 0] = 200
    save(tmp_path / "a" / "1.png", red)
    save(tmp_path / "b" / "2.png", np.full((2, 2), 9, np.uint8))
    save(tmp_path / "b" / "3.png", np.concatenate([red, np.full((2, 2, 1), 255, np.uint8)], axis=2))
    (frame,) = ImageSource(resolve(tmp_path)).frames()
    x = frame.columns["x"].reshape(3, 2, 2, 3)
    np.testing.assert_array_equal(x[[0, 2]], [red, red])
    assert np.all(x[1] == 9)


def test_jpeg_and_a_size_for_all(tmp_path):
    save(tmp_path / "a" / "1.jpg", np.full((8, 8), 100, np.uint8))
    save(tmp_path / "b" / "2.jpeg", np.full((5, 9), 200, np.uint8))
    source = ImageSource(resolve(tmp_path), resize=(4, 6))
    (frame,) = source.frames()
    assert frame.columns["x"].shape == (2, 24)
    np.testing.assert_allclose(frame.columns["x"].mean(axis=1), [100, 200], atol=2)
    assert source.stamp() != ImageSource(resolve(tmp_path)).stamp()
    with pytest.raises(DataError, match=r"resize=\(0, 4\): expected"):
        ImageSource(resolve(tmp_path), resize=(0, 4))


def test_images_without_classes_have_no_label(tmp_path, folder):
    root, pixels = folder
    source = ImageSource(resolve(root / "dog"))
    assert source.label is None
    (frame,) = source.frames()
    assert list(frame.columns) == ["x"]
    np.testing.assert_array_equal(frame.columns["x"], pixels[2:].reshape(2, 12))
    assert ImageSource(resolve(root / "*" / "1.png")).label == "label"
    (only,) = ImageSource(resolve(root)).frames(("label",))
    assert list(only.columns) == ["label"]


def test_a_damaged_image(folder):
    root, _ = folder
    path = root / "dog" / "1.png"
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(DataError, match=r"dog/1.png: cannot be read as an image .*fetch it again"):
        list(ImageSource(resolve(root)).frames())


def test_deep_pixels(tmp_path):
    save(tmp_path / "a" / "1.png", np.full((2, 2), 40_000, np.uint16))
    with pytest.raises(DataError, match="of more than 8 bits"):
        ImageSource(resolve(tmp_path)).fields()


def test_pillow_is_an_extra(folder, monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name == "PIL":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(DataError, match=r"Pillow, which is missing; pip install 'trivium\[images\]'"):
        ImageSource(resolve(folder[0])).fields()
