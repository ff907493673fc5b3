"""Who works on a study: a process of this host, or one of another host whose heart beats.

No two hosts' clocks are compared where a life depends on it: a holder elsewhere is alive while its heartbeat changes,
as seen on the monotonic clock of whoever watches.
"""

import os
import socket
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

LEASE_S = 30.0
"""A holder on another host whose heartbeat does not change for so long has lost its study."""
BEAT_S = LEASE_S / 6
_POLL_S = 0.5


def this_process() -> dict[str, Any]:
    """Host, pid and the kernel's start time of this process: pids are reused, the pair is not."""
    return {"host": socket.gethostname(), "pid": os.getpid(), "born": _born(os.getpid())}


def is_here(owner: Mapping[str, Any]) -> bool:
    return bool(owner["host"] == socket.gethostname())


def is_alive(owner: Mapping[str, Any]) -> bool:
    """Whether a process of this host still runs. A stopped one does: it may go on at any moment."""
    try:
        os.kill(owner["pid"], 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return bool(_born(owner["pid"]) == owner["born"])


def is_silent(heartbeat: Callable[[], float | None], lease_s: float | None = None) -> bool:
    """Watch a holder on another host for a lease: whether its heartbeat stays what it is.

    heartbeat: reads it; in Unix seconds of the holder's clock. One that is a moment old by this host's clock too is
    taken for a beating heart at once.
    """
    lease_s = LEASE_S if lease_s is None else lease_s
    first, until = heartbeat(), time.monotonic() + lease_s
    if first is not None and 0 <= time.time() - first < lease_s:
        return False
    while time.monotonic() < until:
        time.sleep(min(_POLL_S, lease_s / 4))
        if heartbeat() != first:
            return False
    return True


def _born(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return ""
