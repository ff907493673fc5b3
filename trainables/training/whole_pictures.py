"""Crops out of whole pictures at their full resolution, where a set keeps squares of them (``dataset.whole_pictures``).

The numbers are those that crops of the squares are drawn by, in the same order: a seed means the same with both. Each
part is decoded when it is asked for; the squares stay what everything else sees.

Source: torchvision RandomResizedCrop, and Resize with TenCrop, as the released code of DeepCluster has them.
Axes: B images, C channels, H height, W width.
"""

from typing import TypeGuard

import torch
from torch import Tensor

from ..data import augment, geometry
from ..data.batch_random import BatchRandom
from ..data.decoding.workers import FileImages
from ..interfaces import WINDOWS_PX, Images


def are_whole(images: Images) -> TypeGuard[FileImages]:
    """Whether the whole pictures of these images can be had, and are wanted."""
    return isinstance(images, FileImages) and images.decoders.is_whole


def standard(images: FileImages, rows_B: Tensor, draws: BatchRandom, norm: augment.Norm) -> Tensor:
    """``augment.standard`` of whole pictures.

    Args:
        images: of the split.
        rows_B: int64.
        draws: of the batch, B rows.
        norm: mean and standard deviation of the data set.
    """
    *numbers, flip_B1 = draws.uniforms(*augment.STANDARD_RANGES)
    crops_BCHW = images.parts(rows_B, torch.cat(numbers, dim=1), _view_px(images))
    return norm.apply(geometry.flip(crops_BCHW, flip_B1[:, 0] < 0.5).float().div_(255))


def window(
    images: FileImages, rows_B: Tensor, place: tuple[float, float], mirrored: bool, norm: augment.Norm
) -> Tensor:
    """A window out of each picture whose shorter side has been resized to that of the squares.

    Args:
        place: where in its room the window lies, down and across; 0, 0.5 and 1 are start, middle and end.
        mirrored: whether the picture is mirrored left to right before.
    """
    numbers = torch.tensor((float(images.decoders.size_px), float(mirrored), *place))
    return norm.apply(images.parts(rows_B, numbers.expand(len(rows_B), -1), _view_px(images)).float().div_(255))


def _view_px(images: FileImages) -> int:
    return WINDOWS_PX.get(images.decoders.size_px, images.decoders.size_px)
