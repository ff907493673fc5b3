"""Low- and high-level features as one row per image, for clustering alone.

Source: UAD Eq. 11 and 16-20, section 3.1 for the alternatives to concatenation.

Axes: B batch, C channels, H height, W width, L and G widths of the low and the high block, D width of the fused row.
"""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

Operation = Literal["concat", "add", "multiply"]
SMALLEST_NORM = 1e-12


def draw_channels(num_channels: int, count: int, generator: torch.Generator) -> Tensor:
    """``count`` of ``num_channels`` channels, in ascending order (Eq. 16): int64 on the generator's device."""
    drawn = torch.randperm(num_channels, generator=generator, device=generator.device)[:count]
    return drawn.sort().values


def fuse(low_BCHW: Tensor, high_BG: Tensor, *, operation: Operation, unit_blocks: bool, seed: int) -> Tensor:
    """One row per image from the kept low-level channels and the high-level feature (Eq. 17-20).

    Args:
        low_BCHW: maps, flattened channel by channel. high_BG: flat already.
        operation: "concat" gives (B, L + G), low first. "add" and "multiply" first bring the low block to width G by
            one fixed Gaussian projection; the paper names them without saying how widths are made equal.
        unit_blocks: scale each block of each image to length 1 first.
        seed: of the projection.
    """
    low_BL = low_BCHW.flatten(1)
    if unit_blocks:
        low_BL, high_BG = (functional.normalize(each, dim=1, eps=SMALLEST_NORM) for each in (low_BL, high_BG))
    if operation == "concat":
        return torch.cat([low_BL, high_BG], dim=1)
    generator = torch.Generator().manual_seed(seed)
    projection_LG = torch.randn(low_BL.shape[1], high_BG.shape[1], generator=generator) / low_BL.shape[1] ** 0.5
    low_BG: Tensor = low_BL @ projection_LG.to(low_BL)
    return low_BG + high_BG if operation == "add" else low_BG * high_BG
