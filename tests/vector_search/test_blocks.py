"""Rows by blocks: all of them once, the same numbers whatever the threads, and errors that arrive."""

import threading

import numpy as np
import pytest

from trainables.vector_search import blocks


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize(("num_rows", "rows"), [(0, 4), (3, 4), (4, 4), (11, 4)])
def test_every_row_is_in_one_block(threads: int, num_rows: int, rows: int) -> None:
    seen_N, lock = np.zeros(num_rows, dtype=int), threading.Lock()

    def work(block: slice) -> None:
        assert 0 < block.stop - block.start <= rows
        with lock:
            seen_N[block] += 1

    blocks.each(num_rows, threads, work, rows=rows)
    assert (seen_N == 1).all()


def test_blocks_run_at_once() -> None:
    together, met = threading.Barrier(2, timeout=10), list[int]()

    def work(block: slice) -> None:
        together.wait()
        met.append(block.start)

    blocks.each(2, 2, work, rows=1)
    assert sorted(met) == [0, 1]


def test_an_error_of_a_block_arrives() -> None:
    def work(block: slice) -> None:
        if block.start == 2:
            raise ValueError("row 2")

    with pytest.raises(ValueError, match="row 2"):
        blocks.each(4, 2, work, rows=1)
