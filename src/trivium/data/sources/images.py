"""A folder of images: PNG and JPEG files in a folder for each class, whose name is the label.

All images have one size, or are brought to one by ``resize``. The first file decides between grey and colour: grey
files among coloured ones are taken as coloured, the other way round is an error. A row is an image: its lines from the
top, in each its pixels from the left, of each pixel grey, or red, green and blue.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trivium.data.frame import Field, Frame, Partition, Source
from trivium.data.sources.formats import IMAGE_SUFFIXES
from trivium.data.sources.lines import picked
from trivium.data.sources.places import Place, Places
from trivium.errors import DataError

__all__ = ["ImageSource"]

FILES_A_PART = 256
_GREY = ("1", "L", "LA")


@dataclass(frozen=True)
class ImageSource(Source):
    """Columns ``x``, uint8 (rows, height × width × channels), and ``label``, the name of the class folder.

    ``resize``: (height, width) that all are brought to. Images that lie in no class folder have no label.
    """

    places: Places
    resize: tuple[int, int] | None = None
    format: str = "images"
    scale: float = 1 / 255

    def __post_init__(self) -> None:
        if self.resize is not None and (len(self.resize) != 2 or min(self.resize) < 1):
            raise DataError(f"resize={self.resize}: expected (height, width), as (64, 64)")
        odd = next((one for one in self.places.files if PurePath(one.path).suffix.lower() not in IMAGE_SUFFIXES), None)
        if odd is not None:
            raise DataError(
                f"{odd.path}: lies among images, expected PNG or JPEG ({', '.join(IMAGE_SUFFIXES)}); move it, or name "
                "a pattern such as */*.png"
            )
        object.__setattr__(self, "label", "label" if self._labels else None)

    @property
    def name(self) -> str:
        """What the person named."""
        return self.places.name

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width and channels of all images."""
        return self._shape

    def stamp(self) -> str:
        """Paths, sizes, times, and what they are brought to."""
        return hashlib.sha256(f"images 1 {self.places.stamp()} {self.resize}".encode()).hexdigest()

    def fields(self) -> tuple[Field, ...]:
        """``x``, and ``label`` where there are class folders."""
        height, width, channels = self._shape
        x = Field("x", "pixels", "uint8", (height * width * channels,))
        return (x, Field("label", "category", "string")) if self._labels else (x,)

    def partitions(self) -> tuple[Partition, ...]:
        """Some hundred files each; ``start`` and ``stop`` count files."""
        files = self.places.files
        cuts = range(0, len(files), FILES_A_PART)
        spans = [(start, min(start + FILES_A_PART, len(files))) for start in cuts]
        return tuple(
            Partition(self.name, start, stop, stop - start, sum(place.size for place in files[start:stop]))
            for start, stop in spans
        )

    def read(self, partition: Partition, columns: Sequence[str] | None = None) -> Frame:
        """The images of ``partition``."""
        places = self.places.files[partition.start : partition.stop]
        found: dict[str, Any] = {}
        if columns is None or "x" in columns:
            x = np.empty((len(places), *self._shape), np.uint8)
            for row, place in enumerate(places):
                x[row] = self._pixels(place)
            found["x"] = x.reshape(len(x), -1)
        if self._labels:
            import pyarrow as pa

            found["label"] = pa.array(self._labels[partition.start : partition.stop], pa.string())
        return Frame(picked(found, columns), len(places), self.name, partition.start + 1, "image")

    def _pixels(self, place: Place) -> NDArray[np.uint8]:
        """(height, width, channels) of one file."""
        grey, made = self._opened(place)
        height, width, channels = self._shape
        if channels == 1 and not grey:
            raise DataError(
                f"{place.path}: is in colour, expected grey as {self.places.files[0].path}; convert one or the other"
            )
        if made.shape[:2] != (height, width):
            raise DataError(
                f"{place.path}: has {made.shape[0]} × {made.shape[1]} pixels, expected {height} × {width} as "
                f"{self.places.files[0].path}; bring all to one size, or use resize=({height}, {width})"
            )
        return made if made.shape[2] == channels else np.repeat(made, channels, axis=2)

    def _opened(self, place: Place) -> tuple[bool, NDArray[np.uint8]]:
        """Whether a file is grey, and its pixels (height, width, 1 or 3)."""
        image = _pillow(place.path)
        try:
            with self.places.open(place) as file, image.open(file) as opened:
                if opened.mode.startswith(("I", "F")):
                    raise DataError(
                        f"{place.path}: has {opened.mode} pixels, of more than 8 bits, expected 8; convert it first"
                    )
                grey = opened.mode in _GREY
                made = opened.convert("L" if grey else "RGB")
                if self.resize is not None:
                    made = made.resize((self.resize[1], self.resize[0]))
        except DataError:
            raise
        except (OSError, SyntaxError, ValueError, image.DecompressionBombError) as error:
            raise DataError(
                f"{place.path}: cannot be read as an image ({error}); it is damaged or cut short: fetch it again, or "
                "remove it"
            ) from None
        pixels = np.asarray(made, np.uint8)
        return grey, pixels.reshape(pixels.shape[0], pixels.shape[1], -1)

    @cached_property
    def _shape(self) -> tuple[int, int, int]:
        _, made = self._opened(self.places.files[0])
        return made.shape[0], made.shape[1], made.shape[2]

    @cached_property
    def _labels(self) -> list[str]:
        """The class of each file; none where none lies in a class folder."""
        if self.places.root is None:
            return [PurePath(place.path).parent.name for place in self.places.files] if self._many else []
        parts = [PurePath(place.path).relative_to(self.places.root).parts for place in self.places.files]
        deep = [len(part) > 1 for part in parts]
        if any(deep) and not all(deep):
            loose = self.places.files[deep.index(False)].path
            raise DataError(
                f"{loose}: lies in no class folder as others do, expected FOLDER/CLASS/FILE; move it to one"
            )
        return [part[0] for part in parts] if any(deep) else []

    @property
    def _many(self) -> bool:
        """Whether a pattern or list names images of several folders, which are classes then."""
        return len({PurePath(place.path).parent for place in self.places.files}) > 1


def _pillow(path: str) -> Any:
    try:
        from PIL import Image
    except ImportError:
        raise DataError(f"{path}: images are read by Pillow, which is missing; pip install 'trivium[images]'") from None
    return Image
