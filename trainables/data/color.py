"""Color changes of float images, a factor for each image, and none of Pillow's rounding to whole grey levels.

The formulas are those of torchvision's ColorJitter; values stay in [0, 1].
A CPU makes each change for the images that are to have it. A GPU makes all of them for every image, some without
effect: how many images have which change would have to be waited for.

Axes: B images, C channels (1 or 3), H height, W width, P pixels, S order of the four changes, X which of them, R images
that lose their colors, K the three changes before the hue's and the three after it.
"""

import torch
from torch import Tensor
from torch.nn import functional

from .constants import constant

LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in the brightness of a pixel (ITU-R BT.601), as in Pillow and torchvision."""


def grayscale(images_BCHW: Tensor) -> Tensor:
    """The brightness of each pixel, shape (B, 1, H, W). Grey images come back unchanged."""
    if images_BCHW.shape[1] == 1:
        return images_BCHW
    red_B1HW, green_B1HW, blue_B1HW = torch.split(images_BCHW, 1, dim=1)
    return LUMA[0] * red_B1HW + LUMA[1] * green_B1HW + LUMA[2] * blue_B1HW


def greyed(images_BCHW: Tensor, grey_B: Tensor) -> Tensor:
    """Take the colors out of some images; may be done in place.

    Args:
        images_BCHW: float32.
        grey_B: bool, True where the image becomes grey.
    """
    if images_BCHW.device.type != "cpu":
        luma_1C = constant(_luma_of(images_BCHW.shape[1]), images_BCHW.device)[None]
        grey_B1P = torch.bmm(luma_1C.expand(len(images_BCHW), 1, -1), images_BCHW.flatten(2))
        return torch.where(_column(grey_B), grey_B1P.view(-1, 1, *images_BCHW.shape[2:]), images_BCHW)
    grey_R = grey_B.nonzero().squeeze(1)
    grey_RCHW = grayscale(images_BCHW.index_select(0, grey_R)).expand(-1, images_BCHW.shape[1], -1, -1)
    return images_BCHW.index_copy_(0, grey_R, grey_RCHW)


def adjust_brightness(images_BCHW: Tensor, factor_B: Tensor) -> Tensor:
    """Multiply each image by its factor and clamp it to [0, 1].

    Args:
        images_BCHW: float32 in [0, 1].
        factor_B: at least 0.
    """
    return (images_BCHW * _column(factor_B)).clamp_(0, 1)


def adjust_contrast(images_BCHW: Tensor, factor_B: Tensor) -> Tensor:
    """Move each pixel towards (factor below 1) or away from the mean brightness of its image."""
    mean_B111 = grayscale(images_BCHW).mean(dim=(1, 2, 3), keepdim=True)
    return _blend(mean_B111, images_BCHW, factor_B)


def adjust_saturation(images_BCHW: Tensor, factor_B: Tensor) -> Tensor:
    """Move each pixel towards (factor below 1) or away from its own grey. Identity for grey images."""
    if images_BCHW.shape[1] == 1:
        return images_BCHW
    return _blend(grayscale(images_BCHW), images_BCHW, factor_B)


def adjust_hue(images_BCHW: Tensor, turn_B: Tensor) -> Tensor:
    """Turn the hue in HSV space; ``turn_B`` is in full turns, -0.5 .. 0.5. Identity for grey images.

    With h the hue in sixths of a turn and k = (n + h) mod 6, channel n in (5, 3, 1) of a color of value V and chroma c
    is V - c * clamp(min(k, 4 - k), 0, 1); so the way back needs no case distinction.
    """
    if images_BCHW.shape[1] == 1:
        return images_BCHW
    red_BHW, green_BHW, blue_BHW = images_BCHW.unbind(1)
    value_BHW = images_BCHW.amax(1)
    chroma_BHW = value_BHW - images_BCHW.amin(1)
    # Products with 0 and 1: torch.where is ten times slower on a CPU.
    is_red_BHW = (value_BHW == red_BHW).float()
    is_green_BHW = (value_BHW == green_BHW).float().mul_(1 - is_red_BHW)
    is_blue_BHW = 1 - is_red_BHW - is_green_BHW
    sector_BHW = is_red_BHW.mul_(green_BHW - blue_BHW)
    sector_BHW += (blue_BHW - red_BHW).add_(chroma_BHW, alpha=2).mul_(is_green_BHW)
    sector_BHW += (red_BHW - green_BHW).add_(chroma_BHW, alpha=4).mul_(is_blue_BHW)
    # A pixel without chroma has no hue; any finite one will do, as it is multiplied by the chroma again.
    sector_BHW /= chroma_BHW.clamp_min(1e-6)
    sector_BHW += 6 * turn_B[:, None, None]
    offset_3 = constant(_HUE_OFFSETS, images_BCHW.device)
    sixths_BCHW = sector_BHW[:, None] + offset_3[:, None, None]
    sixths_BCHW -= (sixths_BCHW / 6).floor_().mul_(6)
    # min(k, 4 - k) = 2 - |k - 2|
    share_BCHW = sixths_BCHW.sub_(2).abs_().neg_().add_(2).clamp_(0, 1)
    return value_BHW[:, None] - share_BCHW.mul_(chroma_BHW[:, None])


_HUE_OFFSETS = (5.0, 3.0, 1.0)
CHANGES = (adjust_brightness, adjust_contrast, adjust_saturation, adjust_hue)
"""In the order of the columns of ``jitter``'s factors."""


HUE, NO_CHANGE = CHANGES.index(adjust_hue), len(CHANGES)


def order_of_changes(order_BS: Tensor, chosen_B: Tensor) -> Tensor:
    """The orders of the chosen images; NO_CHANGE throughout for the others.

    Args:
        order_BS: int64, as ``jitter`` takes it.
        chosen_B: bool.
    """
    return order_BS.masked_fill(~chosen_B[:, None], NO_CHANGE)


def jitter(images_BCHW: Tensor, factors_B4: Tensor, order_BS: Tensor) -> Tensor:
    """Apply the four changes to each image in its own order.

    Args:
        images_BCHW: float32 in [0, 1], and so they come back.
        factors_B4: brightness, contrast and saturation factors and the turn of the hue.
        order_BS: int64, which of CHANGES comes first, second, third and last; NO_CHANGE for none.

    Source: torchvision ColorJitter. Differs: values between the changes are not rounded to 1/255, and the mean
    brightness is not rounded to a whole grey level.
    """
    if images_BCHW.device.type != "cpu":
        return _jitter_all(images_BCHW, factors_B4, order_BS)
    row_B = torch.arange(len(images_BCHW))
    # How many images make which change in each step, read together: each reading waits for the device.
    counts_SX = (order_BS[:, :, None] == torch.arange(NO_CHANGE + 1)).sum(0).tolist()
    for change_B, counts in zip(order_BS.unbind(1), counts_SX, strict=True):
        # Images of one change are put side by side, and stay where they are until the next step sorts them anew.
        sorted_B = change_B[row_B].argsort(stable=True)
        row_B = row_B[sorted_B]
        groups = torch.split(images_BCHW.index_select(0, sorted_B), counts)
        factors = torch.split(factors_B4[row_B], counts)
        changed = [
            change(groups[index], factors[index][:, index]) for index, change in enumerate(CHANGES) if counts[index]
        ]
        images_BCHW = torch.cat([*changed, groups[NO_CHANGE]])
    return images_BCHW.index_select(0, row_B.argsort())


def _jitter_all(images_BCHW: Tensor, factors_B4: Tensor, order_BS: Tensor) -> Tensor:
    """``jitter`` without a choice of images.

    Brightness, contrast and saturation are one formula: a move away from black, from the mean brightness or from the
    own one. An image's three of them come before or after its change of hue, so six such moves and one hue between
    them make every order; those that an image has not move it by nothing.
    """
    device, num_channels = images_BCHW.device, images_BCHW.shape[1]
    is_hue_BS = order_BS == HUE
    since_hue_BS = is_hue_BS.cumsum(dim=1) > 0
    before_BS = order_BS.masked_fill(since_hue_BS, NO_CHANGE)
    after_BS = torch.where(since_hue_BS & ~is_hue_BS, order_BS, NO_CHANGE)
    change_BK = torch.cat([before_BS[:, :-1], after_BS[:, 1:]], dim=1)
    # The hue and no change move by nothing: their factor is 1.
    factor_BK = functional.pad(factors_B4[:, :HUE], (0, 2), value=1.0).gather(1, change_BK)
    luma, black = _luma_of(num_channels), (0.0,) * num_channels
    weights_BKC = constant((black, luma, luma, black, black), device)[change_BK]
    of_image_BK = change_BK == CHANGES.index(adjust_contrast)
    images_BCP, num = images_BCHW.flatten(2), change_BK.shape[1]
    for step in range(num):
        if step == num // 2 and num_channels == 3:
            turned_BCP = _turn_hue(images_BCP, factors_B4[:, HUE])
            images_BCP = torch.where(since_hue_BS[:, -1, None, None], turned_BCP, images_BCP)
        from_B1P = torch.bmm(weights_BKC[:, step, None], images_BCP)
        from_B1P = torch.where(of_image_BK[:, step, None, None], from_B1P.mean(dim=2, keepdim=True), from_B1P)
        images_BCP = torch.lerp(from_B1P, images_BCP, factor_BK[:, step, None, None]).clamp_(0, 1)
    return images_BCP.view_as(images_BCHW)


def _turn_hue(images_BCP: Tensor, turn_B: Tensor) -> Tensor:
    """``adjust_hue`` of three channels in fewer operations, the same up to rounding."""
    device = images_BCP.device
    value_B1P, largest_B1P = images_BCP.max(dim=1, keepdim=True)
    chroma_B1P = value_B1P - images_BCP.amin(dim=1, keepdim=True)
    # Green - blue, blue - red, red - green: the hue within the sextant of the largest channel.
    difference_CC = constant(((0.0, 1.0, -1.0), (-1.0, 0.0, 1.0), (1.0, -1.0, 0.0)), device)
    difference_BCP = torch.bmm(difference_CC.expand(len(images_BCP), -1, -1), images_BCP)
    hue_B1P = difference_BCP.gather(1, largest_B1P).div_(chroma_B1P.clamp_min(1e-6))
    start_BC = torch.add(constant(_HUE_OFFSETS, device), turn_B[:, None], alpha=6)
    sixths_BCP = torch.add(hue_B1P, largest_B1P, alpha=2) + start_BC[:, :, None]
    share_BCP = 2 - sixths_BCP.remainder_(6).sub_(2).abs_()
    return torch.addcmul(value_B1P, share_BCP.clamp_(0, 1), chroma_B1P, value=-1)


def _luma_of(num_channels: int) -> tuple[float, ...]:
    return LUMA if num_channels == 3 else (1.0,)


def _blend(from_BCHW: Tensor, to_BCHW: Tensor, factor_B: Tensor) -> Tensor:
    column_B111 = _column(factor_B)
    return (to_BCHW * column_B111).add_(from_BCHW * (1 - column_B111)).clamp_(0, 1)


def _column(values_B: Tensor) -> Tensor:
    return values_B[:, None, None, None]
