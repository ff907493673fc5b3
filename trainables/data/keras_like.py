"""The views of DAC and DCCM: turned, shifted, zoomed and mirrored in one resampling, then brightened by channel.

Source: DAC's and DCCM's settings of Keras' ImageDataGenerator. Differs: resampled bilinearly.

Axes: B images, C channels, H height, W width.
"""

import torch
from torch import Tensor

from . import geometry
from .batch_random import BatchRandom

LARGEST_TURN_DEGREES = 20.0
LARGEST_SHIFT = 0.18
ZOOM = (0.85, 1.15)
LARGEST_CHANNEL_SHIFT = 0.1
RESCALE = 0.95


def draw(draws: BatchRandom, size_HW: tuple[int, int], num_channels: int) -> tuple[Tensor, Tensor]:
    """Draw the geometry and color shift of one view of each image.

    From output to source, a pixel is mirrored half the time, zoomed along each axis, shifted, then turned.

    Args:
        draws: of the batch, B rows.
        size_HW: height and width in pixels.
        num_channels: C.

    Returns:
        float32 (B, 2, 3) matrices from output to source, in pixels from the middle, and float32 (B, C, 1, 1) to add.
    """
    height, width = size_HW
    angle_B = torch.deg2rad(draws.uniform(-LARGEST_TURN_DEGREES, LARGEST_TURN_DEGREES))
    shift_x_B = width * draws.uniform(-LARGEST_SHIFT, LARGEST_SHIFT)
    shift_y_B = height * draws.uniform(-LARGEST_SHIFT, LARGEST_SHIFT)
    zoom_x_B, zoom_y_B = draws.uniform(*ZOOM, 2).unbind(1)
    zoom_x_B = torch.where(draws.bernoulli(0.5), -zoom_x_B, zoom_x_B)
    cos_B, sin_B = angle_B.cos(), angle_B.sin()
    row_x_B3 = torch.stack([cos_B * zoom_x_B, -sin_B * zoom_y_B, cos_B * shift_x_B - sin_B * shift_y_B], dim=1)
    row_y_B3 = torch.stack([sin_B * zoom_x_B, cos_B * zoom_y_B, sin_B * shift_x_B + cos_B * shift_y_B], dim=1)
    added_BC11 = draws.uniform(-LARGEST_CHANNEL_SHIFT, LARGEST_CHANNEL_SHIFT, num_channels, 1, 1)
    return torch.stack([row_x_B3, row_y_B3], dim=1), added_BC11


def view(images_BCHW: Tensor, matrix_B23: Tensor, added_BC11: Tensor) -> Tensor:
    """Make one view of each image.

    Args:
        images_BCHW: float32 in [0, 1].
        matrix_B23: as ``draw`` returns it.
        added_BC11: as ``draw`` returns it.

    Returns:
        float32 in [0, 1] of the same shape; the nearest pixel fills what lies outside of the image. A channel's shift
        is clamped to the range that the image had before it, as Keras does.
    """
    warped_BCHW = geometry.warp_smooth(images_BCHW, matrix_B23, padding="border")
    low_B111, high_B111 = torch.aminmax(warped_BCHW.flatten(1), dim=1)
    low_B111, high_B111 = low_B111[:, None, None, None], high_B111[:, None, None, None]
    return (warped_BCHW + added_BC11).clamp(low_B111, high_B111).mul_(RESCALE)
