"""Work on the rows of an array by blocks of fixed size, several at once: the same numbers whatever the threads."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

ROWS = 4096


def each(num_rows: int, threads: int, work: Callable[[slice], None], rows: int = ROWS) -> None:
    """Call a function with every block of rows, several blocks at once.

    It pays for work that releases Python's global lock, as NumPy does on large arrays.

    Args:
        num_rows: of the array.
        threads: number of blocks at once.
        work: takes the slice of one block.
        rows: of a block.

    Raises:
        Exception: that of the first block that raised one.
    """
    blocks = [slice(first, min(first + rows, num_rows)) for first in range(0, num_rows, rows)]
    if threads == 1 or len(blocks) < 2:
        for block in blocks:
            work(block)
        return
    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(work, blocks):
            pass
