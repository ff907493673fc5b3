"""The fourteen operations of SCAN's strong augmentation, on batches of uint8 images, with Pillow's exact arithmetic.

Given its level, an operation gives what Pillow's gives, bit for bit, so that a published recipe is the recipe that
runs here. There are three kinds. A *filter* computes new pixels; a *table* lists what every grey level of a channel
becomes; a *warp* moves pixels. Tables and warps that different images drew are applied together.
Axes: R images that drew the operation, C channels (1 or 3), H height, W width, V grey levels (256), B images of the
batch, S operations drawn for each image, K operations there are, 6 a matrix as in ``geometry``.

Source: SCAN, supplementary Table S2, as restated with its misprints corrected.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from .constants import constant
from .geometry import identity_with, rotation_matrix, warp_nearest

NUM_LEVELS = 256
LOOK_UP_IMAGES = 32

RANGES: Mapping[str, tuple[float, float]] = {
    "identity": (0, 0),
    "autocontrast": (0, 0),
    "equalize": (0, 0),
    "rotate": (-30, 30),
    "shear_x": (-0.1, 0.1),
    "shear_y": (-0.1, 0.1),
    "translate_x": (-0.1, 0.1),
    "translate_y": (-0.1, 0.1),
    "solarize": (0, 256),
    "contrast": (0.05, 0.95),
    "brightness": (0.05, 0.95),
    "posterize": (4, 8),
    "color": (0.05, 0.95),
    "sharpness": (0.05, 0.95),
}
"""The operations and their levels, uniform in [low, high): degrees, grey levels, bits, factors, shares of the side.

Tables come before warps before filters: in this order the images of one step are put together again.
"""


def apply_drawn(images_BCHW: Tensor, choice_BS: Tensor, unit_BS: Tensor) -> Tensor:
    """Apply to each image its S drawn operations, one after the other.

    Args:
        images_BCHW: uint8; not changed.
        choice_BS: int64, an operation by its place in RANGES.
        unit_BS: float32 in [0, 1): where the level lies in the operation's range.

    Returns:
        uint8 of the same shape.
    """
    low_K, high_K = constant(tuple(RANGES.values()), images_BCHW.device).unbind(1)
    level_BS = unit_BS * (high_K - low_K)[choice_BS] + low_K[choice_BS]
    row_B = torch.arange(len(images_BCHW), device=images_BCHW.device)
    # How many images drew which operation in each step, read together: each reading waits for the device.
    counts_SK = (choice_BS[:, :, None] == torch.arange(len(RANGES), device=choice_BS.device)).sum(0).tolist()
    for choice_B, level_B, counts in zip(choice_BS.unbind(1), level_BS.unbind(1), counts_SK, strict=True):
        # Images that drew the same operation are put side by side, and stay where they are until the next step sorts
        # them anew: copying whole rows is far cheaper than writing into rows here and there.
        order_B = choice_B[row_B].argsort(stable=True)
        row_B = row_B[order_B]
        sorted_BCHW = images_BCHW.index_select(0, order_B)
        images_BCHW = _apply_step(sorted_BCHW, level_B[row_B], dict(zip(RANGES, counts, strict=True)))
    return images_BCHW.index_select(0, row_B.argsort())


def _apply_step(images_BCHW: Tensor, level_B: Tensor, counts: Mapping[str, int]) -> Tensor:
    """One operation for each image: the first ``counts`` images the first one of RANGES, and so on."""
    images_of = dict(zip(RANGES, torch.split(images_BCHW, list(counts.values())), strict=True))
    level_of = dict(zip(RANGES, torch.split(level_B, list(counts.values())), strict=True))
    drawn = [name for name in RANGES if counts[name]]
    changed = [images_of["identity"]]
    if tabled := [name for name in drawn if name in TABLES]:
        tables = [TABLES[name](images_of[name], level_of[name]) for name in tabled]
        changed.append(_look_up(torch.cat([images_of[name] for name in tabled]), tables))
    if warped := [name for name in drawn if name in WARPS]:
        size_HW = (images_BCHW.shape[2], images_BCHW.shape[3])
        matrix_R6 = torch.cat([WARPS[name](level_of[name].double(), size_HW) for name in warped])
        changed.append(warp_nearest(torch.cat([images_of[name] for name in warped]), matrix_R6))
    changed += [FILTERS[name](images_of[name], level_of[name]) for name in drawn if name in FILTERS]
    return torch.cat(changed)


def _look_up(images_RCHW: Tensor, tables: list[Tensor]) -> Tensor:
    """Replace each level by its entry, cut to a whole number."""
    table_RCV = torch.cat([table.to(torch.uint8) for table in tables])
    levels_RCX = images_RCHW.flatten(2)
    # gather wants indices of eight bytes; on a CPU those of all images at once would not stay in the cache.
    num = LOOK_UP_IMAGES if images_RCHW.device.type == "cpu" else len(images_RCHW)
    parts = zip(torch.split(table_RCV, num), torch.split(levels_RCX, num), strict=True)
    return torch.cat([table.gather(2, levels.long()) for table, levels in parts]).view_as(images_RCHW)


def autocontrast(images_RCHW: Tensor, level_R: Tensor) -> Tensor:
    """Stretch each channel to 0 .. 255. A channel of one level stays as it is. No level."""
    low_RC1 = images_RCHW.amin((2, 3)).double()[:, :, None]
    span_RC1 = images_RCHW.amax((2, 3)).double()[:, :, None] - low_RC1
    flat_RC1 = span_RC1 == 0
    # Not 255 / span: torch would multiply by the rounded reciprocal, and cutting shows the last bit.
    scale_RC1 = torch.full_like(span_RC1, 255) / (span_RC1 + flat_RC1)
    stretched_RCV = _grey_levels(images_RCHW) * scale_RC1 + -low_RC1 * scale_RC1
    return torch.where(flat_RC1, _grey_levels(images_RCHW), stretched_RCV.clamp_(0, 255))


def equalize(images_RCHW: Tensor, level_R: Tensor) -> Tensor:
    """Flatten the histogram of each channel. A channel that gives no step (under 255 pixels) stays as it is. No level.

    With h the histogram, n its sum, t the count of the highest level present and s = (n - t) // 255, level v becomes
    (s // 2 + sum of h below v) // s, at most 255.
    """
    num, channels = images_RCHW.shape[:2]
    offset_RC1 = torch.arange(num * channels, device=images_RCHW.device).view(num, channels, 1) * NUM_LEVELS
    counted_X = (images_RCHW.flatten(2) + offset_RC1).flatten()
    counts_RCV = _counts(counted_X, num * channels * NUM_LEVELS).view(num, channels, NUM_LEVELS)
    last_RC1 = counts_RCV.gather(2, images_RCHW.amax((2, 3)).long()[:, :, None])
    step_RC1 = (images_RCHW[0, 0].numel() - last_RC1) // 255
    below_RCV = counts_RCV.cumsum(2) - counts_RCV
    # Both are whole numbers far below 2^24 over at least one, so a float32 quotient is cut at the right place.
    table_RCV = ((step_RC1 // 2 + below_RCV).float() / step_RC1.clamp_min(1)).floor_().clamp_max_(255)
    return torch.where(step_RC1 > 0, table_RCV, _grey_levels(images_RCHW))


def _counts(values_X: Tensor, num: int) -> Tensor:
    """How often each of 0 .. num - 1 is among the values, int64 (num,)."""
    if values_X.device.type == "cpu":
        return torch.bincount(values_X, minlength=num)
    # bincount reads the largest value first, which waits for the device.
    return values_X.new_zeros(num).scatter_add_(0, values_X, torch.ones_like(values_X))


def rotate(degrees_R: Tensor, size_HW: tuple[int, int]) -> Tensor:
    """Counterclockwise about the middle."""
    return rotation_matrix(degrees_R, size_HW)


def shear_x(shear_R: Tensor, size_HW: tuple[int, int]) -> Tensor:
    """x_source = x + shear * y, from the upper left corner."""
    return identity_with(1, shear_R)


def shear_y(shear_R: Tensor, size_HW: tuple[int, int]) -> Tensor:
    """y_source = y + shear * x, from the upper left corner."""
    return identity_with(3, shear_R)


def translate_x(share_R: Tensor, size_HW: tuple[int, int]) -> Tensor:
    """x_source = x + share * width."""
    return identity_with(2, share_R * size_HW[1])


def translate_y(share_R: Tensor, size_HW: tuple[int, int]) -> Tensor:
    """y_source = y + share * height."""
    return identity_with(5, share_R * size_HW[0])


def solarize(images_RCHW: Tensor, threshold_R: Tensor) -> Tensor:
    """Invert the grey levels at or above the threshold."""
    above_RCHW = images_RCHW.float() >= threshold_R[:, None, None, None]
    # 255 - v is v with all bits turned.
    return images_RCHW ^ above_RCHW.to(torch.uint8).mul_(255)


def contrast(images_RCHW: Tensor, factor_R: Tensor) -> Tensor:
    """Move each pixel towards the image's mean grey, which is rounded to a whole level."""
    mean_R = (_luma(images_RCHW).double().mean((1, 2)) + 0.5).floor().float()
    return _blend(mean_R[:, None, None, None], images_RCHW.float(), factor_R)


def brightness(images_RCHW: Tensor, factor_R: Tensor) -> Tensor:
    """Move each pixel towards black."""
    return (images_RCHW * factor_R[:, None, None, None]).to(torch.uint8)


def posterize(images_RCHW: Tensor, bits_R: Tensor) -> Tensor:
    """Keep the highest bits of each level; the number of bits is rounded down."""
    kept_R = 256 - torch.exp2(8 - bits_R.floor())
    return images_RCHW & kept_R.to(torch.uint8)[:, None, None, None]


def color(images_RCHW: Tensor, factor_R: Tensor) -> Tensor:
    """Move each pixel towards its own grey. Identity for grey images."""
    if images_RCHW.shape[1] == 1:
        return images_RCHW
    return _blend(_luma(images_RCHW)[:, None].float(), images_RCHW.float(), factor_R)


def sharpness(images_RCHW: Tensor, factor_R: Tensor) -> Tensor:
    """Move each pixel towards the mean of its 3 x 3 surroundings, itself counted five times; the border stays."""
    exact_RCHW = images_RCHW.float()
    across_RCHW = exact_RCHW[..., :-2] + exact_RCHW[..., 1:-1] + exact_RCHW[..., 2:]
    total_RCHW = across_RCHW[..., :-2, :] + across_RCHW[..., 1:-1, :] + across_RCHW[..., 2:, :]
    total_RCHW += 4 * exact_RCHW[..., 1:-1, 1:-1]
    smooth_RCHW = exact_RCHW.clone()
    # A thirteenth is never halfway between two whole numbers, so rounding is safe in float32.
    smooth_RCHW[..., 1:-1, 1:-1] = (total_RCHW / 13 + 0.5).floor()
    return _blend(smooth_RCHW, exact_RCHW, factor_R)


TABLES: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    "autocontrast": autocontrast,
    "equalize": equalize,
}
"""(images_RCHW, level_R) -> (R, C, V), the new levels before they are cut to whole numbers."""

WARPS: Mapping[str, Callable[[Tensor, tuple[int, int]], Tensor]] = {
    "rotate": rotate,
    "shear_x": shear_x,
    "shear_y": shear_y,
    "translate_x": translate_x,
    "translate_y": translate_y,
}
"""(level_R float64, (height, width)) -> (R, 6), from output to source."""

FILTERS: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    "solarize": solarize,
    "contrast": contrast,
    "brightness": brightness,
    "posterize": posterize,
    "color": color,
    "sharpness": sharpness,
}
"""(images_RCHW, level_R) -> new uint8 images."""


def _grey_levels(images_RCHW: Tensor) -> Tensor:
    return torch.arange(NUM_LEVELS, dtype=torch.float32, device=images_RCHW.device)


def _luma(images_RCHW: Tensor) -> Tensor:
    """The brightness of each pixel, int32 (R, H, W), in Pillow's whole-number arithmetic."""
    if images_RCHW.shape[1] == 1:
        return images_RCHW[:, 0].int()
    red_RHW, green_RHW, blue_RHW = images_RCHW.int().unbind(1)
    return (19595 * red_RHW + 38470 * green_RHW + 7471 * blue_RHW + 32768) >> 16


def _blend(from_RCHW: Tensor, to_RCHW: Tensor, factor_R: Tensor) -> Tensor:
    """from + factor * (to - from) in float32, cut to whole numbers; the factor is at most 1."""
    return (from_RCHW + factor_R[:, None, None, None] * (to_RCHW - from_RCHW)).to(torch.uint8)
