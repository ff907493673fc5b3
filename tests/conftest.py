"""What every test needs: the driver's package under bare ``pytest``, and no network for anything."""

import os
import sys
from pathlib import Path

from hypothesis import settings

ROOT = Path(__file__).resolve().parent.parent

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
