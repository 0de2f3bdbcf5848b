"""Programs of one's own: found, sent, and each mistake told with its place."""

import pickle
import subprocess
import sys
import textwrap

import cloudpickle
import numpy as np
import pytest

from trivium.data.batches import Batch
from trivium.data.table import Table
from trivium.errors import PlanError, ProgramError, UsageError
from trivium.program.mlp import Mlp
from trivium.program.own import is_reference, load_program
from trivium.program.program import Program

GOOD = """
    from trivium.program.mlp import Mlp
    from trivium.program.program import Program
    WIDTH = 7
    program = Mlp((WIDTH,))
    def make():
        return Mlp((WIDTH, 3))
    def sized(width):
        return Mlp((width,))
    class Own(Program):
        pass
    number = 3
    def nothing():
        return None
    def broken():
        return 1 / 0
    def refused():
        return Mlp(())
"""


@pytest.fixture
def write(tmp_path):
    def write(text, name="mine.py"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(textwrap.dedent(text))
        return path

    return write


def test_a_program_and_a_function_that_makes_one(write):
    path = write(GOOD)
    assert load_program(f"{path}:program") == Mlp((7,))
    assert load_program(f"{path}:make") == Mlp((7, 3))


def test_a_changed_file_is_read_anew(write):
    path = write(GOOD)
    assert load_program(f"{path}:program").name == "mlp:7"
    write(GOOD.replace("WIDTH = 7", "WIDTH = 11"))
    assert load_program(f"{path}:program").name == "mlp:11"


def test_it_goes_to_another_process_with_what_lies_beside_it(write):
    write("def loss(params, batch, key):\n    return (params['w'] ** 2).sum() * FACTOR\nFACTOR = 3\n", "beside_mine.py")
    path = write("""
        import jax.numpy as jnp
        import beside_mine
        from trivium.program.optimizers import optimizer
        from trivium.program.program import Program
        def loss(params, batch, key):
            return beside_mine.loss(params, batch, key)
        program = Program.from_loss(lambda key: {"w": jnp.ones(4)}, loss, optimizer("sgd"), name="mine")
    """)
    program = load_program(f"{path}:program")
    assert isinstance(program, Program)
    sent = cloudpickle.dumps(program)
    assert str(path.parent) not in sys.path
    code = (
        "import sys, pickle, jax.numpy as jnp; p = pickle.loads(sys.stdin.buffer.read())\n"
        "print(p.name, p.layout.slices[0].shape, float(p.loss({'w': jnp.ones(4)}, {}, None)))"
    )
    done = subprocess.run([sys.executable, "-c", code], input=sent, capture_output=True, timeout=60, check=True)
    assert done.stdout.decode().split() == ["mine", "(4,)", "12.0"]


def test_a_module_of_a_package_that_lies_here(write, monkeypatch, tmp_path):
    write("", "owned_package/__init__.py")
    write(GOOD, "owned_package/inner.py")
    monkeypatch.chdir(tmp_path)
    assert load_program("owned_package.inner:make").name == "mlp:7,3"
    assert load_program("trivium.program.models:softmax").name == "softmax"


def test_what_is_a_reference():
    assert all(map(is_reference, ["a.py", "a.py:x", "b/a.py:x", "pkg.mod:x"]))
    assert not any(map(is_reference, ["mlp:100", "logistic", "mlp:300,100:tanh", "fm:8"]))


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("progam", r"unknown program 'progam' \(did you mean 'program'\?\); allowed: broken, make, .*program"),
        ("", r"which program\? Write .*mine.py:NAME.*it has .*make"),
        ("sized", "sized takes the arguments width; it must work without any"),
        ("Own", "Own is the class Own, expected a Program"),
        ("number", "number is a int, expected a Program"),
        ("nothing", r"nothing\(\) returned a NoneType, expected a Program"),
        (
            "broken",
            r"broken\(\) raised ZeroDivisionError: division by zero\nat .*mine.py:16, in broken:\n    return 1 / 0",
        ),
    ],
)
def test_mistakes_of_the_name(write, name, told):
    path = write(GOOD)
    with pytest.raises(UsageError, match=told):
        load_program(f"{path}:{name}" if name else str(path))


def test_what_a_model_refuses_stays_what_it_is(write):
    with pytest.raises(PlanError, match="hidden layer"):
        load_program(f"{write(GOOD)}:refused")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("x = 1\ndef f(:\n    pass\n", r"mine.py:2: invalid syntax:\n    def f\(:\ncorrect it"),
        (
            "import no_such_module_here\n",
            r"No module named 'no_such_module_here'\nat .*mine.py:1.*\n.*\ninstall 'no_such",
        ),
        ("from trivium import no_such_name\n", "cannot import name 'no_such_name'"),
        ("x = {}\nx['rate']\n", r"KeyError: 'rate'\nat .*mine.py:2, in <module>:\n    x\['rate'\]"),
        ("raise SystemExit(3)\n", r"ended itself \(exit 3\).*__main__"),
        ("x = 1\n", r"has no 'program', nor any program"),
    ],
)
def test_mistakes_of_the_file(write, text, told):
    path = write(text)
    before = set(sys.modules)
    with pytest.raises(UsageError, match=told):
        load_program(f"{path}:program")
    left = {name for name in set(sys.modules) - before if name.startswith("trivium_own")}
    assert not left or "nor any" in told


def test_a_file_or_module_that_is_not_there(write, tmp_path):
    write(GOOD)
    with pytest.raises(UsageError, match=r"there is no file .*mime.py; did you mean .*mine.py\?"):
        load_program(f"{tmp_path / 'mime.py'}:program")
    with pytest.raises(UsageError, match=r"no file .*; programs are named as in"):
        load_program(f"{tmp_path / 'quite_other.py'}:program")
    with pytest.raises(UsageError, match="there is no module no_such_package_at_all"):
        load_program("no_such_package_at_all.models:x")
    with pytest.raises(UsageError, match="names no program"):
        load_program("a b.c:x")


def test_a_program_that_was_sent_still_tells_its_line(tmp_path):
    (tmp_path / "mine.py").write_text(
        "import jax.numpy as jnp, trivium as tv\n"
        "def start(key): return {'w': jnp.zeros(3)}\n"
        "def inner(x): return x @ jnp.zeros(7)\n"
        "def loss(params, batch, key): return inner(batch['x']).sum(), {}\n"
        "program = tv.Program.from_loss(start, loss, tv.optim.adam(1e-3))\n"
    )
    program = load_program(f"{tmp_path / 'mine.py'}:program")
    sent = pickle.loads(cloudpickle.dumps(program))  # as it comes to a worker
    table = Table({"x": np.ones((8, 3), np.float32)})
    bound = sent.for_data(table.spec)
    kernel = bound.kernel(1, 8, False)
    with pytest.raises(ProgramError, match=r"mine\.py:3, in inner:\n    def inner\(x\)"):
        kernel.delta(bound.init(0), kernel.read(Batch(table, 0, 8)), bound.layout.empty(), 0)
