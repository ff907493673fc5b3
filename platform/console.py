"""How a command leaves its terminal."""

import atexit
import os
import sys
import threading
from collections.abc import Callable
from typing import NoReturn

READER_GONE = 141
"""As a shell shows SIGPIPE."""


def leave(main: Callable[[], int]) -> NoReturn:
    """Run a command and exit with its code, without a word if the reader of its output has gone, as ``head`` does.

    Args:
        main: returns the exit code.
    """
    try:
        code = main()
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = READER_GONE
    # What sys.exit does, but for taking every module down, which after a sweep took two seconds.
    for thread in threading.enumerate():
        if not thread.daemon and thread is not threading.main_thread():
            thread.join()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
