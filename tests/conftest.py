"""What every test needs: the driver's package under bare ``pytest``, and no network for anything."""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# Read when the libraries are first imported; nothing here may wait for a network that is not there.
os.environ.update(MLFLOW_DISABLE_TELEMETRY="true", DO_NOT_TRACK="true", RAY_USAGE_STATS_ENABLED="0")

# Bare `pytest` has imported the standard library's module before this folder is on the path: give it the package's
# path, so that `from platform.study import ...` works either way.
sys.path.insert(0, str(ROOT))
if not hasattr(sys.modules.get("platform"), "__path__"):
    import platform

    platform.__path__ = [str(ROOT / "platform")]
