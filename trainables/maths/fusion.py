"""Low- and high-level features as one row per image, for clustering alone.

Source: UAD Eq. 11 and 16-20, section 3.1 for the alternatives to concatenation.

Axes: B batch, C channels, H height, W width, L and G widths of the low and the high block, D width of the fused row.
"""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

Operation = Literal["concat", "add", "multiply", "matrix_product", "gaussian_noise"]
SMALLEST_NORM = 1e-12
MATRIX_SIDE = 64
"""Each block has this many numbers before they are multiplied with one another: as wide as AlexNet's fc7 in the end."""
NOISE_SHARE = 0.1
"""Standard deviation of the noise, as a share of the root mean square of the row that it is added to."""


def has_blocks(operation: Operation) -> bool:
    """Whether the low and the high block stand side by side in the fused row, the low one first."""
    return operation in ("concat", "gaussian_noise")


def width(operation: Operation, low_width: int, high_width: int) -> int:
    """D, the width of a fused row, from those of its blocks."""
    if operation == "matrix_product":
        return MATRIX_SIDE**2
    return low_width + high_width if has_blocks(operation) else high_width


def draw_channels(num_channels: int, count: int, generator: torch.Generator) -> Tensor:
    """``count`` of ``num_channels`` channels, in ascending order (Eq. 16): int64 on the generator's device."""
    drawn = torch.randperm(num_channels, generator=generator, device=generator.device)[:count]
    return drawn.sort().values


def fuse(low_BCHW: Tensor, high_BG: Tensor, *, operation: Operation, unit_blocks: bool, seed: int) -> Tensor:
    """One row per image from the kept low-level channels and the high-level feature (Eq. 17-20).

    The paper names the alternatives to concatenation without their formulas, so they are ours.

    Args:
        low_BCHW: maps, flattened channel by channel. high_BG: flat already.
        operation: "concat" and "gaussian_noise" give (B, L + G), low first; the noise is added by ``noisy``. "add" and
            "multiply" first bring the low block to width G by one fixed Gaussian projection. "matrix_product" brings
            both to MATRIX_SIDE numbers so, and gives their outer product, row by row.
        unit_blocks: scale each block of each image to length 1 first.
        seed: of the projections.
    """
    low_BL = low_BCHW.flatten(1)
    if unit_blocks:
        low_BL, high_BG = (functional.normalize(each, dim=1, eps=SMALLEST_NORM) for each in (low_BL, high_BG))
    if has_blocks(operation):
        return torch.cat([low_BL, high_BG], dim=1)
    generator = torch.Generator().manual_seed(seed)
    if operation == "matrix_product":
        low_BM, high_BM = (_projected(each, MATRIX_SIDE, generator) for each in (low_BL, high_BG))
        return (low_BM[:, :, None] * high_BM[:, None, :]).flatten(1)
    low_BG = _projected(low_BL, high_BG.shape[1], generator)
    return low_BG + high_BG if operation == "add" else low_BG * high_BG


def noisy(rows_BD: Tensor, noise_BD: Tensor) -> Tensor:
    """Rows with Gaussian noise. noise_BD: from a standard normal distribution."""
    return rows_BD + NOISE_SHARE * rows_BD.square().mean(dim=1, keepdim=True).sqrt() * noise_BD


def high_level_share(directions_DE: Tensor, low_width: int) -> float:
    """How much of the kept principal directions lies in the high-level block, in [0, 1].

    Whitened directions count alike in a distance, so this is the mean over them of the squared part of a unit direction
    that lies in the block: 0 where the low level has drowned the high one.

    Args:
        directions_DE: principal directions in the space in which they are orthogonal, of any length; those of length 0
            do not count. At least one does.
        low_width: rows of ``directions_DE`` that belong to the low-level block.
    """
    squared_DE = directions_DE.double().square()
    whole_E = squared_DE.sum(dim=0)
    kept_E = whole_E > 0
    return float((squared_DE[low_width:, kept_E].sum(dim=0) / whole_E[kept_E]).mean())


def _projected(rows_BL: Tensor, num_columns: int, generator: torch.Generator) -> Tensor:
    """Rows times a fixed Gaussian matrix that keeps their length on average."""
    projection_LG = torch.randn(rows_BL.shape[1], num_columns, generator=generator) / rows_BL.shape[1] ** 0.5
    projected_BM: Tensor = rows_BL @ projection_LG.to(rows_BL)
    return projected_BM
