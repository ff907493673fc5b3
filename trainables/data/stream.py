"""Batches of row numbers: every rank sees its own part of the same global batches.

Axes: B rows of this rank's batch.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """One rank's part of a global batch.

    rows_B: int64 indices into the data set, on the generator's device.
    start, total: these rows are start .. start + B of the ``total`` rows in the global batch.
    """

    rows_B: Tensor
    start: int
    total: int


def batches(
    num_rows: int, batch_size: int, generator: torch.Generator, *, rank: int, world_size: int, drop_last: bool
) -> Iterator[Batch]:
    """One pass over ``num_rows`` in an order drawn from ``generator``, in global batches of ``batch_size``.

    A batch is trimmed to a multiple of ``world_size``; one that would leave a rank with a single image is left out,
    because batch normalization has no variance there.

    Raises:
        ValueError: batch_size is not a multiple of world_size, or drop_last leaves no batch at all.
    """
    if batch_size % world_size:
        raise ValueError(f"batch_size {batch_size} does not divide among {world_size} workers; choose a multiple")
    if drop_last and num_rows < batch_size:
        raise ValueError(f"batch_size {batch_size} is above the {num_rows} images there are; choose a smaller one")
    order_N = torch.randperm(num_rows, generator=generator, device=generator.device)
    for first in range(0, num_rows, batch_size):
        rows = order_N[first : first + batch_size]
        if drop_last and len(rows) < batch_size:
            return
        share = len(rows) // world_size
        if share < 2:
            return
        yield Batch(rows[rank * share : (rank + 1) * share], rank * share, share * world_size)
