"""What stands where a stage result, a save or a lock belongs: read if it is a file, moved aside if it is anything else.

Anything may be in a storage: a file where a folder belongs, a folder where a file belongs, a link to nowhere, a pipe
that nobody writes to, a file that may not be read. None of it may stop a trial, and nothing is deleted.
"""

import errno
import os
import stat
import uuid
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path

PREFIX = ".damaged-"
_NO_FOLDER = (errno.EEXIST, errno.ENOTDIR, errno.ELOOP)


class Damaged(ValueError):
    """Something in the store is not what was written there. The text names it."""


@contextmanager
def opened(path: Path) -> Iterator[BufferedReader]:
    """Context: a file, or the file that a link leads to, to read; never waits, as for the writer of a pipe.

    Raises:
        Damaged: it is no file.
        OSError: it is not there, or cannot be read.
    """
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(handle, "rb") as file:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise Damaged(f"{path} is no file")
        yield file


def read_file(path: Path) -> bytes:
    """The content of a file. Raises as ``opened`` does."""
    with opened(path) as file:
        return file.read()


def move_aside(path: Path, why: object) -> bool:
    """Rename what is at ``path`` and warn; it stays beside it, for people to look at.

    Returns:
        False if it was gone already, as when another process has just moved it.
    """
    # One of many digits: two processes that move the same never meet in one name.
    aside = path.with_name(f"{PREFIX}{path.name}-{uuid.uuid4().hex[:8]}")
    try:
        path.rename(aside)
    except FileNotFoundError:
        return False
    warnings.warn(f"{path} was set aside as {aside.name} and computed again: {why}", stacklevel=3)
    return True


def make_folder(folder: Path, root: Path, *, written: bool = True) -> None:
    """Create a folder where there is none; anything else under its name is moved aside.

    Args:
        root: the folder of the store; nothing above it is ever moved.
        written: a folder that may not be read and written is moved aside too.

    Raises:
        OSError: it cannot be created, as on a disk that is read-only.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        if error.errno not in _NO_FOLDER:
            raise
        in_the_way = [part for part in (folder, *folder.parents) if part.is_relative_to(root) and not part.is_dir()]
        for part in reversed(in_the_way):
            if os.path.lexists(part):
                move_aside(part, f"a folder belongs here ({error.strerror})")
        folder.mkdir(parents=True, exist_ok=True)
    if written and not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        move_aside(folder, "the folder may not be read and written")
        folder.mkdir(parents=True, exist_ok=True)


def clear_unless_file(path: Path) -> None:
    """Move aside what is at ``path`` unless it is a file that may be read and written, or nothing."""
    try:
        mode = path.lstat().st_mode
    except OSError:
        return
    if not stat.S_ISREG(mode):
        move_aside(path, "a file belongs here")
    elif not os.access(path, os.R_OK | os.W_OK):
        move_aside(path, "the file may not be read and written")
