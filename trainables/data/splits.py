"""Parts of a data set put together, cut down and resized, whether their images lie in memory or in files.

Axes: N images, C channels, H height, W width.
"""

import torch
from torch import Tensor
from torch.nn import functional

from ..interfaces import Split, adjoined
from .decode_workers import FileImages
from .loaded import DataError, fixed_order


def joined(first: Split, second: Split) -> Split:
    """The images of both, those of ``first`` first."""
    one, two = first.images_NCHW, second.images_NCHW
    if isinstance(one, FileImages) and isinstance(two, FileImages):
        images_NCHW: FileImages | Tensor = one.joined(two)
    else:
        images_NCHW = adjoined(one[:], two[:])
    return Split(images_NCHW, torch.cat([first.labels_N, second.labels_N]))


def picked(split: Split, rows_N: Tensor) -> Split:
    """The images of these rows."""
    images_NCHW = split.images_NCHW
    images_NCHW = images_NCHW.picked(rows_N) if isinstance(images_NCHW, FileImages) else images_NCHW[rows_N]
    return Split(images_NCHW, split.labels_N[rows_N])


def limited(split: Split, setting: str, limit: int) -> Split:
    """``limit`` of the images, drawn once without a look at the labels; 0 is all.

    Raises:
        DataError: there are not that many.
    """
    if limit > len(split):
        raise DataError(
            f"{setting} must be at most the {len(split)} images there are, but is {limit}. Set it to 0 for all of them."
        )
    if limit == 0:
        return split
    return picked(split, fixed_order(len(split), purpose=1)[:limit].sort().values)


def resized(split: Split, image_size_px: int) -> Split:
    """The images with sides of that many pixels; 0 leaves them as they are, and files are decoded so already."""
    if image_size_px in (0, split.images_NCHW.shape[-1]):
        return split
    size = (image_size_px, image_size_px)
    # antialias: where images shrink, every old pixel counts by the area it covers, instead of the nearest four alone.
    resized_NCHW = functional.interpolate(split.images_NCHW[:], size, mode="bilinear", antialias=True)
    return Split(resized_NCHW, split.labels_N)


def divided(labels_N: Tensor, train_share: float) -> tuple[Tensor, Tensor]:
    """Rows to train on and rows to judge: each label's own are divided, always in the same way, both sorted."""
    train, evaluation = [], []
    for label in labels_N.unique().tolist():
        rows_R = (labels_N == label).nonzero().squeeze(1)
        order_R = rows_R[fixed_order(len(rows_R), purpose=8020)]
        num_train = min(max(1, round(train_share * len(rows_R))), len(rows_R) - 1)
        train.append(order_R[:num_train])
        evaluation.append(order_R[num_train:])
    return torch.cat(train).sort().values, torch.cat(evaluation).sort().values
