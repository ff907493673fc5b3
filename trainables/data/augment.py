"""Augmentation of whole batches: uint8 images in, normalized float32 images out, other random numbers for each image.

An augmentation takes its numbers from ``Draws``, so it is fixed by the generator, and two ranks that share a batch see
what one would have seen. It works on the device where images and draws are, for one or three channels and any size
from 8 pixels. Color changes that need three channels leave grey images as they are.
Axes: B images, C channels, H height, W width, S operations drawn for each image.

Source: the transforms of SCAN's published configurations; weak views of SPC as in LaplaceNet; those of SimGCD;
``affine`` is ours.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from .. import settings
from . import color, geometry, keras_like, randaugment
from .batch_random import BatchRandom
from .constants import constant

MIN_SIZE_PX = 8
_UNIT = (0, 1, 1)
STANDARD_RANGES = (*geometry.crop_ranges((0.08, 1.0)), _UNIT)
"""What ``standard`` draws: its crop, and whether it is mirrored."""
PIECE_VALUES = 128 * 3 * 32 * 32
LARGE_PX = 128
"""From this side on, crops are made on a CPU image by image in whole grey levels (256 px: five times as quick)."""


@dataclass(frozen=True)
class Norm:
    """Mean and standard deviation of each channel, of pixels scaled to [0, 1]."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.mean) != len(self.std) or not self.mean or min(self.std) <= 0:
            raise ValueError(
                f"Norm needs a mean and a std above 0 for each channel, but has mean {self.mean} and std {self.std}."
            )

    def apply(self, images_BCHW: Tensor) -> Tensor:
        """Normalize pixels in place.

        Args:
            images_BCHW: float32 in [0, 1].

        Returns:
            The same tensor, (pixel - mean) / std.
        """
        column = (1, len(self.mean), 1, 1)
        mean_1C11, std_1C11 = (constant(values, images_BCHW.device).view(column) for values in (self.mean, self.std))
        return images_BCHW.sub_(mean_1C11).div_(std_1C11)


@dataclass(frozen=True)
class Strength:
    """How far an augmentation goes. The defaults are the published values."""

    crop_min_area: float = settings.setting(
        0.2, "smallest crop of simclr as a share of the image's area", above=0, high=1
    )
    jitter: float = settings.setting(
        1.0,
        "factor on the color changes of simclr: 1 is brightness, contrast, saturation 0.4, hue 0.1",
        low=0,
        high=2.5,
    )
    num_strong_ops: int = settings.setting(4, "operations drawn for each image by scan_strong", low=0, high=14)
    cutout_max_length: int = settings.setting(
        0, "longest side of scan_strong's cutout; 0 is the published value for the image size, 1 no cutout",
        low=0, unit="px",
    )  # fmt: skip
    affine: float = settings.setting(1.0, "factor on every change of affine", low=0, high=2)

    def __post_init__(self) -> None:
        settings.check(self)


DEFAULT_STRENGTH = Strength()


class Augmentation(Protocol):
    """One entry of AUGMENTATIONS.

    Takes uint8 images of shape (B, C, H, W), C 1 or 3, H and W at least 8, the draws of this batch and the data set's
    Norm; gives new float32 images of the same shape, normalized. The input is not changed. Views of images of 256 px
    have 224 px (``interfaces.WINDOWS_PX``): crops are cut out of the whole image, and other changes see a window of it.

    Raises:
        ValueError: the images are not of that kind, or there are not as many as the draws have rows.
    """

    def __call__(
        self, images_BCHW: Tensor, draws: BatchRandom, norm: Norm, strength: Strength = DEFAULT_STRENGTH
    ) -> Tensor: ...


def plain(images_BCHW: Tensor, draws: BatchRandom, norm: Norm, strength: Strength = DEFAULT_STRENGTH) -> Tensor:
    """``judged`` in the form of an augmentation; it draws nothing."""
    _check(images_BCHW, draws, norm)
    return judged(images_BCHW, norm)


def judged(images_BCHW: Tensor, norm: Norm) -> Tensor:
    """Prepare images for evaluation: normalize them, and take the window in the middle of large ones.

    Args:
        images_BCHW: uint8.
        norm: mean and standard deviation of the data set.

    Returns:
        float32 of the size of a view.
    """
    return norm.apply(_scaled(geometry.middle(images_BCHW)))


def standard(images_BCHW: Tensor, draws: BatchRandom, norm: Norm, strength: Strength = DEFAULT_STRENGTH) -> Tensor:
    """Random resized crop (area 0.08 to 1, ratio 3/4 to 4/3) and mirroring half the time."""
    _check(images_BCHW, draws, norm)
    *cropped, flip_B1 = draws.uniforms(*STANDARD_RANGES)
    crop_B4, flip_B = geometry.crops(cropped, _size(images_BCHW)), flip_B1[:, 0] < 0.5
    if _in_levels(images_BCHW):
        return _standard_in_levels(norm, images_BCHW, crop_B4, flip_B)
    return in_pieces(_standard, norm, images_BCHW, crop_B4, flip_B)


def _standard_in_levels(norm: Norm, images_BCHW: Tensor, crop_B4: Tensor, flip_B: Tensor) -> Tensor:
    """Large images on a CPU: each goes from grey levels to normalized pixels while its crop is still in the cache."""
    mean_C11, std_C11 = (torch.tensor(values)[:, None, None] for values in (norm.mean, norm.std))
    scale_C11, offset_C11 = 1 / (255 * std_C11), -mean_C11 / std_C11
    views_BCHW = torch.empty((*images_BCHW.shape[:2], *geometry.view_size(images_BCHW)))
    crops = geometry.resized_crops_in_levels(images_BCHW, crop_B4, flip_B)
    for view_CHW, crop_CHW in zip(views_BCHW, crops, strict=True):
        torch.mul(crop_CHW, scale_C11, out=view_CHW).add_(offset_C11)
    return views_BCHW


def _standard(norm: Norm, images_BCHW: Tensor, crop_B4: Tensor, flip_B: Tensor) -> Tensor:
    return norm.apply(_cropped(images_BCHW, crop_B4, flip_B))


def simclr(images_BCHW: Tensor, draws: BatchRandom, norm: Norm, strength: Strength = DEFAULT_STRENGTH) -> Tensor:
    """Random resized crop, mirroring, color jitter (p 0.8, each image in its own order), grey (p 0.2); no blur.

    Differs from torchvision on Pillow images: nothing is rounded to whole grey levels on the way, but for the crops of
    large images on a CPU.
    """
    _check(images_BCHW, draws, norm)
    reach, turn = 0.4 * strength.jitter, 0.1 * strength.jitter
    *cropped, flip_B1, factors_B3, turn_B1, order_B4, chosen_B1, grey_B1 = draws.uniforms(
        *geometry.crop_ranges((strength.crop_min_area, 1.0)),
        _UNIT,
        (1 - reach, 1 + reach, 3),
        (-turn, turn, 1),
        (0, 1, len(color.CHANGES)),
        _UNIT,
        _UNIT,
    )
    crop_B4, flip_B = geometry.crops(cropped, _size(images_BCHW)), flip_B1[:, 0] < 0.5
    factors_B4, grey_B = torch.cat([factors_B3, turn_B1], dim=1), grey_B1[:, 0] < 0.2
    order_BS = color.order_of_changes(order_B4.argsort(dim=1, stable=True), chosen_B1[:, 0] < 0.8)
    return in_pieces(_simclr, norm, images_BCHW, crop_B4, flip_B, factors_B4, order_BS, grey_B)


def _simclr(norm: Norm, images_BCHW: Tensor, *numbers: Tensor) -> Tensor:
    crop_B4, flip_B, factors_B4, order_BS, grey_B = numbers
    images_BCHW = _cropped(images_BCHW, crop_B4, flip_B)
    return norm.apply(color.greyed(color.jitter(images_BCHW, factors_B4, order_BS), grey_B))


def scan_strong(images_BCHW: Tensor, draws: BatchRandom, norm: Norm, strength: Strength = DEFAULT_STRENGTH) -> Tensor:
    """Mirroring, ``num_strong_ops`` of fourteen operations drawn with replacement, and cutout after normalizing.

    The operations are applied one by one with Pillow's arithmetic (``randaugment``); warps are not joined into one,
    since each rounds to whole pixels. The random crop of the published sequence is the window of large images.
    """
    _check(images_BCHW, draws, norm)
    images_BCHW = geometry.windows(images_BCHW, draws)
    height, width = _size(images_BCHW)
    flip_B = draws.bernoulli(0.5)
    choice_BS = draws.integers(0, len(randaugment.RANGES), strength.num_strong_ops)
    unit_BS = draws.uniform(0, 1, strength.num_strong_ops)
    longest = strength.cutout_max_length or published_cutout(min(height, width))
    length_B = draws.integers(1, longest + 1)
    center_B2 = torch.cat([draws.integers(0, height, 1), draws.integers(0, width, 1)], dim=1)
    images_BCHW = randaugment.apply_drawn(geometry.flip(images_BCHW, flip_B), choice_BS, unit_BS)
    return in_pieces(_cut_out, norm, images_BCHW, length_B, center_B2)


def _cut_out(norm: Norm, images_BCHW: Tensor, length_B: Tensor, center_B2: Tensor) -> Tensor:
    keep_B1HW = geometry.cutout_keep(center_B2, length_B, _size(images_BCHW))
    return norm.apply(_scaled(images_BCHW)).mul_(keep_B1HW)


def published_cutout(size_px: int) -> int:
    """The longest side of the cutout in pixels: 16 at 32 px, 21 at 64, 32 at 96, 75 at 224; between these, ours.

    Args:
        size_px: side of the image.
    """
    return size_px // 2 if size_px <= 32 else round(size_px / 3)


def spc_weak(images_BCHW: Tensor, draws: BatchRandom, norm: Norm, strength: Strength = DEFAULT_STRENGTH) -> Tensor:
    """Mirroring and a random crop after padding by an eighth of the size with reflected pixels."""
    _check(images_BCHW, draws, norm)
    images_BCHW = geometry.windows(images_BCHW, draws)
    flip_B = draws.bernoulli(0.5)
    pads = [size // 8 for size in _size(images_BCHW)]
    shift_B2 = torch.cat([draws.integers(-pad, pad + 1, 1) for pad in pads], dim=1)
    return norm.apply(_scaled(geometry.shifted(images_BCHW, shift_B2, flip_B)))


def simgcd(images_BCHW: Tensor, draws: BatchRandom, norm: Norm, strength: Strength = DEFAULT_STRENGTH) -> Tensor:
    """A square window of 7/8 of the side at a random place, resized to the whole, and mirroring half the time.

    Source: the public code of SimGCD, whose images are resized to 256 px and cut to 224 px. Differs: images of another
    size are not made that large, and are judged whole.
    """
    _check(images_BCHW, draws, norm)
    sides = [round(0.875 * size) for size in _size(images_BCHW)]
    places = [draws.integers(0, size - side + 1, 1) for size, side in zip(_size(images_BCHW), sides, strict=True)]
    crop_B4 = torch.cat([*places, *(torch.full_like(places[0], side) for side in sides)], dim=1)
    flip_B = draws.bernoulli(0.5)
    return in_pieces(_standard, norm, images_BCHW, crop_B4, flip_B)


def affine(images_BCHW: Tensor, draws: BatchRandom, norm: Norm, strength: Strength = DEFAULT_STRENGTH) -> Tensor:
    """For tiny grey images, whose class a crop or a mirror image would destroy; ours.

    One bilinear resampling, zero outside: turned by up to 15 degrees, each axis scaled by 0.8 to 1.2, sheared by up to
    0.1, shifted by up to an eighth of the side. Then contrast by 0.7 to 1.3, brightness by up to 0.1, and Gaussian
    noise of standard deviation 0.05, all on pixels in [0, 1] and clamped to it. ``strength.affine`` scales each change.
    """
    _check(images_BCHW, draws, norm)
    images_BCHW = geometry.middle(images_BCHW)
    matrix_B23 = _affine_matrices(_size(images_BCHW), draws, strength.affine)
    factor_B111 = 1 + strength.affine * draws.uniform(-0.3, 0.3, 1, 1, 1)
    offset_B111 = strength.affine * draws.uniform(-0.1, 0.1, 1, 1, 1)
    noise_BCHW = draws.normal(*images_BCHW.shape[1:]).mul_(0.05 * strength.affine)
    return in_pieces(_affine, norm, images_BCHW, matrix_B23, factor_B111, offset_B111, noise_BCHW)


def _affine(norm: Norm, images_BCHW: Tensor, *numbers: Tensor) -> Tensor:
    matrix_B23, factor_B111, offset_B111, noise_BCHW = numbers
    images_BCHW = geometry.warp_smooth(_scaled(images_BCHW), matrix_B23)
    return norm.apply(images_BCHW.mul_(factor_B111).add_(offset_B111).add_(noise_BCHW).clamp_(0, 1))


def _affine_matrices(size_HW: tuple[int, int], draws: BatchRandom, reach: float) -> Tensor:
    """float32 (B, 2, 3), from output to source, in pixels from the middle."""
    height, width = size_HW
    angle_B = torch.deg2rad(reach * draws.uniform(-15, 15))
    scale_B2 = 1 + reach * draws.uniform(-0.2, 0.2, 2)
    shear_B = reach * draws.uniform(-0.1, 0.1)
    shift_B2 = reach / 8 * torch.cat([draws.uniform(-width, width, 1), draws.uniform(-height, height, 1)], dim=1)
    cos_B, sin_B = angle_B.cos(), angle_B.sin()
    row_x_B2 = torch.stack([cos_B, sin_B + shear_B * cos_B], dim=1) / scale_B2
    row_y_B2 = torch.stack([-sin_B, cos_B - shear_B * sin_B], dim=1) / scale_B2
    return torch.cat([torch.stack([row_x_B2, row_y_B2], dim=1), shift_B2[:, :, None]], dim=2)


def keras(images_BCHW: Tensor, draws: BatchRandom, norm: Norm, strength: Strength = DEFAULT_STRENGTH) -> Tensor:
    """The views of DAC and DCCM; see ``keras_like``."""
    _check(images_BCHW, draws, norm)
    images_BCHW = geometry.middle(images_BCHW)
    matrix_B23, added_BC11 = keras_like.draw(draws, _size(images_BCHW), images_BCHW.shape[1])
    return in_pieces(_keras, norm, images_BCHW, matrix_B23, added_BC11)


def _keras(norm: Norm, images_BCHW: Tensor, *numbers: Tensor) -> Tensor:
    return norm.apply(keras_like.view(_scaled(images_BCHW), *numbers))


DRAWN_AT_ONCE = frozenset({"eval", "standard", "simclr"})
"""Those of AUGMENTATIONS that draw by ``BatchRandom.uniforms`` alone, and so make several views in one call."""

AUGMENTATIONS: Mapping[str, Augmentation] = {
    "eval": plain,
    "standard": standard,
    "simclr": simclr,
    "scan_strong": scan_strong,
    "spc_weak": spc_weak,
    "spc_strong": scan_strong,
    "simgcd": simgcd,
    "affine": affine,
    "keras_like": keras,
}


def in_pieces(
    change: Callable[..., Tensor],
    norm: Norm,
    images_BCHW: Tensor,
    *numbers_B: Tensor,
    size_HW: tuple[int, int] | None = None,
) -> Tensor:
    """Call ``change(norm, images, *numbers)``; on a CPU for one piece of the batch after another.

    What a piece leaves in between then stays in the cache and in memory that the process already has; for a whole
    batch, getting fresh pages from the system took longer than the arithmetic.

    Args:
        change: treats every image by itself.
        norm: mean and standard deviation of the data set.
        images_BCHW: uint8.
        numbers_B: further arguments, a row for each image.
        size_HW: height and width of the results; None for the size of a view.

    Returns:
        float32 (B, C, H, W).
    """
    if images_BCHW.device.type != "cpu":
        return change(norm, images_BCHW, *numbers_B)
    changed_BCHW = torch.empty((*images_BCHW.shape[:2], *(size_HW or geometry.view_size(images_BCHW))))
    num = max(1, PIECE_VALUES // images_BCHW[0].numel())
    for part in zip(*(torch.split(rows, num) for rows in (changed_BCHW, images_BCHW, *numbers_B)), strict=True):
        part[0].copy_(change(norm, *part[1:]))
    return changed_BCHW


def _cropped(images_BCHW: Tensor, crop_B4: Tensor, flip_B: Tensor) -> Tensor:
    """Crops as float32 in [0, 1]."""
    if _in_levels(images_BCHW):
        return _scaled(torch.stack(list(geometry.resized_crops_in_levels(images_BCHW, crop_B4, flip_B))).contiguous())
    return geometry.resized_crop(_scaled(images_BCHW), crop_B4, flip_B)


def _in_levels(images_BCHW: Tensor) -> bool:
    return images_BCHW.device.type == "cpu" and images_BCHW.shape[-1] >= LARGE_PX


def _size(images_BCHW: Tensor) -> tuple[int, int]:
    height, width = images_BCHW.shape[-2:]
    return height, width


def _scaled(images_BCHW: Tensor) -> Tensor:
    return images_BCHW.float().div_(255)


def _check(images_BCHW: Tensor, draws: BatchRandom, norm: Norm) -> None:
    shape = tuple(images_BCHW.shape)
    if images_BCHW.dtype != torch.uint8 or len(shape) != 4 or shape[1] not in (1, 3) or min(shape[2:]) < MIN_SIZE_PX:
        raise ValueError(
            f"Images to augment must be uint8 of shape (B, 1 or 3, H, W) with sides of at least {MIN_SIZE_PX} px, but"
            f" are {images_BCHW.dtype} of shape {shape}. Pass the pixels as they come from the data set."
        )
    if shape[0] != draws.count:
        raise ValueError(
            f"The draws are for {draws.count} images, but {shape[0]} came. Make new Draws for each batch, with"
            " start and count of this rank's part."
        )
    if len(norm.mean) != shape[1]:
        raise ValueError(f"Norm has {len(norm.mean)} channels, but the images have {shape[1]}.")
