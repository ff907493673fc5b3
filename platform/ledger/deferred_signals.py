"""Blocks of the main thread that a signal does not break into.

A handler that raises can do so between any two steps of the main thread: also right after a transaction has begun and
before the block that would end it. The transaction would then stay open, and every other writer of the database, the
threads of the same process among them, would wait for it in vain.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class _Deferral:
    depth = 0
    """How many blocks the main thread is in. Only the main thread changes it, and signal handlers run there."""
    error: BaseException | None = None
    """What a signal wanted to raise meanwhile."""


def deliver(error: BaseException) -> None:
    """Raise ``error``, or leave that to the end of the block that the main thread is in; called by a signal's handler.

    Raises:
        BaseException: ``error``.
    """
    if _Deferral.depth:
        _Deferral.error = error
    else:
        raise error


@contextmanager
def deferred() -> Iterator[None]:
    """Let what a signal raises wait for the end of the block; without effect in other threads than the main one.

    Raises:
        BaseException: what a signal wanted to raise in the block, where the block itself raised nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _Deferral.depth += 1
    try:
        yield
    finally:
        _Deferral.depth -= 1
        if not _Deferral.depth and _Deferral.error is not None:
            error, _Deferral.error = _Deferral.error, None
            raise error
