"""Work on the rows of an array by blocks of fixed size, several at once: the same numbers whatever the threads."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

ROWS = 4096


def each(num_rows: int, threads: int, work: Callable[[slice], None], rows: int = ROWS) -> None:
    """Call ``work`` with every block of ``rows`` of ``num_rows`` rows, up to ``threads`` blocks at once.

    For what leaves Python's lock to others while it computes, as NumPy does on large arrays.

    Raises:
        Exception: the first block's that raised one.
    """
    blocks = [slice(first, min(first + rows, num_rows)) for first in range(0, num_rows, rows)]
    if threads == 1 or len(blocks) < 2:
        for block in blocks:
            work(block)
        return
    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(work, blocks):
            pass
