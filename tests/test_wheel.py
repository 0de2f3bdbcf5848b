"""The wheel holds all that is needed: built, installed into a clean environment, and used from there."""

import json
import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
WITHIN = 110.0


def run(*command, **options):
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=WITHIN, check=False, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The folder of commands of a clean environment with the wheel; what it needs lies beside it."""
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder, cwd=ROOT)
    (wheel,) = folder.glob("trivium-*.whl")
    venv.create(folder / "env", with_pip=True)
    commands = folder / "env" / "bin"
    run(commands / "python", "-m", "pip", "install", "--no-deps", "--no-index", "-q", wheel)
    (site,) = (folder / "env" / "lib").glob("python*/site-packages")
    # A plain line is a folder to import from, whose own .pth files (that of this checkout) do not count.
    (site / "needed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return commands, wheel, folder


@pytest.mark.slow
def test_the_wheel_trains_and_predicts_by_itself(installed):
    commands, _wheel, folder = installed
    rows = "\n".join(f"{i % 7},{i % 5},{'yes' if i % 7 > 3 else 'no'}" for i in range(300))
    (folder / "rows.csv").write_text(f"a,b,label\n{rows}\n")
    here = {"cwd": folder, "env": {**os.environ, "PYTHONPATH": "", "XDG_CACHE_HOME": str(folder / "cache")}}
    where = run(commands / "python", "-c", "import trivium; print(trivium.__file__)", **here)
    assert Path(where.strip()).is_relative_to(folder)
    told = run(commands / "trivium", "train", "logistic", "rows.csv", "--json", "-o", "run", **here)
    assert json.loads(told.splitlines()[-1])["train_accuracy"] > 0.95
    answers = run(commands / "trivium", "predict", "run", "rows.csv", **here).splitlines()
    assert len(answers) == 301
    assert set(answers[1:]) == {"yes", "no"}


@pytest.mark.slow
def test_the_wheel_has_types_and_licence_and_no_tests(installed):
    names = zipfile.ZipFile(installed[1]).namelist()
    assert "trivium/py.typed" in names
    assert any(name.endswith("LICENSE") for name in names)
    assert not [name for name in names if name.startswith(("tests/", "benchmarks/"))]
