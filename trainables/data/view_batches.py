"""Augments several small batches at once, a few steps before the training needs them.

An augmentation is dozens of small operations, and launching them costs the same for 32 images as for 1,000: of SCAN's
step on 32 px images with its batch of 128 it was a third. How many batches go together depends on the size of batch and
images alone, never on the device, so a trial draws the same numbers wherever it runs.

Axes: B images of this rank's part of a batch, C channels, H height, W width.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from ..interfaces import Batch, Images
from .batch_random import BatchRandom

TOGETHER_VALUES = 1024 * 3 * 32 * 32
"""Pixel values that are augmented at once, 12 MiB of them as float32; a batch with more goes alone."""


@dataclass(frozen=True)
class Views:
    """The images of one step and their views.

    Attributes:
        rows: for each kind of image in the step, this rank's int64 rows (B,).
        images: for each kind the images of these rows, uint8 (B, C, H, W).
        views: float32 (B, C, H, W), normalized; all views of the first kind, then those of the second.
    """

    rows: tuple[Tensor, ...]
    images: list[Tensor]
    views: list[Tensor]


def own_rows(batch: Batch) -> tuple[Tensor, ...]:
    """The rows of the batch as the only kind of image in a step."""
    return (batch.rows_B,)


def of_batches(  # noqa: PLR0913 - what decides views
    batches: Iterable[Batch],
    images_NCHW: Images,
    view: Callable[[Tensor, BatchRandom], Tensor],
    generator: torch.Generator,
    *,
    rows_of: Callable[[Batch], tuple[Tensor, ...]] = own_rows,
    times: int = 1,
    at_once: bool = False,
) -> Iterator[tuple[Batch, Views]]:
    """Yield each batch with its views.

    Args:
        batches: of this rank.
        images_NCHW: uint8 images of the split.
        view: an augmentation that needs nothing but images and draws.
        generator: the views are drawn from it.
        rows_of: returns the int64 rows (B,) of each kind of image in a step; called once for each batch, in order.
        times: views of each image.
        at_once: whether ``view`` may be called for all views in one, see ``augment.DRAWN_AT_ONCE``; GPUs do so.
    """
    values = images_NCHW.shape[1:].numel()
    waiting: list[tuple[Batch, tuple[Tensor, ...]]] = []
    for batch in batches:
        if waiting and not _fit(waiting, batch, values * times):
            yield from _made(waiting, images_NCHW, view, generator, times, at_once)
            waiting = []
        waiting.append((batch, rows_of(batch)))
    if waiting:
        yield from _made(waiting, images_NCHW, view, generator, times, at_once)


def _fit(waiting: Sequence[tuple[Batch, tuple[Tensor, ...]]], batch: Batch, values: int) -> bool:
    first, kinds = waiting[0]
    if (first.total, first.start, len(first.rows_B)) != (batch.total, batch.start, len(batch.rows_B)):
        return False
    # Counted over all ranks, so that they make the same blocks.
    return (len(waiting) + 1) * batch.total * len(kinds) * values <= TOGETHER_VALUES


def _made(  # noqa: PLR0913 - the arguments of of_batches
    waiting: Sequence[tuple[Batch, tuple[Tensor, ...]]],
    images_NCHW: Images,
    view: Callable[[Tensor, BatchRandom], Tensor],
    generator: torch.Generator,
    times: int,
    at_once: bool,
) -> Iterator[tuple[Batch, Views]]:
    first, kinds = waiting[0]
    count, num_parts = len(first.rows_B), len(waiting) * len(kinds)
    images_XCHW = images_NCHW[torch.cat([rows_B for _, rows in waiting for rows_B in rows])]
    drawn = partial(BatchRandom, generator, first.total, first.start, count, num_batches=num_parts)
    if at_once and images_XCHW.device.type != "cpu":
        all_views = view(images_XCHW.repeat(times, 1, 1, 1), drawn(num_views=times)).split(len(images_XCHW))
    else:
        draws = drawn()
        all_views = tuple(view(images_XCHW, draws) for _ in range(times))
    views = [each.split(count) for each in all_views]
    images = images_XCHW.split(count)
    for number, (batch, rows) in enumerate(waiting):
        own = range(number * len(kinds), (number + 1) * len(kinds))
        yield batch, Views(rows, [images[part] for part in own], [each[part] for part in own for each in views])
