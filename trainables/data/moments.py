"""Mean and standard deviation of the training pixels, for sets that have no published ones.

Axes: N images, C channels, H height, W width, L 256 gray levels.
"""

import torch
from torch import Tensor

from ..interfaces import Split
from .loaded import DataError, fixed_order

NUM_SAMPLED = 2048


def sampled(train: Split) -> Tensor:
    """The pixels of some training images, always the same ones."""
    return train.images_NCHW[fixed_order(len(train), purpose=2)[:NUM_SAMPLED].sort().values]


def of_pixels(name: str, images_NCHW: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel, exact: from a count of the levels, in float64.

    Args:
        name: of the data set, for the error's text.
        images_NCHW: uint8; pixels count as scaled to [0, 1].

    Raises:
        DataError: all pixels of a channel are the same.
    """
    levels_L = torch.arange(256, dtype=torch.float64) / 255
    means, stds = [], []
    for images_NHW in images_NCHW.cpu().unbind(1):
        share_L = torch.bincount(images_NHW.flatten(), minlength=256).double() / images_NHW.numel()
        mean = (share_L * levels_L).sum()
        means.append(mean.item())
        stds.append((share_L * (levels_L - mean) ** 2).sum().sqrt().item())
        if share_L.max() == 1:
            raise DataError(
                f"Every training pixel of channel {len(means) - 1} of {name!r} has the same value, so there is nothing"
                " to learn from. Look at the images, or set root to others."
            )
    return tuple(means), tuple(stds)
