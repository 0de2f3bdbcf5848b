"""``design="auto"`` as a pure function: the same sizes give the same design, and it says why."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trivium.data.table import Mapped, Table
from trivium.errors import PlanError
from trivium.plan import Plan
from trivium.program.models import model
from trivium.running.choosing import choose, memory_bytes, state_bytes
from trivium.running.job import Job, prepare, settled
from trivium.runtime.plane import Facts, node_arrays

GIB = 1 << 30
CORES = {"cores": (0, 1)}


@pytest.mark.parametrize("design", ["sequential", "ps", "allreduce"])
def test_a_design_that_was_asked_for_stays_and_needs_no_reason(design):
    plan = Plan(design)
    assert choose(plan, data=1 << 50, model=1, memory=1) == choose(plan, data=0, model=0, memory=GIB)
    assert choose(plan, data=1, model=1, memory=1).plan is plan
    assert choose(plan, data=1, model=1, memory=1).why == ""


@given(st.integers(0, 1 << 40), st.integers(0, 1 << 40), st.integers(1 << 20, 1 << 40))
def test_one_process_exactly_while_data_and_model_fit(data, model, memory):
    choice = choose(Plan(**CORES), data=data, model=model, memory=memory)
    assert (choice.plan.design == "sequential") == (data + model <= 0.8 * memory)
    assert choice.why.startswith(choice.plan.design)
    assert choose(Plan(**CORES), data=data, model=model, memory=2 * memory).plan.design in ("sequential", "ps")


def test_all_cores_are_used():
    choice = choose(Plan(cores=(0, 1, 2)), data=1, model=1, memory=GIB)
    assert choice.plan.thread_count == 3 and "with 3 threads" in choice.why
    assert "with one thread" in choose(Plan(cores=(5,)), data=1, model=1, memory=GIB).why


@pytest.mark.parametrize(
    ("asked", "design", "said"),
    [
        ({"workers": 2}, "ps", "workers=2 was asked for"),
        ({"shards": 3}, "ps", "shards=3 was asked for"),
        ({"combine": "model", "every": 4}, "ps", "models to average"),
        ({"consistency": "ssp:3"}, "ps", "ps: consistency=ssp:3 was asked for, and only parameter servers have that"),
        ({"nodes": 2}, "ps", "nodes=2 was asked for"),
        ({"balance": True}, "ps", "balance=True was asked for"),
        ({"inject": ("slow:each:x4",)}, "ps", "inject=slow:each:x4 was asked for"),
        ({"threads": 2}, "sequential", "threads=2 was asked for"),
        ({"workers": 1}, "sequential", "fit the memory"),
    ],
)
def test_what_only_one_design_has_decides(asked, design, said):
    choice = choose(Plan(**CORES, **asked), data=1, model=1, memory=GIB)
    assert choice.plan.design == design
    assert said in choice.why


def test_threads_and_workers_exclude_each_other():
    with pytest.raises(PlanError, match="threads=2 and workers=2"):
        Plan(threads=2, workers=2)


def test_the_state_is_at_least_what_the_node_lays_out():
    x = np.zeros((40, 1000))
    job = Job(model("logistic"), Table({"x": x, "y": np.arange(40) % 2}, (0.0, 1.0)), Plan("sequential"))
    facts: Facts = prepare(job).facts
    optimizer, layout = facts.optimizer, facts.layout
    arrays = node_arrays(facts)
    laid = sum(
        np.prod(shape) * np.dtype(kind).itemsize
        for name, (kind, shape) in arrays.items()
        if name in ("a", "slots", "ring", "kept")
    )
    counted = state_bytes(layout.nbytes, slots=optimizer.slots, ring=optimizer.ring, versions=4)
    assert laid <= counted <= laid + 2 * layout.nbytes


def test_a_job_is_settled_once_and_says_why(tmp_path):
    table = Table({"x": np.zeros((40, 3)), "y": np.arange(40) % 2}, (0.0, 1.0))
    job = settled(Job(model("logistic"), table, Plan(**CORES), tmp_path / "run"))
    assert job.plan.design == "sequential" and job.chosen.startswith("sequential with 2 threads: data and model (")
    assert settled(job) is job


def test_rows_that_are_mapped_need_no_memory():
    class Large(Table):
        nbytes = 1 << 60

    columns = {"x": np.zeros((40, 3)), "y": np.arange(40) % 2}
    job = Job(model("logistic"), Large(columns, (0.0, 1.0)), Plan(**CORES))
    assert settled(job).plan.design == "ps"
    mapped = replace(job.data, mapped={"x": Mapped("x", "float64", (40, 3))})
    assert settled(replace(job, data=mapped)).plan.design == "sequential"


def test_memory_is_between_a_megabyte_and_what_the_machine_has():
    psutil = pytest.importorskip("psutil")
    assert 1 << 20 < memory_bytes() <= psutil.virtual_memory().total
