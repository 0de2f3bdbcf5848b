"""A mistake in a person's own function, told from a worker: their line, the shapes, which lanes and which clock."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from trivium.data.table import Table
from trivium.errors import ProgramError
from trivium.plan import Plan, Stopping
from trivium.program.optimizers import optimizer
from trivium.program.program import Program
from trivium.running.inline import run_inline
from trivium.running.job import Job

ROWS = Table({"x": np.ones((64, 3), np.float32), "y": np.zeros(64, np.float32)})


def init(key):
    return {"w": jnp.zeros(4)}


def crooked(params, batch, key):
    return jnp.mean((batch["x"] @ params["w"] - batch["y"]) ** 2)  # 3 columns, 4 weights


def later(count):
    """A loss that raises in the call of number ``count``."""
    calls = []

    def look(value):
        calls.append(1)
        if len(calls) > count:
            raise ValueError("the third is one too many")
        return value

    def loss(params, batch, key):
        shape = jax.ShapeDtypeStruct((), np.float32)
        return jax.lax.stop_gradient(jax.pure_callback(look, shape, jnp.float32(1.0))) * params["w"].sum()

    return loss


def job(loss, plan, out, **more):
    program = Program.from_loss(init, loss, optimizer("sgd"), batch_size=16, name="mine")
    return Job(program, ROWS, plan, out, stopping=Stopping(epochs=2), **more)


@pytest.mark.slow
@pytest.mark.parametrize("plan", [Plan("ps", workers=2), Plan("sequential", threads=1)], ids=["ps", "sequential"])
def test_shapes_that_do_not_fit(warm, tmp_path, plan):
    with pytest.raises(ProgramError) as caught:
        warm.run(job(crooked, plan, tmp_path / "run"))
    lines = str(caught.value).splitlines()
    assert "loss of 'mine' raised TypeError at " in lines[0]
    assert f"{__file__}:{crooked.__code__.co_firstlineno + 1}, in crooked:" in lines[0]
    assert lines[1].strip().startswith('return jnp.mean((batch["x"] @ params["w"]')
    assert "params: w float32(4,)" in lines
    assert any(line.startswith("batch: x float32(") for line in lines)
    assert any(line.startswith("lanes ") and line.endswith("before clock 0") for line in lines)
    assert len(lines) <= 7
    assert "Traceback" in caught.value.traceback


def test_what_fails_later_says_when(tmp_path):
    with pytest.raises(ProgramError) as caught:
        run_inline(job(later(4), Plan("sequential", threads=1), tmp_path / "run"))
    lines = str(caught.value).splitlines()
    assert "loss of 'mine' raised ValueError at " in lines[0]
    assert lines[0].endswith("in look:")
    assert lines[1] == '    raise ValueError("the third is one too many")'
    assert lines[2].endswith("ValueError: the third is one too many")
    assert lines[-1] == "lanes 0 to 7, clock 4"
