"""What holds for all tests: how many random cases there are, and when tests on real data are skipped."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"

collect_ignore = ["orphan_script.py"]  # a program that a test starts, not a module with examples

# A test that asks for a number of cases itself keeps it; `make soak` loads the second profile.
settings.register_profile("default", deadline=None)
settings.register_profile("soak", deadline=None, max_examples=5000, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("default")


@pytest.fixture(scope="session")
def warm():
    """A session whose processes stay warm from one test to the next."""
    from trivium.running.session import Session

    with Session() as session:
        yield session


def pytest_collection_modifyitems(items):
    if SHARED.is_dir():
        return
    missing = pytest.mark.skip(reason=f"the shared data folder {SHARED} is missing")
    for item in items:
        if item.get_closest_marker("data"):
            item.add_marker(missing)
