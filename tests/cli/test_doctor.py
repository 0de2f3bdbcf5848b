import json
from importlib.metadata import version

import pytest

from trivium.cli import doctor, machine, main, speeds


@pytest.fixture(autouse=True)
def quick(monkeypatch, tmp_path):
    """Figures that cost nothing; the working directory is empty."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(speeds, "multiplied", lambda threads: 40.0 * threads)
    monkeypatch.setattr(speeds, "copied", lambda: 9.0)
    monkeypatch.setattr(speeds, "disk", lambda folder: (5e8, 1e9))


def told(capsys):
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def test_each_line_says_whether_it_is_well(capsys):
    assert main(["doctor"]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if not line.startswith(" ")]
    assert [line.split()[1].rstrip(":") for line in lines] == [
        "cores", "memory", "sharing", "versions", "extras", "caches", "products", "copies", "disk",
    ]  # fmt: skip
    assert {line.split()[0] for line in lines} <= {"ok", "warn"}


def test_json_has_the_raw_values(capsys):
    assert main(["doctor", "--json"]) == 0
    found = {check["name"]: check for check in told(capsys)["checks"]}
    assert found["versions"]["values"]["versions"]["numpy"] == version("numpy")
    assert found["products"]["values"]["one_thread_gflops"] == 40.0
    assert found["disk"]["values"]["read_bytes_per_second"] == 1e9
    assert found["memory"]["values"]["machine"] > 2**20


def test_an_extra_that_is_missing_says_how_to_install_it(monkeypatch, capsys):
    monkeypatch.setattr(machine, "installed", lambda name: None if name == "pillow" else "1.0")
    assert main(["doctor", "--json"]) == 0
    check = {one["name"]: one for one in told(capsys)["checks"]}["extras"]
    assert "missing: pillow" in check["text"]
    assert check["advice"] == "pip install pillow for folders of images"


def test_without_a_needed_package_it_cannot_work(monkeypatch, capsys):
    monkeypatch.setattr(machine, "installed", lambda name: None if name == "jax" else "1.0")
    assert main(["doctor"]) == 1
    out = capsys.readouterr().out
    assert "jax missing" in out
    assert "→ pip install jax" in out
    assert "Trivium cannot work here: versions" in out


def test_what_cannot_be_shared_is_said(monkeypatch, capsys):
    monkeypatch.setattr(speeds, "shared_memory", lambda: "memory cannot be shared between processes")
    assert main(["doctor"]) == 1
    assert "seccomp" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("cores", "words"),
    [(machine.Cores(8, 4, 1.5), "say --workers 1 or --threads 1"), (machine.Cores(8, 1, None), "one core")],
)
def test_few_cores_are_a_warning(monkeypatch, cores, words):
    monkeypatch.setattr(machine, "cores", lambda: cores)
    check = doctor.examine()[0]
    assert check.state == "warn"
    assert words in check.advice


@pytest.mark.parametrize(
    ("name", "value", "check", "words"),
    [
        ("multiplied", lambda threads: 1.0, "products", "BLAS"),
        ("copied", lambda: 0.5, "copies", "swaps"),
        ("disk", lambda folder: (1e6, 1e6), "disk", "--out on another disk"),
    ],
)
def test_what_is_slow_is_a_warning(monkeypatch, name, value, check, words):
    monkeypatch.setattr(speeds, name, value)
    found = next(one for one in doctor.examine() if one.name == check)
    assert found.state == "warn"
    assert words in found.advice


def test_a_disk_that_cannot_be_written_is_a_warning(monkeypatch):
    def refuse(folder):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(speeds, "disk", refuse)
    found = next(one for one in doctor.examine() if one.name == "disk")
    assert (found.state, "Permission denied" in found.text) == ("warn", True)


def test_caches_are_listed_with_their_sizes(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "trivium" / "rows" / "one").mkdir(parents=True)
    (tmp_path / "trivium" / "rows" / "one" / "x").write_bytes(b"1" * 3000)
    found = next(one for one in doctor.examine() if one.name == "caches")
    assert found.values == {"folder": str(tmp_path / "trivium"), "bytes": {"rows": 3000}}
