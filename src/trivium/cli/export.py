"""``trivium export``: the model of a run, for other programs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trivium.cli.further import Exported
from trivium.cli.screen import Screen
from trivium.errors import StorageError, UsageError, unknown
from trivium.observe.figures import size

if TYPE_CHECKING:
    from trivium.export.stack import Stack
    from trivium.running.recalling import Recalled

__all__ = ["SUFFIXES", "export"]

SUFFIXES = {"sklearn": ".joblib", "onnx": ".onnx", "npz": ".npz"}


def export(asked: Exported) -> int:
    """Carry out ``trivium export``; returns the exit code."""
    from trivium.running.recalling import recall

    screen = Screen()
    if asked.to not in SUFFIXES:
        raise UsageError(f"--to {asked.to}: {unknown('form', asked.to, SUFFIXES)}")
    model = recall(asked.run, trust=asked.trust)
    out = asked.out or Path(asked.run.absolute().name + SUFFIXES[asked.to])
    write = {"sklearn": _sklearn, "onnx": _onnx, "npz": _npz}[asked.to]
    draft = out.with_name(f".{out.name}.tmp")
    try:
        used = write(model, draft)
        draft.replace(out)
    except OSError as error:
        raise StorageError(f"--out {out} cannot be written: {error.strerror or error}; give another file") from error
    finally:
        draft.unlink(missing_ok=True)
    screen.result([("model", f"{model.program.name} of {asked.run}"), ("file", f"{out}, {size(out.stat().st_size)}")])
    screen.result([("use", used.format(out=out))])
    if asked.to != "npz" and _names(model):
        screen.result([("x", f"has the columns {', '.join(_names(model))}")])
    return 0


def _stack(model: Recalled) -> Stack:
    from trivium.export.stack import stack_of

    reading = model.reading
    return stack_of(
        model.program,
        model.layout.views(model.params),
        model.spec.classes,
        () if reading is None else reading.steps,
        model.scale if reading is None else reading.scale,
        model.spec.sparse,
        _names(model),
    )


def _names(model: Recalled) -> tuple[str, ...]:
    """The names of x's columns; none where they are only numbered."""
    encoding = None if model.reading is None else model.reading.encoding
    if encoding is None or any(one.kind == "matrix" for one in encoding.features):
        return ()
    names = tuple(encoding.names())
    return names if len(names) == model.spec.features else ()


def _sklearn(model: Recalled, out: Path) -> str:
    import joblib

    from trivium.export.sklearn import to_sklearn

    joblib.dump(to_sklearn(_stack(model)), out)
    return "model = joblib.load('{out}'); model.predict(x)"


def _onnx(model: Recalled, out: Path) -> str:
    from trivium.export.onnx import to_onnx

    out.write_bytes(to_onnx(_stack(model)).SerializeToString())
    return "onnxruntime.InferenceSession('{out}').run(None, {{'x': x}}), x float32"


def _npz(model: Recalled, out: Path) -> str:
    import numpy as np

    arrays: dict[str, Any] = {f"param.{name}": view for name, view in model.layout.views(model.params).items()}
    about: dict[str, Any] = {"model": model.program.name, "features": model.spec.features, "sparse": model.spec.sparse}
    about |= {"scale": model.scale}
    if model.reading is not None:
        reading, fitted = model.reading.as_json()
        about["reading"] = reading
        arrays |= {f"reading.{name}": array for name, array in fitted.items()}
    arrays |= {"classes": np.array(model.spec.classes), "about": np.array(json.dumps(about))}
    with out.open("wb") as file:
        np.savez(file, **arrays)
    return "held = numpy.load('{out}'); held['param.…'], held['classes'], json.loads(str(held['about']))"
