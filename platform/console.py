"""How a command leaves its terminal."""

import os
import sys
from collections.abc import Callable
from typing import NoReturn

READER_GONE = 141
"""As a shell shows SIGPIPE."""


def leave(main: Callable[[], int]) -> NoReturn:
    """Run a command and exit with its code; quietly where the reader of its output has gone, as ``head`` does."""
    try:
        code = main()
        sys.stdout.flush()
    except BrokenPipeError:
        # The interpreter flushes once more when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = READER_GONE
    sys.exit(code)
