"""The face where people are: a notebook, a script without a guard, stdin, a thread, workers of joblib, daemons."""

import multiprocessing
import subprocess
import sys
import textwrap
import threading
import warnings

import numpy as np
import pytest

import trivium as tv
from trivium.face.fallback import HereLive, InProcess, why_here
from trivium.running.inline import run_inline

pytestmark = pytest.mark.slow
DATA = """
import numpy as np
import trivium as tv
draw = np.random.default_rng(0)
x = draw.standard_normal((300, 4))
y = (x[:, 0] + 0.1 * draw.standard_normal(300) > 0).astype(int)
"""
TRAIN = 'run = tv.train("logistic", (x, y), plan=tv.Plan("sequential", threads=1), out={out!r})'


@pytest.fixture(scope="module")
def rows():
    held = {}
    exec(DATA, held)
    return held["x"], held["y"]


@pytest.fixture(scope="module")
def bits(rows):
    """What every place must end in."""
    job = tv.Job(tv.models.logistic(), tv.from_arrays(*rows), tv.Plan("sequential", threads=1))
    return run_inline(job).record.params_sha256


def script(out):
    return DATA + TRAIN.format(out=str(out)) + "\nprint(run.record.params_sha256)\n"


def test_a_script_without_a_guard(tmp_path, bits):
    path = tmp_path / "script.py"
    path.write_text(script(tmp_path / "run"))
    told = subprocess.run([sys.executable, path], capture_output=True, text=True, timeout=100, check=False)
    assert (told.returncode, told.stderr) == (0, "")
    assert told.stdout.strip() == bits


def test_a_script_on_stdin(tmp_path, bits):
    told = subprocess.run(
        [sys.executable, "-"], input=script(tmp_path / "run"), capture_output=True, text=True, timeout=100, check=False
    )
    assert (told.returncode, told.stderr, told.stdout.strip()) == (0, "", bits)


def test_a_repl(tmp_path, bits):
    told = subprocess.run(
        [sys.executable, "-i", "-q"],
        input=script(tmp_path / "run"),
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert told.returncode == 0 and "Error" not in told.stderr
    assert told.stdout.strip() == bits


def test_a_thread(tmp_path, rows, bits):
    found = []

    def work():
        run = tv.train("logistic", rows, plan=tv.Plan("sequential", threads=1), out=tmp_path / "run")
        found.append(run.record.params_sha256)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(100)
    assert found == [bits]


def trained(out, rows, design="ps"):
    """In a child: the bits, the design of the record, and what was warned of, twice trained."""
    plan = tv.Plan(design, workers=2) if design != "sequential" else tv.Plan(design)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        runs = [tv.train("logistic", rows, plan=plan, out=f"{out}-{k}", progress=False) for k in range(2)]
    again = tv.load(runs[0].path)
    assert np.array_equal(again.predict(rows[0]), runs[1].predict(rows[0]))
    record = runs[0].record
    told = [str(one.message) for one in caught if issubclass(one.category, InProcess)]
    return record.params_sha256, record.design, record.notices, told


def check(found, bits, where):
    digest, design, notices, told = found
    assert (digest, design) == (bits, "sequential")
    assert where in notices[0]
    assert len(told) == 1 and told[0] == f"{where}: trained in it, by one thread, instead of by design 'ps'"


def test_workers_of_joblib_train_in_process_with_one_warning(tmp_path, rows, bits):
    joblib = pytest.importorskip("joblib")
    calls = [joblib.delayed(trained)(str(tmp_path / f"run{k}"), rows) for k in range(2)]
    found = joblib.Parallel(n_jobs=2)(calls)
    for one in found:
        check(one, bits, "this is a worker of joblib")


def send(connection, out, rows):
    connection.send(trained(out, rows))


@pytest.mark.parametrize("method", ["spawn", "fork"])
@pytest.mark.parametrize(("daemon", "where"), [(True, "a daemonic process"), (False, "a child of multiprocessing")])
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:os.fork:RuntimeWarning")
def test_processes_of_multiprocessing(method, daemon, where, tmp_path, rows, bits):
    context = multiprocessing.get_context(method)
    here, there = context.Pipe()
    process = context.Process(target=send, args=(there, str(tmp_path / "run"), rows), daemon=daemon)
    process.start()
    assert here.poll(100), "the child did not answer"
    check(here.recv(), bits, f"this is {where}")
    process.join(20)
    assert process.exitcode == 0


def test_this_process_may_start_others():
    assert why_here() == ""


def test_a_run_here_goes_on_beside_and_can_be_stopped(tmp_path, rows):
    job = tv.Job(
        tv.models.logistic(),
        tv.from_arrays(*rows),
        tv.Plan("ps", workers=2),
        tmp_path / "run",
        optimizer=tv.optim.adam(),
        stopping=tv.Stopping(epochs=10_000_000),
    )
    live = HereLive(job, None, "a test")
    assert live.wait(0.2) is None and live.path == tmp_path / "run"
    live.stop("enough")
    assert live.result().stopped_by == "enough"
    assert tv.load(tmp_path / "run").predict(rows[0]).shape == (300,)
    with pytest.raises(tv.errors.UsageError, match="is not empty"):
        HereLive(job, None, "a test").result()


def test_a_notebook(tmp_path, bits):
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    cells = [
        DATA,
        TRAIN.format(out=str(tmp_path / "run")) + "\nrun",
        'more = tv.train("mlp:8", (x, y), epochs=3, valid=0.2)\nprint(run.record.params_sha256)',
        "more.predict(x[:2]).shape",
        textwrap.dedent("""
            live = tv.start("logistic", (x, y), out="beside")
            live.result().metrics["train_accuracy"] > 0.8
        """),
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(text) for text in cells])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the client's own loops and sockets
        client = nbclient.NotebookClient(
            notebook, timeout=100, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
        )
        client.execute()
    shown = notebook.cells[1].outputs
    pages = [one["data"]["text/html"] for one in shown if "data" in one and "text/html" in one["data"]]
    assert any("Run " in page and "logistic" in page for page in pages[:-1])  # the display, redrawn in place
    assert "<svg" in pages[-1]  # what a run shows of itself
    assert bits in str(notebook.cells[2].outputs)
    assert "'text/plain': '(2,)'" in str(notebook.cells[3].outputs)
    assert "True" in str(notebook.cells[4].outputs)
