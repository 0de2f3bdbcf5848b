"""From a run's directory back to what is used: its program, its parameters, and how its data were read.

Models by name are made anew from their name and options; programs of a person's own from the file and name that they
came from, or from ``program.pkl`` where they came from Python. To import or to unpickle is to run whatever the file
says, and the directory says which file: so that is done only for who says that the run can be trusted.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trivium.data.table import DataSpec
from trivium.errors import UsageError
from trivium.program.params import Layout
from trivium.program.program import Program

__all__ = [
    "Recalled",
    "is_named",
    "needs_trust",
    "options_of",
    "program_of",
    "reading_of",
    "recall",
    "reference",
    "rows_of",
    "spec_of",
    "told",
]

PICKLE = "program.pkl"
HIDDEN = "spec"  # the field of a program that the data fill
TRUST = "if you trust whoever made this run, give --trust (in Python 'trust=True')"


@dataclass(frozen=True)
class Recalled:
    """A trained model: ``program`` bound to its data's shapes, ``params`` flat."""

    program: Program
    params: NDArray[Any]
    spec: DataSpec
    scale: float
    reading: Any = None

    @property
    def layout(self) -> Layout:
        """A's layout."""
        return self.program.layout


def told(run: Path, name: str, *keys: str) -> dict[str, Any]:
    """What ``run`` says in its file ``name``, ``keys`` among it; UsageError where that cannot be read."""
    try:
        about = json.loads((run / name).read_bytes())
        missing = [key for key in keys if key not in about]
        why = f"{', '.join(missing)} missing" if missing else ""
    except (OSError, ValueError, TypeError) as error:
        about, why = {}, str(error)
    if why:
        raise UsageError(f"{run / name} cannot be read ({why}); bring the file back, or start a new run")
    return dict(about)


def options_of(program: Any) -> dict[str, Any] | None:
    """The settings of ``program`` as JSON can hold them; None where it cannot."""
    if not is_dataclass(program):
        return None
    settings = {one.name: getattr(program, one.name) for one in fields(program) if one.name != HIDDEN}
    return settings if all(_plain(value) for value in settings.values()) else None


def _plain(value: Any) -> bool:
    if isinstance(value, tuple | list):
        return all(map(_plain, value))
    return value is None or isinstance(value, bool | int | float | str)


def is_named(program: Program) -> bool:
    """Whether its name, with its settings, makes the same program again."""
    if _is_own(program.name):
        return False
    try:
        made = _made(program.name, options_of(program) or {})
    except (UsageError, TypeError):
        return False
    return type(made) is type(program) and options_of(made) == options_of(program) is not None


def _is_own(name: str) -> bool:
    """Whether ``trivium.program.models.model`` would import something to make it."""
    return bool(set("./") & set(name.rpartition(":")[0] or name))


def reference(name: str) -> str:
    """``name`` of a model; that of a file from the root on, since it is looked for from other folders later.

    >>> reference("mlp:8"), reference("/programs/mine.py:net"), reference("package.module:net")
    ('mlp:8', '/programs/mine.py:net', 'package.module:net')
    """
    where, colon, attribute = name.rpartition(":")
    if not (_is_own(name) and colon and (where.endswith(".py") or "/" in where)):
        return name
    return f"{Path(where).expanduser().absolute()}:{attribute}"


def _made(name: str, options: Mapping[str, Any]) -> Program:
    from trivium.program.models import model

    made: Any = model(name)
    known = {one.name for one in fields(made)} if is_dataclass(made) else set()
    changed = {
        key: tuple(value) if isinstance(value, list) else value for key, value in options.items() if key in known
    }
    program: Program = replace(made, **changed) if changed else made
    return program


def program_of(run: Path, *, trust: bool = False) -> Program:
    """The program that ``run`` was started with; UsageError where that needs trust, and there is none."""
    from trivium.program.models import model

    about = told(run, "plan.json", "model", "sources")
    given = (about["sources"] or {}).get("model")
    if not given and (run / PICKLE).exists():
        if not trust:
            raise UsageError(f"{run / PICKLE} holds the program as a pickle, and to read it is to run it; {TRUST}")
        return _unpickled(run / PICKLE)
    name, options = str(given or about["model"]), about.get("model_options")
    if _is_own(name) and not trust:
        raise UsageError(
            f"{run / 'plan.json'} names the program {name}, and to load it is to run what is written there; {TRUST}"
        )
    made = model(name)
    return _made(made.name, options) if options and is_named(made) else made


def needs_trust(run: Path) -> bool:
    """Whether ``program_of`` makes the program of ``run`` only for who trusts it; False where it makes none."""
    try:
        about = told(run, "plan.json", "model", "sources")
    except UsageError:
        return False
    given = (about["sources"] or {}).get("model")
    return _is_own(str(given or about["model"])) or (not given and (run / PICKLE).exists())


def _unpickled(path: Path) -> Program:
    import cloudpickle

    with path.open("rb") as file:
        program = cloudpickle.load(file)
    if not isinstance(program, Program):
        raise UsageError(f"{path} holds a {type(program).__name__}, no program; bring the file back")
    return program


def reading_of(run: Path) -> Any:
    """How the data of ``run`` were read; None where it was given tables."""
    if not (run / "reading.json").exists():
        return None
    from trivium.data.reading import Reading

    about = told(run, "reading.json")
    try:
        with np.load(run / "reading.npz", allow_pickle=False) as held:
            arrays = {name: held[name] for name in held.files}
    except FileNotFoundError:
        arrays = {}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise UsageError(
            f"{run / 'reading.npz'} cannot be read ({error}); bring the file back, or train anew"
        ) from None
    return Reading.from_json(about, arrays)


def spec_of(run: Path) -> tuple[DataSpec, float]:
    """The shapes that the program was bound to, and the scale of pixels."""
    about = told(run, "data.json", "rows", "features", "sparse", "labels", "columns", "scale")
    columns = {name: (dtype, tuple(shape)) for name, (dtype, shape) in about["columns"].items()}
    spec = DataSpec(
        about["rows"], about["features"], about["sparse"], tuple(about["labels"]), columns, about.get("nnz", 0)
    )
    return spec, float(about["scale"])


def rows_of(
    source: str, reading: Any, *, like: Any = None, part: str = "train", options: Mapping[str, Any] | None = None
) -> Any:
    """The rows of ``source`` as a program that was trained with ``reading`` takes them.

    ``like`` are the training rows, whose features and classes are taken where there is no reading; ``options`` those of
    ``read`` that say how a file is read, and not what it means.
    """
    from trivium.data.read import read

    given = dict(options or {})
    if reading is not None:
        return read(source, like=reading, part=part, **given)
    if like is not None:
        given |= {"features": like.spec.features, "classes": like.spec.classes or None}
    return read(source, part=part, **given)


def recall(run: Path, *, trust: bool = False) -> Recalled:
    """What ``run`` has learned; UsageError where it did not finish or lacks a file."""
    from safetensors.numpy import load_file

    file = run / "model.safetensors"
    if not run.is_dir():
        raise UsageError(f"{run}: no such run; `trivium runs` lists those there are")
    if not file.exists():
        raise UsageError(f"{run} has no model; it did not finish. `trivium report {run}` says what happened")
    spec, scale = spec_of(run)
    program = program_of(run, trust=trust).for_data(spec)
    try:
        arrays = load_file(file)
    except Exception as error:  # safetensors has a class of its own, without a public name
        raise UsageError(f"{file} cannot be read ({error}); bring the file back, or train anew") from None
    shapes = {one.name: one.shape for one in program.layout.slices}
    found = {name: array.shape for name, array in arrays.items()}
    if shapes != found:
        raise UsageError(f"{file} holds {found}, its program {program.name} has {shapes}; bring the files back")
    return Recalled(program, program.layout.pack(arrays), spec, scale, reading_of(run))
