"""A diary for tests of faults: which trial began, which stage was computed, which DONE was acknowledged.

Off unless CLUSTERSWEEP_DIARY names a file on a disk that every process of the sweep sees. Each line is one JSON
object, appended whole and on the disk before the call returns; the order of the lines is the order of the events.

    START   a worker begins to walk a trial's stages        key: the trial's
    STAGE   a worker has published a stage's result          key: <stage>-<address>
    DONE    the ledger has acknowledged the end of a trial   key: the trial's
"""

import json
import os
import time

VARIABLE = "CLUSTERSWEEP_DIARY"
START, STAGE, DONE = "START", "STAGE", "DONE"


def is_kept() -> bool:
    """For who would have to work out a key first."""
    return bool(os.environ.get(VARIABLE))


def note(event: str, key: str) -> None:
    """Append an event, if a diary is kept."""
    path = os.environ.get(VARIABLE)
    if not path:
        return
    line = json.dumps({"event": event, "key": key, "pid": os.getpid(), "monotonic_ns": time.monotonic_ns()}) + "\n"
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(handle, line.encode())  # one write: no other process's line can come in between
        os.fsync(handle)
    finally:
        os.close(handle)
