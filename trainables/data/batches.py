"""Batches of row numbers: every rank sees its own part of the same global batches.

Axes: B rows of this rank's batch.
"""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from ..interfaces import Batch, Split
from .decoding.workers import FileImages


def batches(
    rows: int | Split, batch_size: int, generator: torch.Generator, *, rank: int, world_size: int, drop_last: bool
) -> Iterator[Batch]:
    """Yield one pass over the data in a random order, in global batches.

    A batch is trimmed to a multiple of ``world_size``. A batch that would leave a rank with a single image is left out,
    because batch normalization has no variance there.

    Args:
        rows: number of rows, or a Split; if its images lie in files, this rank's rows are decoded ahead.
        batch_size: of the global batch.
        generator: the order is drawn from it.
        rank: this process, from 0.
        world_size: number of processes.
        drop_last: leave out a last batch that is not full.

    Raises:
        ValueError: batch_size is not a multiple of world_size, or drop_last leaves no batch at all.
    """
    num_rows = rows if isinstance(rows, int) else len(rows)
    if drop_last and num_rows < batch_size:
        raise ValueError(f"batch_size {batch_size} is above the {num_rows} images there are; choose a smaller one")
    order_N = torch.randperm(num_rows, generator=generator, device=generator.device)
    own = list(dealt(order_N, batch_size, rank=rank, world_size=world_size, drop_last=drop_last))
    if own and isinstance(rows, Split):
        announce(rows, torch.cat([batch.rows_B for batch in own]))
    yield from own


def announce(split: Split, rows: Tensor) -> None:
    """Tell a split which of its rows are asked for next, in order; images in files are then decoded ahead.

    Args:
        rows: int64.
    """
    if isinstance(split.images_NCHW, FileImages):
        split.images_NCHW.announce(rows)


def announced(split: Split, rows_N: Tensor, batches: Iterable[Batch]) -> Iterator[Batch]:
    """Announce the rows of all batches to the split, then yield the batches.

    Args:
        rows_N: int64 rows of the split.
        batches: their ``rows_B`` are indices into ``rows_N``.
    """
    own = list(batches)
    if own:
        announce(split, torch.cat([rows_N[batch.rows_B] for batch in own]))
    yield from own


def dealt(order_N: Tensor, batch_size: int, *, rank: int, world_size: int, drop_last: bool) -> Iterator[Batch]:
    """Cut an order of rows into this rank's batches, as ``batches`` does.

    Args:
        order_N: int64; rows may stand in it more than once.

    Raises:
        ValueError: batch_size is not a multiple of world_size.
    """
    if batch_size % world_size:
        raise ValueError(f"batch_size {batch_size} does not divide among {world_size} workers; choose a multiple")
    for first in range(0, len(order_N), batch_size):
        rows_T = order_N[first : first + batch_size]
        if drop_last and len(rows_T) < batch_size:
            return
        share = len(rows_T) // world_size
        if share < 2:
            return
        yield Batch(rows_T[rank * share : (rank + 1) * share], rank * share, share * world_size)
