"""How a command leaves its terminal: its exit code, and one sentence for whatever ended it.

Expected errors of the environment (disks, limits, memory, network) are said in words with a way out. What nobody
expected is said in one line; what led to it is in a file.
"""

import atexit
import errno
import os
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable
from types import TracebackType
from typing import NoReturn

from .study.errors import printable, redacted

OK, UNEXPECTED, WRONG = 0, 1, 2
"""WRONG: the command or a file is, and nothing was started."""
INTERRUPTED = 130
READER_GONE = 141
"""As a shell shows SIGPIPE."""

_WAYS_OUT = {
    errno.ENOSPC: "make room",
    errno.EDQUOT: "make room",
    errno.EFBIG: "raise the limit of file sizes (ulimit -f)",
    errno.EROFS: "make the disk writable again, or name another place",
    errno.EACCES: "give yourself the right to it, or name another place",
    errno.EPERM: "give yourself the right to it, or name another place",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
    errno.ENFILE: "raise the machine's limit of open files",
    errno.ENOMEM: "give it more memory",
    errno.EAGAIN: "raise the limit of processes (ulimit -u)",
    errno.ENOTDIR: "move away what stands in the place of a folder",
    errno.EEXIST: "move away what stands in its place",
    errno.EISDIR: "move away the folder that stands in the place of a file",
    errno.ENOENT: "bring it back, or name another place",
    errno.ELOOP: "remove the link that leads to itself",
    errno.ENAMETOOLONG: "take a shorter name",
    errno.EIO: "look at the disk",
    errno.ESTALE: "look at the file server",
    errno.ENOTCONN: "look at the file server",
    errno.ECONNREFUSED: "look at the network",
    errno.ENETUNREACH: "look at the network",
    errno.EHOSTUNREACH: "look at the network",
    errno.ETIMEDOUT: "look at the network",
}


def leave(main: Callable[[], int]) -> NoReturn:
    """Run a command and exit with its code, without a word if the reader of its output has gone, as ``head`` does.

    Args:
        main: returns the exit code.
    """
    for stream in (sys.stdout, sys.stderr):
        # A terminal that knows no Greek letter shows a question mark in its place.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    try:
        code = main()
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = READER_GONE
    except KeyboardInterrupt:
        code = INTERRUPTED
    except Exception as error:
        code = UNEXPECTED
        print(in_words(error), file=sys.stderr)
    # What sys.exit does, but for taking every module down, which after a sweep took two seconds.
    for thread in threading.enumerate():
        if not thread.daemon and thread is not threading.main_thread():
            thread.join()
    atexit._run_exitfuncs()
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:  # a full disk behind a redirection
        code = code or UNEXPECTED
    os._exit(code)


def while_loading(kind: type[BaseException], error: BaseException, _: TracebackType | None) -> NoReturn:
    """Exit from a command whose libraries could not be loaded: ``sys.excepthook`` until its main runs in ``leave``."""
    if isinstance(error, Exception):
        print(in_words(error), file=sys.stderr, flush=True)
    os._exit(WRONG if isinstance(error, Exception) else INTERRUPTED)


def in_words(error: Exception) -> str:
    """One sentence for an error that ended a command, without passwords.

    Returns:
        What failed and the way out; for an error that nobody expected, its name and the file that has all of it.
    """
    text = printable(redacted(" ".join(str(error).split()) or type(error).__name__))
    if isinstance(error, OSError) and error.errno in _WAYS_OUT:
        return f"{text}; {_WAYS_OUT[error.errno]}"
    if isinstance(error, MemoryError):
        return "There is not enough memory (see ulimit -v, and the limits of the container); give it more memory"
    if isinstance(error, ImportError):
        return f"A library cannot be loaded ({text}); install the project anew, or raise a limit of memory (ulimit -v)"
    return f"Unexpected {type(error).__name__}: {text[:300]}\n{_noted(error)}"


def _noted(error: Exception) -> str:
    """Write what led to an error into a file. Returns a line that names it."""
    content = redacted("".join(traceback.format_exception(error)))
    try:
        handle, path = tempfile.mkstemp(prefix="clustersweep-error-", suffix=".log")
        with open(handle, "w", errors="replace") as file:
            file.write(content)
    except OSError as unwritable:
        return f"What led to it could not be written to a file ({unwritable})."
    return f"This is an error of the program's; what led to it is in {path}."
