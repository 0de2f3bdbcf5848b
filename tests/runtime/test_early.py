import subprocess
import sys

import pytest

from trivium.runtime import early
from trivium.runtime.pool import GRACE, Pool


@pytest.fixture
def started(monkeypatch):
    """Pools that only remember that they were started or closed."""
    told = []
    monkeypatch.setattr(Pool, "start", lambda pool: told.append(("start", pool)))
    monkeypatch.setattr(Pool, "close", lambda pool: told.append(("close", pool)))
    monkeypatch.setattr(early, "_begun", {})
    return told


def test_what_was_begun_is_adopted_once(started):
    early.begin(xla=False)
    early.begin(xla=False)
    assert [word for word, _ in started] == ["start"]
    adopted = early.pool_for(xla=False)
    assert adopted is started[0][1]
    assert early.pool_for(xla=False) is not adopted


def test_another_kind_is_not_adopted(started):
    early.begin(xla=False)
    assert "jax" in early.pool_for(xla=True).modules
    assert "jax" not in early.pool_for(xla=False).modules


def test_a_longer_grace_needs_a_pool_of_its_own(started):
    early.begin(xla=False)
    pool = early.pool_for(xla=False, grace=GRACE + 1)
    assert pool.grace == GRACE + 1
    assert [word for word, _ in started] == ["start", "close"]


def test_importing_needs_no_heavy_module():
    script = "import sys; import trivium.runtime.early; sys.exit(str({'numpy', 'numba', 'jax'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True, text=True, timeout=60)
    assert done.stderr.strip() == "set()"
