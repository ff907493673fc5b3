"""Parts of a data set put together, cut down and resized, whether their images lie in memory or in files.

Axes: N images, C channels, H height, W width.
"""

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional

from ..interfaces import Split, adjoined
from .decoding.workers import FileImages
from .loaded import DataError, fixed_order


def joined(first: Split, second: Split) -> Split:
    """Put the images and labels of ``first`` before those of ``second``."""
    one, two = first.images_NCHW, second.images_NCHW
    if isinstance(one, FileImages) and isinstance(two, FileImages):
        images_NCHW: FileImages | Tensor = one.joined(two)
    else:
        images_NCHW = adjoined(one[:], two[:])
    return Split(images_NCHW, torch.cat([first.labels_N, second.labels_N]), first.names + second.names)


def named(split: Split, part: str) -> Split:
    """Give each image that has no name its part and row: "train/17"."""
    if split.names:
        return split
    return replace(split, names=tuple(f"{part}/{row}" for row in range(len(split))))


def picked(split: Split, rows_N: Tensor) -> Split:
    """Take some images of a split.

    Args:
        rows_N: int64, in the order in which they are wanted.
    """
    images_NCHW = split.images_NCHW
    images_NCHW = images_NCHW.picked(rows_N) if isinstance(images_NCHW, FileImages) else images_NCHW[rows_N]
    names = tuple(split.names[row] for row in rows_N.tolist()) if split.names else ()
    return Split(images_NCHW, split.labels_N[rows_N], names)


def limited(split: Split, setting: str, limit: int) -> Split:
    """Take some images of a split, drawn once and without a look at the labels.

    Args:
        setting: the name that the error shows.
        limit: number of images; 0 for all.

    Raises:
        DataError: the split has fewer images.
    """
    if limit > len(split):
        raise DataError(
            f"{setting} must be at most the {len(split)} images there are, but is {limit}. Set it to 0 for all of them."
        )
    if limit == 0:
        return split
    return picked(split, fixed_order(len(split), purpose=1)[:limit].sort().values)


def resized(split: Split, image_size_px: int, kernel: str = "bilinear") -> Split:
    """Resize the images of a split.

    Args:
        image_size_px: side of the result; 0 leaves the images as they are. Images in files have the size already.
        kernel: bilinear or bicubic.
    """
    if image_size_px == 0 or split.images_NCHW.shape[-2:] == (image_size_px, image_size_px):
        return split
    size = (image_size_px, image_size_px)
    # antialias: where images shrink, every old pixel counts by the area it covers, instead of the nearest four alone.
    resized_NCHW = functional.interpolate(split.images_NCHW[:], size, mode=kernel, antialias=True)
    return replace(split, images_NCHW=resized_NCHW)


def fitted(split: Split, image_size_px: int, fit: str, kernel: str = "bilinear") -> Split:
    """Make squares of images in memory, and resize them.

    Args:
        image_size_px: side of the result; 0 leaves squares as they are.
        fit: "crop" keeps the middle, "stretch" resizes both sides, "pad" adds black bars.
        kernel: as in ``resized``.
    """
    height, width = split.images_NCHW.shape[2:]
    side, longer = min(height, width), max(height, width)
    if height != width and fit == "crop":
        top, left = (height - side) // 2, (width - side) // 2
        images_NCHW = split.images_NCHW[:][:, :, top : top + side, left : left + side]
        split = replace(split, images_NCHW=images_NCHW.contiguous())
    elif height != width and fit == "pad":
        down, right = (longer - height) // 2, (longer - width) // 2
        bars = (right, longer - width - right, down, longer - height - down)
        split = replace(split, images_NCHW=functional.pad(split.images_NCHW[:], bars))
    return resized(split, image_size_px, kernel)


def divided(labels_N: Tensor, train_share: float) -> tuple[Tensor, Tensor]:
    """Divide rows into a training and an evaluation part, label by label and always in the same way.

    Args:
        labels_N: int64.
        train_share: share of each label's rows that is for training, in [0, 1].

    Returns:
        The int64 rows of the two parts, both sorted.
    """
    train, evaluation = [], []
    for label in labels_N.unique().tolist():
        rows_R = (labels_N == label).nonzero().squeeze(1)
        order_R = rows_R[fixed_order(len(rows_R), purpose=8020)]
        num_train = min(max(1, round(train_share * len(rows_R))), len(rows_R) - 1)
        train.append(order_R[:num_train])
        evaluation.append(order_R[num_train:])
    return torch.cat(train).sort().values, torch.cat(evaluation).sort().values
