import json

import pytest

from trivium.testing import scenarios_nodes
from trivium.testing.scenarios import draw, lives
from trivium.testing.soak import main, soak


def test_counts_are_those_of_the_seeds():
    counts = soak(range(40, 60))
    scenarios = [draw(seed) for seed in range(40, 60)]
    assert counts["runs"] == 20
    assert counts["fault Kill"] == sum(type(f).__name__ == "Kill" for one in scenarios for f in one.faults)
    assert counts["resumed"] == sum(len(list(lives(one))) - 1 for one in scenarios)
    assert not [name for name in counts if name.startswith("failed: ")]


def test_counts_over_nodes_are_those_of_the_seeds():
    counts = soak(range(40, 50), nodes=True)
    scenarios = [scenarios_nodes.draw(seed) for seed in range(40, 50)]
    assert counts["runs"] == 10
    assert counts["fault KillNode"] == sum(type(f).__name__ == "KillNode" for one in scenarios for f in one.faults)
    assert counts["scaled"] == sum(len(one.scale) for one in scenarios)
    assert not [name for name in counts if name.startswith("failed: ")]


@pytest.mark.slow
def test_the_command_writes_its_result(tmp_path, capsys):
    out = tmp_path / "soak.json"
    assert main(["--seeds", "30", "--first", "5", "--processes", "1", "--out", str(out)]) == 0
    result = json.loads(out.read_text(encoding="utf-8"))
    assert result == json.loads(capsys.readouterr().out)
    assert (result["seeds"], result["counts"]["runs"], result["failures"]) == ([5, 35], 30, [])


def test_nonsense_is_refused(capsys):
    with pytest.raises(SystemExit):
        main(["--seeds", "0"])
    assert "must be 1 or more" in capsys.readouterr().err
