"""What every test needs: the driver's package under bare ``pytest``, and no network for anything."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

ROOT = Path(__file__).resolve().parent.parent

pytest_plugins = [f"tests.fixtures.{name}" for name in ("studies", "books", "clustered", "browsers")]

# A machine that is busy with something else must not fail an example that is right.
settings.register_profile("any_machine", deadline=None)
settings.load_profile("any_machine")

# Read when the libraries are first imported; nothing here may wait for a network that is not there.
os.environ.update(MLFLOW_DISABLE_TELEMETRY="true", DO_NOT_TRACK="true", RAY_USAGE_STATS_ENABLED="0")

# Bare `pytest` has imported the standard library's module before this folder is on the path: give it the package's
# path, so that `from platform.study import ...` works either way.
sys.path.insert(0, str(ROOT))
if not hasattr(sys.modules.get("platform"), "__path__"):
    import platform

    platform.__path__ = [str(ROOT / "platform")]


@pytest.fixture(autouse=True)
def own_tracker() -> Iterator[None]:
    """``mlflow.set_tracking_uri`` writes into the environment, which the sweeps of later tests would inherit."""
    before = os.environ.get("MLFLOW_TRACKING_URI")
    yield
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    if before is not None:
        os.environ["MLFLOW_TRACKING_URI"] = before
