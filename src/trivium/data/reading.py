"""How a data set was read: what its columns mean, what is done to them. Saved with a model, applied to other rows."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trivium.data.frame import Frame
from trivium.data.table import Csr, Table
from trivium.data.transforms.base import Matrix, Transform

if TYPE_CHECKING:
    from trivium.data.encode import Encoding

__all__ = ["Reading", "prepared"]


@dataclass(frozen=True)
class Reading:
    """An encoding and fitted steps. ``scale`` is that of pixels; where there are steps, it is applied before them."""

    encoding: Encoding
    steps: tuple[Transform, ...] = ()
    scale: float = 1.0

    @property
    def mark(self) -> str:
        """Hexadecimal SHA-256 over all that it says."""
        about, arrays = self.as_json()
        del about["encoding"]["source"]  # where the training rows lay, for messages
        total = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
        for name, array in sorted(arrays.items()):
            total.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
            total.update(np.ascontiguousarray(array).tobytes())
        return total.hexdigest()

    def as_json(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """What JSON holds, and the arrays beside it; ``from_json`` takes both back."""
        from trivium.data.transforms import save_prep

        steps, arrays = save_prep(self.steps)
        return {"encoding": self.encoding.as_json(), "steps": steps, "scale": self.scale}, dict(arrays)

    @classmethod
    def from_json(cls, about: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Reading:
        """What ``as_json`` gave."""
        from trivium.data.encode import Encoding
        from trivium.data.transforms import load_prep

        return cls(Encoding.from_json(about["encoding"]), load_prep(about["steps"], arrays), about["scale"])

    def tables(self, frames: Iterable[Frame]) -> Iterator[Table]:
        """The rows of ``frames`` as a program sees them, without labels: for prediction, a piece at a time."""
        for frame in frames:
            if frame.rows:
                piece = self.encoding.encode(frame, labelled=False)
                columns: dict[str, Any] = {"x": prepared(piece.x, self.scale, self.steps), **piece.columns}
                yield Table(columns, scale=1.0 if self.steps else self.scale, name=frame.file)


def prepared(x: Matrix, scale: float, steps: Iterable[Transform]) -> Matrix:
    """``x`` after ``steps``; pixels are scaled first, and images become rows of numbers."""
    steps = tuple(steps)
    if not steps:
        return x
    if not isinstance(x, Csr):
        x = x.reshape(len(x), -1)
        if x.dtype == np.uint8 or scale != 1.0:
            x = x.astype(np.float32) * np.float32(scale)
    for step in steps:
        x = step.apply(x)
    return x
