"""Crops, flips and warps of a batch, other numbers for each image, and no loop over images.

Coordinates are in pixels, x to the right and y downwards; pixel i covers [i, i + 1) with its center at i + 1/2.
Axes: B images, C channels, H height, W width, T attempts, 6 the matrix (a, b, c, d, e, f) of
x_source = a x + b y + c and y_source = d x + e y + f.
"""

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from ..interfaces import WINDOWS_PX
from .batch_random import BatchRandom
from .constants import constant

CROP_ATTEMPTS = 10
CROP_RATIOS = (3 / 4, 4 / 3)


def view_size(images_BCHW: Tensor) -> tuple[int, int]:
    """Height and width of the views of these images: their own, or a window's if images are kept larger."""
    height, width = (WINDOWS_PX.get(size, size) for size in images_BCHW.shape[-2:])
    return height, width


def windows(images_BCHW: Tensor, draws: BatchRandom) -> Tensor:
    """Cut a window at a random place out of each image; images that are seen whole come back without a draw.

    Args:
        images_BCHW: of any dtype.
        draws: of the batch, B rows.
    """
    height, width = view_size(images_BCHW)
    if (height, width) == tuple(images_BCHW.shape[-2:]):
        return images_BCHW
    top_B1 = draws.integers(0, images_BCHW.shape[-2] - height + 1, 1)
    left_B1 = draws.integers(0, images_BCHW.shape[-1] - width + 1, 1)
    y_BH = top_B1 + torch.arange(height, device=top_B1.device)
    x_BW = left_B1 + torch.arange(width, device=left_B1.device)
    return _pick(images_BCHW, y_BH[:, :, None] * images_BCHW.shape[-1] + x_BW[:, None, :])


def middle(images_BCHW: Tensor) -> Tensor:
    """Cut the window in the middle out of each image; the result is contiguous."""
    height, width = view_size(images_BCHW)
    top, left = (images_BCHW.shape[-2] - height) // 2, (images_BCHW.shape[-1] - width) // 2
    return images_BCHW[..., top : top + height, left : left + width].contiguous()


def draw_crops(draws: BatchRandom, size_HW: tuple[int, int], area: tuple[float, float]) -> Tensor:
    """Draw a crop for each image.

    The area is uniform in its range, and the log of width / height uniform between log 3/4 and log 4/3. The first of
    ten attempts that fits is taken; if none fits, the largest crop in the middle.

    Args:
        draws: of the batch, B rows.
        size_HW: height and width of the images in pixels.
        area: smallest and largest area, as a share of the image.

    Returns:
        int64 (B, 4): top, left, height, width in whole pixels.

    Source: torchvision RandomResizedCrop, with all ten attempts drawn at once.
    """
    return crops(draws.uniforms(*crop_ranges(area)), size_HW)


def crop_ranges(area: tuple[float, float]) -> tuple[tuple[float, float, int], ...]:
    """What ``crops`` wants drawn: areas, logs of ratios, and where in its room a crop lies, down and across."""
    ratios = (math.log(CROP_RATIOS[0]), math.log(CROP_RATIOS[1]))
    return (*area, CROP_ATTEMPTS), (*ratios, CROP_ATTEMPTS), (0, 1, 1), (0, 1, 1)


def crops(numbers: Sequence[Tensor], size_HW: tuple[int, int]) -> Tensor:
    """Crops (B, 4) as ``draw_crops`` returns them, from the numbers of ``crop_ranges``, each (B, numbers)."""
    area_BT, log_ratio_BT, down_B1, across_B1 = numbers
    height, width = size_HW
    device = area_BT.device
    size_2 = constant((height, width), device)
    area_BT, ratio_BT = area_BT * (height * width), log_ratio_BT.exp()
    # Heights and widths side by side: what follows is the same for both.
    lengths_BT2 = torch.stack([area_BT / ratio_BT, area_BT * ratio_BT], dim=2).sqrt_().round_()
    fits_BT = ((lengths_BT2 > 0) & (lengths_BT2 <= size_2)).all(dim=2).int()
    first_B1 = fits_BT.argmax(dim=1, keepdim=True)
    fits_B1 = fits_BT.gather(1, first_B1) > 0
    drawn_B2 = lengths_BT2.gather(1, first_B1[:, :, None].expand(-1, -1, 2)).squeeze(1)
    whole = (min(a, round(b * CROP_RATIOS[1])) for a, b in ((height, width), (width, height)))
    length_B2 = torch.where(fits_B1, drawn_B2, constant(tuple(whole), device))
    room_B2 = size_2 - length_B2
    # The product of a float32 just below 1 and the room's number of places can round up to it.
    start_B2 = torch.minimum((torch.cat([down_B1, across_B1], dim=1) * (room_B2 + 1)).floor_(), room_B2)
    start_B2 = torch.where(fits_B1, start_B2, (room_B2 / 2).floor_())
    return torch.cat([start_B2, length_B2], dim=1).long()


def resized_crop(
    images_BCHW: Tensor, crop_B4: Tensor, flip_B: Tensor, size_HW: tuple[int, int] | None = None
) -> Tensor:
    """Cut each image's crop, resize it and mirror some of them.

    Bilinear, and never reading outside the crop. Enlarging is what Pillow does, without its rounding to whole grey
    levels. To the size of a view nothing is reduced but by a window (256 px to 224 px at most), so antialiasing has
    no part.

    Args:
        images_BCHW: float32.
        crop_B4: int64, as ``draw_crops`` returns it.
        flip_B: bool, True where the image is mirrored.
        size_HW: height and width of the result; None for the size of a view.

    Returns:
        float32 (B, C, H, W).
    """
    height, width = size_HW or view_size(images_BCHW)
    if height == width and images_BCHW.shape[2] == images_BCHW.shape[3]:
        # Both axes at once.
        y_BX, x_BX = _grid_positions(crop_B4.unflatten(1, (2, 2)), width, images_BCHW.shape[3], flip_B).unbind(1)
    else:
        (y_BX,), (x_BX,) = (
            _grid_positions(crop_B4[:, [axis, 2 + axis]].unflatten(1, (2, 1)), size, whole, mirrored_B).unbind(1)
            for axis, size, whole, mirrored_B in (
                (0, height, images_BCHW.shape[2], None),
                (1, width, images_BCHW.shape[3], flip_B),
            )
        )
    grid_BHW2 = torch.stack([x_BX[:, None, :].expand(-1, height, -1), y_BX[:, :, None].expand(-1, -1, width)], dim=-1)
    return functional.grid_sample(images_BCHW, grid_BHW2, mode="bilinear", padding_mode="border", align_corners=False)


def resized_crops_in_levels(images_BCHW: Tensor, crop_B4: Tensor, flip_B: Tensor) -> Iterator[Tensor]:
    """``resized_crop`` of uint8 images, one after another as uint8 (C, H, W): for large images on a CPU, where it is
    quicker.

    Rounded to whole grey levels, and antialiased where a crop is reduced, as Pillow does both.
    """
    size_HW = view_size(images_BCHW)
    for image_CHW, (top, left, height, width), mirrored in zip(
        images_BCHW, crop_B4.tolist(), flip_B.tolist(), strict=True
    ):
        part_1CHW = image_CHW[None, :, top : top + height, left : left + width]
        view_CHW = functional.interpolate(part_1CHW, size_HW, mode="bilinear", antialias=True)[0]
        yield view_CHW.flip(-1) if mirrored else view_CHW


def _grid_positions(crop_B2A: Tensor, size: int, whole: int, mirrored_B: Tensor | None) -> Tensor:
    """Where ``size`` pixels along an axis come from, as grid_sample counts.

    Args:
        crop_B2A: starts and lengths along each of A axes, in pixels.
        size: of the view along each axis.
        whole: of the image along each axis.
        mirrored_B: bool, where the last axis is mirrored; None for nowhere.

    Returns:
        float32 (B, A, size).
    """
    start_BA1, length_BA1 = crop_B2A.unsqueeze(3).unbind(1)
    straight = tuple(place + 0.5 for place in range(size))
    centers = (straight,) * start_BA1.shape[1]
    centers_BAX = constant(centers, start_BA1.device)
    if mirrored_B is not None:
        centers_BAX = torch.where(
            mirrored_B[:, None, None], constant((*centers[1:], straight[::-1]), start_BA1.device), centers_BAX
        )
    inside_BAX = centers_BAX * (length_BA1 / size) - 0.5
    positions_BAX = torch.minimum(inside_BAX.clamp_min_(0), length_BA1 - 1) + start_BA1
    return positions_BAX.mul_(2).add_(1).div_(whole).sub_(1)


def flip(images_BCHW: Tensor, flip_B: Tensor) -> Tensor:
    """Copy the images and mirror some of them left to right.

    Args:
        images_BCHW: of any dtype.
        flip_B: bool, True where the image is mirrored.
    """
    if images_BCHW.device.type != "cpu":
        # All of them mirrored: how many are wanted would have to be waited for.
        return torch.where(flip_B[:, None, None, None], images_BCHW.flip(-1), images_BCHW)
    order_B = flip_B.argsort(stable=True)
    straight_RCHW, mirrored_RCHW = images_BCHW.index_select(0, order_B).tensor_split([int((~flip_B).sum())])
    return torch.cat([straight_RCHW, mirrored_RCHW.flip(-1)]).index_select(0, order_B.argsort())


def shifted(images_BCHW: Tensor, shift_B2: Tensor, flip_B: Tensor) -> Tensor:
    """Mirror where ``flip_B``, then shift by whole pixels; what comes into view is reflected at the border.

    Args:
        shift_B2: int64 (dy, dx): the pixel at (y, x) comes from (y + dy, x + dx); below the size in magnitude.
    """
    height, width = images_BCHW.shape[-2:]
    y_BH = _reflect(torch.arange(height, device=shift_B2.device) + shift_B2[:, :1], height)
    x_BW = _reflect(torch.arange(width, device=shift_B2.device) + shift_B2[:, 1:], width)
    x_BW = torch.where(flip_B[:, None], width - 1 - x_BW, x_BW)
    return _pick(images_BCHW, y_BH[:, :, None] * width + x_BW[:, None, :])


def _reflect(positions_BX: Tensor, size: int) -> Tensor:
    folded_BX = positions_BX.abs()
    return (size - 1) - ((size - 1) - folded_BX).abs()


def _pick(images_BCHW: Tensor, index_BHW: Tensor) -> Tensor:
    flat_BCX = images_BCHW.flatten(2)
    index_B1X = index_BHW.flatten(1)[:, None, :].long()
    picked_BCX = flat_BCX.gather(2, index_B1X.expand(-1, flat_BCX.shape[1], -1))
    return picked_BCX.view(*flat_BCX.shape[:2], *index_BHW.shape[1:])


def warp_nearest(images_BCHW: Tensor, matrix_B6: Tensor) -> Tensor:
    """Fetch each pixel from the nearest source pixel of its image, black where there is none.

    Positions are computed as Pillow does, in whole numbers of 1/65536 pixel, so the result is Pillow's bit for bit.
    (A pure translation it computes in floating point; the two can differ within 1/65536 pixel of a tie.)

    Args:
        images_BCHW: uint8.
        matrix_B6: float64, from output to source.
    """
    height, width = images_BCHW.shape[-2:]
    a_B, b_B, c_B, d_B, e_B, f_B = matrix_B6.unbind(1)
    x_BHW = _fixed_positions(a_B, b_B, c_B, (height, width))
    y_BHW = _fixed_positions(d_B, e_B, f_B, (height, width))
    # A black frame of one pixel holds every position outside: cheaper than masks.
    framed_BCHW = functional.pad(images_BCHW, (1, 1, 1, 1))
    index_BHW = y_BHW.clamp_(-1, height).add_(1).mul_(width + 2).add_(x_BHW.clamp_(-1, width)).add_(1)
    return _pick(framed_BCHW, index_BHW)


def _fixed_positions(along_x_B: Tensor, along_y_B: Tensor, start_B: Tensor, size_HW: tuple[int, int]) -> Tensor:
    """int32 (B, H, W): source pixels, exact for sides up to 8,192 px."""
    start_B = start_B + 0.5 * along_x_B + 0.5 * along_y_B
    along_x_B, along_y_B, start_B = ((v_B * 65536 + 0.5).floor().int() for v_B in (along_x_B, along_y_B, start_B))
    x_W, y_H = (torch.arange(size, device=start_B.device, dtype=torch.int32) for size in reversed(size_HW))
    rows_BH = start_B[:, None] + along_y_B[:, None] * y_H
    columns_BW = along_x_B[:, None] * x_W
    return (rows_BH[:, :, None] + columns_BW[:, None, :]).bitwise_right_shift_(16)


def rotation_matrix(degrees_B: Tensor, size_HW: tuple[int, int]) -> Tensor:
    """Matrices that turn images counterclockwise about their middle.

    Args:
        degrees_B: float64.
        size_HW: height and width in pixels.

    Returns:
        float64 (B, 6), from output to source.
    """
    height, width = size_HW
    angle_B = -torch.deg2rad(degrees_B.double())
    cos_B, sin_B = angle_B.cos(), angle_B.sin()
    start_x_B = width / 2 - cos_B * (width / 2) - sin_B * (height / 2)
    start_y_B = height / 2 + sin_B * (width / 2) - cos_B * (height / 2)
    return torch.stack([cos_B, sin_B, start_x_B, -sin_B, cos_B, start_y_B], dim=1)


def identity_with(column: int, values_B: Tensor) -> Tensor:
    """Identity matrices with one of the six numbers replaced.

    Args:
        column: which number, 0 to 5.
        values_B: float64.

    Returns:
        float64 (B, 6).
    """
    matrix_B6 = torch.zeros(len(values_B), 6, dtype=torch.float64, device=values_B.device)
    matrix_B6[:, 0] = 1
    matrix_B6[:, 4] = 1
    matrix_B6[:, column] = values_B.double()
    return matrix_B6


def warp_smooth(images_BCHW: Tensor, matrix_B23: Tensor, padding: str = "zeros") -> Tensor:
    """Bilinear warp about the middle of the image; float32 in and out.

    Args:
        matrix_B23: float32, from output to source, in pixels from the middle: a shift of 1 is one pixel.
        padding: what lies outside: "zeros", or "border" for the nearest pixel.
    """
    height, width = images_BCHW.shape[-2:]
    # grid_sample counts half sides: one unit is width / 2 pixels along x and height / 2 along y.
    half_2 = constant((width / 2, height / 2), matrix_B23.device)
    linear_B22 = matrix_B23[:, :, :2] * half_2[None, None, :] / half_2[None, :, None]
    theta_B23 = torch.cat([linear_B22, matrix_B23[:, :, 2:] / half_2[None, :, None]], dim=2)
    grid_BHW2 = functional.affine_grid(theta_B23, list(images_BCHW.shape), align_corners=False)
    return functional.grid_sample(images_BCHW, grid_BHW2, mode="bilinear", padding_mode=padding, align_corners=False)


def cutout_keep(center_B2: Tensor, length_B: Tensor, size_HW: tuple[int, int]) -> Tensor:
    """float32 (B, 1, H, W): 0 in [y - l // 2, y + l // 2) x [x - l // 2, x + l // 2), cut at the border; 1 outside it.

    Args:
        center_B2: int64 (y, x).
        length_B: int64 l, in pixels, at least 0.
    """
    half_B2 = (length_B // 2)[:, None].expand_as(center_B2)
    low_B2, high_B2 = center_B2 - half_B2, center_B2 + half_B2
    y_H, x_W = (torch.arange(size, device=center_B2.device) for size in size_HW)
    in_y_BH = (y_H >= low_B2[:, :1]) & (y_H < high_B2[:, :1])
    in_x_BW = (x_W >= low_B2[:, 1:]) & (x_W < high_B2[:, 1:])
    return 1 - (in_y_BH[:, None, :, None] & in_x_BW[:, None, None, :]).float()
