"""Multi-crop: several views of an image, two large and any number of small ones, made on the device for whole batches.

Source: SwAV, section 3.2 and appendix B: random resized crop of a size and a range of areas, mirroring, color jitter
(p 0.8), grey (p 0.2), Gaussian blur (p 0.5, sigma 0.1 to 2). Differs from its code on Pillow images: nothing is rounded
to whole grey levels, and crops are not antialiased where they are made smaller, which they hardly ever are.

Axes: B images, C channels, H height, W width, X positions of a kernel.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from . import augment, color, geometry
from .batch_random import BatchRandom

BRIGHTNESS, HUE = 0.8, 0.2
"""Reach of the color changes at jitter 1; contrast and saturation as brightness."""
SIGMAS_PX = (0.1, 2.0)
_BLUR_RADIUS_PX = 6


@dataclass(frozen=True)
class Crop:
    """One kind of view. area: as shares of the image. jitter: factor on the color changes."""

    size_px: int
    area: tuple[float, float]
    jitter: float = 1.0
    blur: bool = True


def view(images_BCHW: Tensor, draws: BatchRandom, norm: augment.Norm, crop: Crop) -> Tensor:
    """Make one view of each image.

    Args:
        images_BCHW: uint8, C 1 or 3.
        draws: of the batch, B rows.
        norm: mean and standard deviation of the data set.
        crop: the kind of view.

    Returns:
        float32 (B, C, size_px, size_px), normalized.
    """
    height, width = images_BCHW.shape[-2:]
    crop_B4 = geometry.draw_crops(draws, (height, width), crop.area)
    flip_B = draws.bernoulli(0.5)
    reach, turn = BRIGHTNESS * crop.jitter, HUE * crop.jitter
    factors_B4 = torch.cat([draws.uniform(max(0.0, 1 - reach), 1 + reach, 3), draws.uniform(-turn, turn, 1)], dim=1)
    order_BS = color.order_of_changes(draws.permutation(len(color.CHANGES)), draws.bernoulli(0.8))
    grey_B, blurred_B, sigma_B = draws.bernoulli(0.2), draws.bernoulli(0.5), draws.uniform(*SIGMAS_PX)
    size_HW = (crop.size_px, crop.size_px)

    def changed(norm: augment.Norm, part_BCHW: Tensor, *numbers: Tensor) -> Tensor:
        crop_B4, flip_B, factors_B4, order_BS, grey_B, blurred_B, sigma_B = numbers
        view_BCHW = geometry.resized_crop(part_BCHW.float().div_(255), crop_B4, flip_B, size_HW)
        view_BCHW = color.greyed(color.jitter(view_BCHW, factors_B4, order_BS), grey_B)
        return norm.apply(blur(view_BCHW, sigma_B, blurred_B) if crop.blur else view_BCHW)

    numbers = (crop_B4, flip_B, factors_B4, order_BS, grey_B, blurred_B, sigma_B)
    return augment.in_pieces(changed, norm, images_BCHW, *numbers, size_HW=size_HW)


def blur(images_BCHW: Tensor, sigma_B: Tensor, blurred_B: Tensor) -> Tensor:
    """Blur some images with a Gaussian; borders are repeated.

    Args:
        images_BCHW: float32.
        sigma_B: float32, in pixels.
        blurred_B: bool, True where the image is blurred.

    Returns:
        The same shape. The kernel ends six pixels from its middle, three sigmas of the strongest blur.
    """
    offset_X = torch.arange(-_BLUR_RADIUS_PX, _BLUR_RADIUS_PX + 1, device=sigma_B.device)
    kernel_BX = (-(offset_X**2) / (2 * sigma_B[:, None] ** 2)).softmax(1)
    kernel_BX = torch.where(blurred_B[:, None], kernel_BX, (offset_X == 0).to(kernel_BX))
    count, channels, height, width = images_BCHW.shape
    kernel_YX = kernel_BX.repeat_interleave(channels, 0)
    flat_1YHW = images_BCHW.reshape(1, count * channels, height, width)
    for shape, pad in (
        ((-1, 1, 1, len(offset_X)), (_BLUR_RADIUS_PX, _BLUR_RADIUS_PX, 0, 0)),
        ((-1, 1, len(offset_X), 1), (0, 0, _BLUR_RADIUS_PX, _BLUR_RADIUS_PX)),
    ):
        framed = functional.pad(flat_1YHW, pad, mode="replicate")
        flat_1YHW = functional.conv2d(framed, kernel_YX.reshape(shape), groups=count * channels)
    return flat_1YHW.reshape(count, channels, height, width)
