"""Room on a node's disk for results of a storage by URI: those unused for longest leave its folder, to be fetched anew.

Only what an object store has as well is ever evicted (``artifacts`` says when). A result that was used a moment ago
stays, whatever the bound: a process may be reading it.
"""

import os
import shutil
import time
import uuid
from pathlib import Path

VARIABLE = "CLUSTERSWEEP_LOCAL_GB"
"""Names the most that a storage's results may take on a node, in GB; empty: no bound beside the disk's own."""

FREE_SHARE = 0.1
"""Of a disk, that stays free."""
IN_USE_S = 600.0


def used(folder: Path) -> None:
    """Note that the result in this folder is being read."""
    os.utime(folder)


def make_room(root: Path) -> list[str]:
    """Evict results until their folder is within its bound and the disk has room, the longest unused first.

    Args:
        root: the folder of results, each in a folder of its own; names that begin with a dot are no results.

    Returns:
        The names of the evicted results.

    Raises:
        ValueError: the environment variable VARIABLE is not a number above 0.
    """
    most_bytes, free_bytes = bound_bytes(), _missing_bytes(root)
    if most_bytes is None and free_bytes <= 0:
        return []
    results = sorted((_last_use(folder), folder) for folder in root.iterdir() if _is_result(folder))
    sizes = {folder: _num_bytes(folder) for _, folder in results}
    kept_bytes, gone = sum(sizes.values()), list[str]()
    for last_use, folder in results:
        over_bytes = max(free_bytes, 0 if most_bytes is None else kept_bytes - most_bytes)
        if over_bytes <= 0 or time.time() - last_use < IN_USE_S:
            break
        if _evict(folder):
            gone.append(folder.name)
            kept_bytes, free_bytes = kept_bytes - sizes[folder], free_bytes - sizes[folder]
    return gone


def bound_bytes() -> float | None:
    """The bound in bytes that the environment variable VARIABLE sets; None if it is not set.

    Raises:
        ValueError: it is not a number above 0.
    """
    text = os.environ.get(VARIABLE, "")
    if not text:
        return None
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise ValueError(f"{VARIABLE} must be a number of GB above 0, but is {text!r}; correct it, or unset it")
    return number * 1e9


def _missing_bytes(root: Path) -> float:
    """How much has to go for the disk to have its free share; negative where it has more."""
    disk = shutil.disk_usage(root)
    return FREE_SHARE * disk.total - disk.free


def _is_result(folder: Path) -> bool:
    return not folder.name.startswith(".") and folder.is_dir()


def _last_use(folder: Path) -> float:
    try:
        return folder.stat().st_mtime
    except FileNotFoundError:  # another process has just evicted it
        return time.time()


def _num_bytes(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size
        except FileNotFoundError:
            continue
    return total


def _evict(folder: Path) -> bool:
    """Out of sight at once, so that nobody opens half of it; files that are mapped stay readable."""
    aside = folder.with_name(f".evicted-{folder.name}-{uuid.uuid4().hex[:8]}")
    try:
        folder.rename(aside)
    except FileNotFoundError:
        return False
    shutil.rmtree(aside, ignore_errors=True)
    return True
