"""The run directory: how it is made, what it says of its job, and the job that it gives back."""

from __future__ import annotations

import contextlib
import io
import logging
import shutil
from dataclasses import asdict, fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec
from numpy.typing import NDArray

from trivium.data.table import Table
from trivium.errors import StorageError, UsageError
from trivium.plan import Plan, Stopping
from trivium.program.params import Layout
from trivium.record import Record
from trivium.running.job import IN_MEMORY, Job, Prepared, settled
from trivium.running.recalling import PICKLE, is_named, options_of, program_of, reading_of, reference, told
from trivium.runtime.plane import Facts
from trivium.runtime.store import KEPT_CHECKPOINTS, RunStore, write_whole

__all__ = [
    "as_json",
    "check_data",
    "describe_data",
    "describe_plan",
    "open_run",
    "remembered_job",
    "unmake_run",
    "write_result",
]

log = logging.getLogger(__name__)
PARTS = ("data", "valid", "test")
LITTLE = 1 << 18  # bytes of all other files
MADE = ("plan.json", "data.json", "reading.json", "reading.npz")

VERSIONS = ("trivium", "numpy", "scipy", "numba", "jax", "jaxlib")


def open_run(job: Job, prepared: Prepared) -> RunStore:
    """Make the run directory; UsageError where the run would overwrite something. Leaves nothing where it cannot."""
    run, made = job.folder, not job.folder.exists()
    try:
        run.mkdir(parents=True, exist_ok=True)
        if any(run.iterdir()):
            raise UsageError(f"{run} is not empty and nothing is overwritten; give another directory")
    except OSError as error:
        raise StorageError(
            f"cannot make the run directory {run}: {error.strerror}; choose another with -o/--out"
        ) from None
    store = RunStore(run, prepared.facts.shards)
    store.lock()
    try:
        if any(path.name != "lock" for path in run.iterdir()):
            raise UsageError(f"{run} has come into use meanwhile; give another directory")
        store.take_over(0.0, log.info)
        try:
            _check_space(run, prepared.facts)
            write_whole(run / "plan.json", as_json(describe_plan(job, prepared)))
            write_whole(run / "data.json", as_json(describe_data(job, prepared.tables)))
            _write_reading(run, job.reading)
            _write_program(run, job)
        except BaseException:
            unmake_run(run, folder=made)
            raise
    except BaseException:
        store.unlock()
        raise
    return store


def _write_reading(run: Path, reading: Any) -> None:
    """How the data were read, for who predicts or goes on."""
    if reading is None:
        return
    about, arrays = reading.as_json()
    write_whole(run / "reading.json", as_json(about))
    if arrays:
        import numpy as np

        held = io.BytesIO()
        np.savez(held, **arrays)
        write_whole(run / "reading.npz", held.getvalue())


def _write_program(run: Path, job: Job) -> None:
    """A program that no name makes again, as a pickle; a run goes on without where that cannot be had."""
    if (job.sources or {}).get("model") or is_named(job.program):
        return
    import cloudpickle

    try:
        held = cloudpickle.dumps(job.program)
    except Exception as error:  # whatever an object of the person's raises
        log.info("%s is not kept with its run: %s", job.program.name, error)
        return
    write_whole(run / PICKLE, held)


def _check_space(run: Path, facts: Facts) -> None:
    """StorageError where the checkpoints and the model will not fit."""
    rows = 2 + facts.optimizer.slots + facts.optimizer.ring  # A, the kept A, and what F remembers
    need = (rows * (KEPT_CHECKPOINTS + 1) + 1) * facts.layout.nbytes + LITTLE
    free = shutil.disk_usage(run).free
    if free < need:
        raise StorageError(
            f"{run} is on a disk with {free / 2**20:,.1f} MiB free; checkpoints and model of this run take up to "
            f"{need / 2**20:,.1f} MiB: free space there, or choose another directory with -o/--out"
        )


def unmake_run(run: Path, *, folder: bool) -> None:
    """Take back what ``open_run`` made, where nothing came of the run; ``folder``: the directory too."""
    for name in (*MADE, PICKLE, "terms.jsonl", "events.jsonl", "members", "lock"):
        (run / name).unlink(missing_ok=True)
    if folder:
        with contextlib.suppress(OSError):
            run.rmdir()


def write_result(run: Path, name: str, layout: Layout, params: NDArray[Any], record: Record) -> None:
    """The parameters of the model ``name``, where the time went, and the record, which comes last."""
    import numpy as np
    from safetensors.numpy import save

    views = {key: np.asarray(view, order="C") for key, view in layout.views(params).items()}
    write_whole(run / "model.safetensors", save(views, {"model": name}))
    write_whole(run / "spans.json", as_json({"processes": [asdict(one) for one in record.processes]}))
    write_whole(run / "record.json", as_json(record.as_json()))


def as_json(value: Any) -> bytes:
    """``value`` for a file that people read too."""
    return msgspec.json.format(msgspec.json.encode(value), indent=1)


def describe_plan(job: Job, prepared: Prepared) -> dict[str, Any]:
    """plan.json: everything that the run was asked for, and the versions that carry it out."""
    facts = prepared.facts
    optimizer = job.optimizer or job.program.defaults.optimizer
    return {
        "model": facts.program.name,
        "model_options": options_of(job.program),
        "chosen": job.chosen,
        "plan": asdict(job.plan) | {"workers": job.plan.worker_count, "threads": job.plan.thread_count},
        "asked": {
            "plan": asdict(job.plan),
            "batch_size": job.batch_size,
            "l2": job.l2,
            "optimizer": job.optimizer is not None,
        },
        "stopping": asdict(job.stopping),
        "optimizer": optimizer.name,
        "optimizer_options": _options(optimizer),
        "batch_size": facts.batches.batch_size,
        "shards": facts.shards,
        "l1": job.l1,
        "l2": job.l2 if job.l2 is not None else facts.program.defaults.l2_per_row / facts.batches.rows,
        "seed": job.seed,
        "parameters": sum(one.size for one in facts.layout.slices),
        "sources": _sources(job),
        "versions": {name: version(name) for name in VERSIONS},
    }


def _sources(job: Job) -> dict[str, Any] | None:
    """With the file of a program of one's own from the root on."""
    name = (job.sources or {}).get("model")
    return job.sources if name is None else {**(job.sources or {}), "model": reference(name)}


def _options(optimizer: Any) -> dict[str, Any] | None:
    options = {one.name: getattr(optimizer, one.name) for one in fields(optimizer)}
    plain = all(isinstance(value, int | float | str | bool | None) for value in options.values())
    return options if plain else None


def describe_data(job: Job, tables: dict[str, Table]) -> dict[str, Any]:
    """data.json: shapes, classes, fingerprints."""
    data = job.data
    assert isinstance(data, Table)  # it is settled
    spec = data.spec
    return {
        "name": data.name,
        "rows": spec.rows,
        "features": spec.features,
        "sparse": spec.sparse,
        "nnz": spec.nnz,
        "classes": len(spec.classes),
        "labels": list(spec.classes),
        "columns": {name: [dtype, list(shape)] for name, (dtype, shape) in spec.columns.items()},
        "scale": data.scale,
        "parts": {{"valid": "validation"}.get(name, name): len(table) for name, table in tables.items()},
        "fingerprints": fingerprints(job),
        "notes": list(data.notes),
    }


def fingerprints(job: Job) -> dict[str, str]:
    """Of each table that ``job`` was given; a share of the training rows has none of its own."""
    given = {"data": job.data, "valid": job.valid, "test": job.test}
    return {name: table.fingerprint for name, table in given.items() if isinstance(table, Table)}


def check_data(run: Path, job: Job) -> None:
    """UsageError unless the tables of ``job`` are those that ``run`` was started on."""
    job = settled(job)
    before, now = told(run, "data.json", "fingerprints")["fingerprints"], fingerprints(job)
    for name in sorted(before.keys() | now.keys()):
        was, found = before.get(name), now.get(name)
        what = "the data" if name == "data" else f"the {name} data"
        if was is None or found is None:
            raise UsageError(f"{run} was started {'with' if was else 'without'} {name} data; resume it likewise")
        if was and found and was != found:
            recipe = (job.sources or {}).get(name)
            source = recipe["name"] if isinstance(recipe, dict) else what
            raise UsageError(
                f"{source} is not what {run} was started on (fingerprint of {what} {found[:12]}, then {was[:12]}); "
                "bring the old rows back, or start a new run"
            )


def remembered_job(run: Path, *, trust: bool = False) -> Job:
    """The job that ``run`` was started with; its data are read again. See ``check_data``, and ``program_of``."""
    from trivium.data.read import from_recipe
    from trivium.program.optimizers import optimizer as optimizer_named

    about = told(run, "plan.json", "sources", "asked", "stopping", "optimizer", "optimizer_options", "l1", "seed")
    sources, asked = about["sources"], about["asked"]
    reading = reading_of(run)
    if reading is None or not sources.get("data") or IN_MEMORY in (sources.get(name) for name in PARTS):
        raise UsageError(
            f"{run} was started from Python on arrays of its own; go on with trivium.running.session.resume("
            f"{str(run)!r}, job=job)"
        )
    rows = {name: from_recipe(one, reading) for name in PARTS if isinstance(one := sources.get(name), dict)}
    options = about["optimizer_options"]
    if options is None:
        raise UsageError(f"{run} used an optimizer with a schedule; go on with trivium.resume(..., job=job)")
    try:
        return Job(
            program=program_of(run, trust=trust),
            data=rows["data"],
            plan=Plan(**asked["plan"] | {"cores": tuple(asked["plan"]["cores"])}),
            out=run,
            valid=rows.get("valid", sources.get("valid")),
            test=rows.get("test"),
            stopping=Stopping(**about["stopping"]),
            optimizer=optimizer_named(about["optimizer"], **options) if asked["optimizer"] else None,
            batch_size=asked["batch_size"],
            l1=about["l1"],
            l2=asked["l2"],
            seed=about["seed"],
            sources=sources,
            reading=reading,
        )
    except (KeyError, TypeError) as error:
        raise UsageError(
            f"{run / 'plan.json'} is not one that this version wrote ({error}); bring the file back, or start a new run"
        ) from None
