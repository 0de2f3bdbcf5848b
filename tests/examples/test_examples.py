"""Each example, made small, by every design: it runs as a script does, and it learns."""

import gzip
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import SHARED
from trivium.program.own import load_program

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
DESIGNS = ("sequential", "allreduce", "ps")
WORKERS = {"sequential": (), "allreduce": ("--workers", "2"), "ps": ("--workers", "2")}


def run(name, *arguments, cwd):
    """What the example says."""
    command = [sys.executable, "-W", "error", str(EXAMPLES / name), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return done.stdout


def write_images(folder, rows, part):
    """MNIST's first ``rows`` images as IDX files."""
    folder.mkdir(exist_ok=True)
    for kind, header, width in (("images-idx3", 16, 784), ("labels-idx1", 8, 1)):
        raw = gzip.decompress((SHARED / "mnist" / f"{part}-{kind}-ubyte.gz").read_bytes())
        head = raw[:4] + rows.to_bytes(4, "big") + raw[8:header]
        (folder / f"{part}-{kind}-ubyte").write_bytes(head + raw[header : header + rows * width])


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("design", DESIGNS)
def test_the_network_of_convolutions(tmp_path, design):
    write_images(tmp_path / "mnist", 6000, "train")
    write_images(tmp_path / "mnist", 1000, "t10k")
    said = run(
        "cnn.py", tmp_path / "mnist", "--design", design, *WORKERS[design], "--epochs", 2, "--out", "r", cwd=tmp_path
    )
    assert said.startswith(design)
    assert float(re.search(r"([\d.]+)% of 1,000 test images", said)[1]) > 90


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("design", DESIGNS)
def test_the_network_that_spells(tmp_path, design):
    said = run(
        "charlm.py", SHARED / "text" / "dblp.tsv.gz", "--design", design, *WORKERS[design], "--epochs", 1,
        "--characters", 150_000, "--out", "r", cwd=tmp_path,
    )  # fmt: skip
    single, double, network = (float(bits) for bits in re.findall(r"(?:characters|pairs|network) (\d\.\d+)", said))
    assert design in said
    assert network < single - 0.3
    assert double < single


@pytest.mark.slow
def test_the_text_that_is_there_anyway(tmp_path):
    said = run("charlm.py", "--characters", 30_000, "--epochs", 1, "--design", "sequential", "--out", "r", cwd=tmp_path)
    assert "30,000 characters" in said


@pytest.mark.slow
def test_the_designs_side_by_side(tmp_path):
    said = run("compare_designs.py", cwd=tmp_path)
    assert [line.split()[0] for line in said.splitlines()] == list(DESIGNS)
    assert all(float(share) > 80 for share in re.findall(r"([\d.]+)% right", said))


def test_the_network_of_convolutions_is_a_program_for_the_command_line():
    program = load_program(f"{EXAMPLES / 'cnn.py'}:program")
    assert program.name == "cnn"
    assert {piece.name for piece in program.layout.slices if not piece.penalised} == {
        "conv1_bias", "conv2_bias", "dense_bias", "out_bias",
    }  # fmt: skip


def test_counting_is_what_it_says():
    import numpy as np

    folder = os.fspath(EXAMPLES)
    sys.path.insert(0, folder)
    try:
        import charlm
    finally:
        sys.path.remove(folder)
    codes = np.tile([0, 1], 500)
    single, double = charlm.counted(codes, codes, 2)
    assert single == pytest.approx(1, abs=1e-3)
    assert double < 0.01
    table = charlm.windows_of(np.arange(200))
    assert table.columns["next"].ravel().tolist() == list(range(1, 193))


@pytest.mark.slow
def test_who_waited_for_whom(tmp_path):
    said = run("straggler.py", tmp_path / "pages", cwd=tmp_path)
    for part, name in zip(re.split(r"\n(?=bsp|ssp)", said.strip()), ("bsp", "ssp-3"), strict=True):
        head = next(line for line in part.splitlines() if line.startswith("waited for"))
        rows = dict(re.findall(r"^(worker \d) +(.*)$", part, re.MULTILINE))
        whom = re.findall(r"(?:server|worker) \d", head)
        waited = {
            worker: dict(zip(whom, map(float, re.findall(r"[\d.]+", row)), strict=True)) for worker, row in rows.items()
        }
        for worker in ("worker 0", "worker 2"):
            assert max(waited[worker], key=lambda one: waited[worker][one]) == "worker 1"
        page = (tmp_path / "pages" / f"{name}.html").read_text()
        assert "Who waited for whom" in page
        assert ("How stale reads were" in page) == (name != "bsp")


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("nodes", [1, 2])
def test_the_loop_of_ones_own(tmp_path, nodes):
    said = run("own_loop.py", "--nodes", nodes, "--epochs", 3, "--out", "r", cwd=tmp_path)
    assert float(re.search(r"([\d.]+)% of 360 test rows right", said)[1]) > 80
    assert "by 2 workers under ssp:3" in said


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize(("model", "most"), [("logistic", 0.331), ("fm:4", 0.335)])
def test_clicks_by_hashed_crosses(tmp_path, model, most):
    train, test = (SHARED / "libsvm" / name for name in ("a9a", "a9a.t"))
    more = ("--plain", "--lr", 0.1) if model != "logistic" else ()
    said = run("ctr.py", train, test, "--model", model, *more, "--epochs", 2, "--out", "r", cwd=tmp_path)
    assert float(re.search(r"log loss ([\d.]+)", said)[1]) < most, "columns alone by logistic come to 0.326"
    used, pushed = (int(one.replace(",", "")) for one in re.findall(r"([\d,]+) (?:weights|rows that were)", said))
    assert 0 < used <= pushed
