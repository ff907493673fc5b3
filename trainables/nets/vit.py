"""A vision transformer of any width, depth and patch, with the names of DINO's weights (timm's and DINOv2's too).

Source: Dosovitskiy et al. 2021 (ViT); Touvron et al. 2021 (scaled branches); Darcet et al. 2024 (register tokens).

Axes: B batch, C channels, H height, W width, T tokens, G side of the grid of patches, D feature width.
"""

from dataclasses import dataclass
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

_NORM_EPS = 1e-6
_INITIAL_STD = 0.02


@dataclass(frozen=True)
class VitShape:
    """What a vision transformer is built from.

    px: side of the images. hidden: width between the two layers of a block's MLP.
    registers: further tokens beside the class token; they have no position.
    class_position: whether the class token has a position.
    scaled: whether each branch of a block is multiplied by a learned factor per channel.
    pool: the feature is the class token after the last norm, or the norm of the patches' mean.
    """

    px: int
    patch: int
    width: int
    depth: int
    heads: int
    hidden: int
    registers: int = 0
    class_position: bool = True
    scaled: bool = False
    pool: Literal["class", "mean"] = "class"

    @property
    def grid(self) -> int:
        return self.px // self.patch


class _Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, tokens_BTD: Tensor) -> Tensor:
        queries, keys, values = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in self.qkv(tokens_BTD).chunk(3, dim=-1)
        )
        mixed = functional.scaled_dot_product_attention(queries, keys, values)
        return cast(Tensor, self.proj(mixed.transpose(1, 2).flatten(2)))


class _Mlp(nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, tokens_BTD: Tensor) -> Tensor:
        return cast(Tensor, self.fc2(functional.gelu(self.fc1(tokens_BTD))))


class _Scale(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(width))

    def forward(self, tokens_BTD: Tensor) -> Tensor:
        return tokens_BTD * self.gamma


class _Block(nn.Module):
    def __init__(self, shape: VitShape) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(shape.width, eps=_NORM_EPS)
        self.attn = _Attention(shape.width, shape.heads)
        self.ls1 = _Scale(shape.width) if shape.scaled else nn.Identity()
        self.norm2 = nn.LayerNorm(shape.width, eps=_NORM_EPS)
        self.mlp = _Mlp(shape.width, shape.hidden)
        self.ls2 = _Scale(shape.width) if shape.scaled else nn.Identity()

    def forward(self, tokens_BTD: Tensor) -> Tensor:
        tokens_BTD = tokens_BTD + self.ls1(self.attn(self.norm1(tokens_BTD)))
        return cast(Tensor, tokens_BTD + self.ls2(self.mlp(self.norm2(tokens_BTD))))


class _Patches(nn.Module):
    def __init__(self, patch: int, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, patch, stride=patch)

    def forward(self, images_BCHW: Tensor) -> Tensor:
        """(B, G * G, D)."""
        return cast(Tensor, self.proj(images_BCHW)).flatten(2).transpose(1, 2)


class VisionTransformer(nn.Module):
    """(B, 3, px, px) to (B, width). Weights are drawn from PyTorch's generator.

    ``last_block`` is the name of its last block, for what trains that alone.
    """

    def __init__(self, shape: VitShape) -> None:
        super().__init__()
        self.shape = shape
        self.patch_embed = _Patches(shape.patch, shape.width)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, shape.width))
        positions = shape.grid**2 + shape.class_position
        self.pos_embed = nn.Parameter(torch.randn(1, positions, shape.width) * _INITIAL_STD)
        if shape.registers:
            self.register_tokens = nn.Parameter(torch.zeros(1, shape.registers, shape.width))
        self.blocks = nn.ModuleList(_Block(shape) for _ in range(shape.depth))
        self.norm = nn.LayerNorm(shape.width, eps=_NORM_EPS)

    @property
    def last_block(self) -> str:
        return f"blocks.{self.shape.depth - 1}"

    def forward(self, images_BCHW: Tensor) -> Tensor:
        patches_BTD = self.patch_embed(images_BCHW)
        token_11D: Tensor = self.cls_token
        if self.shape.class_position:
            token_11D = token_11D + self.pos_embed[:, :1]
        patches_BTD = patches_BTD + self.pos_embed[:, int(self.shape.class_position) :]
        first: list[Tensor] = [token_11D, self.register_tokens] if self.shape.registers else [token_11D]
        first_BTD = torch.cat(first, dim=1).expand(len(patches_BTD), -1, -1)
        tokens_BTD = torch.cat([first_BTD, patches_BTD], dim=1)
        for block in self.blocks:
            tokens_BTD = block(tokens_BTD)
        if self.shape.pool == "mean":
            return cast(Tensor, self.norm(tokens_BTD[:, 1 + self.shape.registers :].mean(dim=1)))
        return cast(Tensor, self.norm(tokens_BTD[:, 0]))


def resampled_positions(positions_1TD: Tensor, grid: int, *, offset: float, antialias: bool) -> Tensor:
    """Positions of a square grid, for a grid of another side; bicubic. A class token's position in front is kept.

    Args:
        positions_1TD: (1, T, D); T is a square number, or one more for the class token.
        grid: patches along a side of the new grid.
        offset: added to the new side where the scale is computed, as DINO's and DINOv2's code do (0.1); 0 for none.
        antialias: whether a smaller grid is smoothed.

    Returns:
        (1, grid * grid or one more, D); the same tensor where nothing is to be done.

    Raises:
        ValueError: T is neither a square number nor one more.
    """
    has_class = has_class_position(positions_1TD)
    whole = int((positions_1TD.shape[1] - has_class) ** 0.5)
    if whole == grid:
        return positions_1TD
    first_1TD, patches_1TD = positions_1TD[:, :has_class], positions_1TD[:, has_class:]
    map_1DGG = patches_1TD.float().transpose(1, 2).unflatten(2, (whole, whole))
    if offset:
        scale = (grid + offset) / whole
        new_1DGG = functional.interpolate(map_1DGG, scale_factor=(scale, scale), mode="bicubic", antialias=antialias)
    else:
        new_1DGG = functional.interpolate(map_1DGG, size=(grid, grid), mode="bicubic", antialias=antialias)
    return torch.cat([first_1TD, new_1DGG.flatten(2).transpose(1, 2).to(first_1TD.dtype)], dim=1)


def has_class_position(positions_1TD: Tensor) -> bool:
    """Whether the first of these positions is the class token's.

    Raises:
        ValueError: there are neither a square number of positions nor one more.
    """
    count = positions_1TD.shape[1]
    for has_class in (False, True):
        if round((count - has_class) ** 0.5) ** 2 == count - has_class:
            return has_class
    raise ValueError(f"{count} positions are neither a square grid nor one with a class token")
