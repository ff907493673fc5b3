"""A folder in the temporary one that all processes of this user share, and nobody else."""

import os
import stat
import tempfile
from pathlib import Path


def of_user(kind: str) -> Path:
    """The folder ``clustersweep-<kind>-<user>`` in TMPDIR, created if it is not there.

    Raises:
        PermissionError: others may enter it; anyone may make a folder of this name where all users share TMPDIR.
        OSError: it cannot be created.
    """
    folder = Path(tempfile.gettempdir()) / f"clustersweep-{kind}-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o077:
        raise PermissionError(f"{folder} must be a folder that only this user can enter")
    return folder
