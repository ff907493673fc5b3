"""A baseline in a process of its own, so that none of our settings of memory reach it."""

import multiprocessing
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any

PLAIN = {"THP_MEM_ALLOC_ENABLE": "0", "MALLOC_ARENA_MAX": str(8 * (os.cpu_count() or 1))}
"""PyTorch's and glibc's own defaults, said aloud: where they are said, ``trainables`` leaves them as they are."""


@contextmanager
def running(make: Callable[..., Callable[[Any], Any]], *arguments: Any) -> Iterator[Callable[[Any], Any]]:
    """``make(*arguments)``, made and called in another process.

    Raises:
        EOFError: on a call, where that process has ended with an error, which it has printed.
    """
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_serve, args=(there, make, *arguments))
    before = dict(os.environ)
    os.environ.update(PLAIN)
    try:
        process.start()
    finally:
        os.environ.clear()
        os.environ.update(before)
    there.close()

    def ask(question: Any) -> Any:
        here.send(question)
        return here.recv()

    try:
        yield ask
    finally:
        here.close()
        process.join()


def _serve(connection: Connection, make: Callable[..., Callable[[Any], Any]], *arguments: Any) -> None:
    answer = make(*arguments)
    while True:
        try:
            question = connection.recv()
        except EOFError:
            return
        connection.send(answer(question))
