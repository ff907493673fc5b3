"""Thumbnails as sprites: a hundred images in one WebP file, in base64, to be decoded when a page of them is shown.

Axes: B images, C channels, H height, W width, T tiles.
"""

import base64
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional

from .arrangement import Arrangement, shares

TILE_PX = 64
"""Side of a thumbnail at most; smaller images keep their size."""
COLUMNS = 10
TILES = COLUMNS * COLUMNS
MOST = 20_000
"""Thumbnails in one gallery, those of the least certain images not counted."""
MOST_BYTES = 24 * 2**20
"""Of all thumbnails in base64, about: a gallery must open in a few seconds."""
QUALITY = 75

Pixels = Callable[[NDArray[np.int64]], Tensor]
"""Rows of the table (int64) to their images, uint8 (B, C, H, W)."""


@dataclass(frozen=True)
class Thumbnails:
    """Sprites of one gallery.

    tile_px: side of a tile. columns: tiles beside each other. of_clusters: WebP files in base64 with the first
    ``counts[k]`` images of each cluster, cluster after cluster. of_uncertain: likewise of the least certain images.
    counts: by cluster, in the order of the arrangement.
    """

    tile_px: int
    columns: int
    of_clusters: tuple[str, ...]
    of_uncertain: tuple[str, ...]
    counts: tuple[int, ...]


NONE = Thumbnails(1, COLUMNS, (), (), ())
"""Of what has no images."""


def draw(arrangement: Arrangement, pixels: Pixels, *, most: int = MOST, most_bytes: int = MOST_BYTES) -> Thumbnails:
    """Make the sprites of a gallery; where they would be too many, of the most typical images of each cluster.

    Args:
        most: thumbnails of clusters at most.
        most_bytes: of all thumbnails, about.
    """
    rows_N = arrangement.rows_N
    spread = np.unique(np.linspace(0, len(rows_N) - 1, min(len(rows_N), TILES)).astype(np.int64))
    tile_px, sample = _sprite(pixels(rows_N[spread]))
    fit = most_bytes * len(spread) // max(1, len(sample))
    counts = shares(arrangement.sizes, max(0, min(most, fit - len(arrangement.uncertain_U))))
    chosen: list[NDArray[np.int64]] = []
    first = 0
    for size, count in zip(arrangement.sizes, counts, strict=True):
        chosen.append(rows_N[first : first + count])
        first += size
    return Thumbnails(
        tile_px,
        COLUMNS,
        tuple(_sprites(np.concatenate(chosen), pixels)),
        tuple(_sprites(rows_N[arrangement.uncertain_U], pixels)),
        counts,
    )


def _sprites(rows_T: NDArray[np.int64], pixels: Pixels) -> Iterator[str]:
    for first in range(0, len(rows_T), TILES):
        yield _sprite(pixels(rows_T[first : first + TILES]))[1]


def _sprite(images_BCHW: Tensor) -> tuple[int, str]:
    """(side of a tile, the WebP file in base64) of at most ``TILES`` images."""
    side = min(TILE_PX, images_BCHW.shape[-1])
    if images_BCHW.shape[-1] > side:
        small_BCHW = functional.interpolate(images_BCHW.float(), (side, side), mode="area")
        images_BCHW = small_BCHW.round().to(torch.uint8)
    # WebP has three colors; a gray image, or one of two channels, shows its first.
    channels: Sequence[int] = (0, 1, 2) if images_BCHW.shape[1] >= 3 else (0, 0, 0)
    num_rows = -(-len(images_BCHW) // COLUMNS)
    sheet = torch.zeros((num_rows * COLUMNS, side, side, 3), dtype=torch.uint8)
    sheet[: len(images_BCHW)] = images_BCHW[:, list(channels)].permute(0, 2, 3, 1).cpu()
    sheet_HWC = sheet.view(num_rows, COLUMNS, side, side, 3).transpose(1, 2).reshape(num_rows * side, -1, 3)
    buffer = io.BytesIO()
    Image.fromarray(sheet_HWC.numpy()).save(buffer, "WEBP", quality=QUALITY, method=2)
    return side, base64.b64encode(buffer.getvalue()).decode("ascii")
