"""The run directory: how it is made, what it says of its job, and the job that it gives back."""

from __future__ import annotations

import contextlib
import json
import logging
import shutil
from dataclasses import asdict, fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec

from trivium.data.table import Table
from trivium.errors import StorageError, UsageError
from trivium.job import Job, Prepared
from trivium.plan import Plan, Stopping
from trivium.runtime.plane import Facts
from trivium.runtime.store import KEPT_CHECKPOINTS, RunStore, write_whole

__all__ = ["as_json", "check_data", "describe_data", "describe_plan", "open_run", "remembered_job", "unmake_run"]

log = logging.getLogger(__name__)
LITTLE = 1 << 18  # bytes of all other files

VERSIONS = ("trivium", "numpy", "scipy", "numba", "jax", "jaxlib")


def open_run(job: Job, prepared: Prepared) -> RunStore:
    """Make the run directory; UsageError where the run would overwrite something. Leaves nothing where it cannot."""
    run, made = job.out, not job.out.exists()
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
        except BaseException:
            unmake_run(run, folder=made)
            raise
    except BaseException:
        store.unlock()
        raise
    return store


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
    for name in ("plan.json", "data.json", "terms.jsonl", "events.jsonl", "members", "lock"):
        (run / name).unlink(missing_ok=True)
    if folder:
        with contextlib.suppress(OSError):
            run.rmdir()


def as_json(value: Any) -> bytes:
    """``value`` for a file that people read too."""
    return msgspec.json.format(msgspec.json.encode(value), indent=1)


def describe_plan(job: Job, prepared: Prepared) -> dict[str, Any]:
    """plan.json: everything that the run was asked for, and the versions that carry it out."""
    facts = prepared.facts
    optimizer = job.optimizer or job.program.defaults.optimizer
    return {
        "model": facts.program.name,
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
        "sources": job.sources,
        "versions": {name: version(name) for name in VERSIONS},
    }


def _options(optimizer: Any) -> dict[str, Any] | None:
    options = {one.name: getattr(optimizer, one.name) for one in fields(optimizer)}
    plain = all(isinstance(value, int | float | str | bool | None) for value in options.values())
    return options if plain else None


def describe_data(job: Job, tables: dict[str, Table]) -> dict[str, Any]:
    """data.json: shapes, classes, fingerprints."""
    spec = job.data.spec
    return {
        "name": job.data.name,
        "rows": spec.rows,
        "features": spec.features,
        "sparse": spec.sparse,
        "nnz": spec.nnz,
        "classes": len(spec.classes),
        "labels": list(spec.classes),
        "parts": {{"valid": "validation"}.get(name, name): len(table) for name, table in tables.items()},
        "fingerprints": fingerprints(job),
        "notes": list(job.data.notes),
    }


def fingerprints(job: Job) -> dict[str, str]:
    """Of each table that ``job`` was given; a share of the training rows has none of its own."""
    given = {"data": job.data, "valid": job.valid, "test": job.test}
    return {name: table.fingerprint for name, table in given.items() if isinstance(table, Table)}


def _told(run: Path, name: str, *keys: str) -> dict[str, Any]:
    """What ``run`` says in its file ``name``, ``keys`` among it; UsageError where that cannot be read."""
    try:
        told = json.loads((run / name).read_bytes())
        missing = [key for key in keys if key not in told]
        why = f"{', '.join(missing)} missing" if missing else ""
    except (OSError, ValueError, TypeError) as error:
        told, why = {}, str(error)
    if why:
        raise UsageError(f"{run / name} cannot be read ({why}); bring the file back, or start a new run")
    return dict(told)


def check_data(run: Path, job: Job) -> None:
    """UsageError unless the tables of ``job`` are those that ``run`` was started on."""
    before, now = _told(run, "data.json", "fingerprints")["fingerprints"], fingerprints(job)
    for name in sorted(before.keys() | now.keys()):
        was, found = before.get(name), now.get(name)
        what = "the data" if name == "data" else f"the {name} data"
        if was is None or found is None:
            raise UsageError(f"{run} was started {'with' if was else 'without'} {name} data; resume it likewise")
        if was and found and was != found:
            source = (job.sources or {}).get(name) or what
            raise UsageError(
                f"{source} is not what {run} was started on (fingerprint of {what} {found[:12]}, then {was[:12]}); "
                "bring the old rows back, or start a new run"
            )


def remembered_job(run: Path) -> Job:
    """The job that ``run`` was started with; its data are read again. See ``check_data``."""
    from trivium.data.read import part_of_test, read
    from trivium.program.models import model
    from trivium.program.optimizers import optimizer as optimizer_named

    told = _told(run, "plan.json", "sources", "asked", "stopping", "optimizer", "optimizer_options", "l1", "seed")
    sources, asked = told["sources"], told["asked"]
    if not sources:
        raise UsageError(
            f"{run} was started from Python on arrays of its own; go on with trivium.resume({str(run)!r}, job=job)"
        )
    data = read(sources["data"])
    fit: dict[str, Any] = {"features": data.spec.features, "classes": data.classes or None}
    valid = sources.get("valid")
    test = sources.get("test")
    options = told["optimizer_options"]
    if options is None:
        raise UsageError(f"{run} used an optimizer with a schedule; go on with trivium.resume(..., job=job)")
    try:
        return Job(
            program=model(sources["model"]),
            data=data,
            plan=Plan(**asked["plan"] | {"cores": tuple(asked["plan"]["cores"])}),
            out=run,
            valid=read(valid, **fit) if isinstance(valid, str) else valid,
            test=read(test, part=part_of_test(test), **fit) if test else None,
            stopping=Stopping(**told["stopping"]),
            optimizer=optimizer_named(told["optimizer"], **options) if asked["optimizer"] else None,
            batch_size=asked["batch_size"],
            l1=told["l1"],
            l2=asked["l2"],
            seed=told["seed"],
            sources=sources,
        )
    except (KeyError, TypeError) as error:
        raise UsageError(
            f"{run / 'plan.json'} is not one that this version wrote ({error}); bring the file back, or start a new run"
        ) from None
