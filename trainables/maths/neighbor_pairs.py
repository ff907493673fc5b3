"""Which neighbor an image is paired with.

Axes: N images, B anchors of a rank's batch, T of the whole batch, K neighbors.
"""

import torch
from torch import Tensor


def of_the_same_class(neighbors_NK: Tensor, labels_N: Tensor) -> tuple[Tensor, Tensor]:
    """A neighbor table without false positives: rows begin with the image itself and the neighbors of its class.

    Args:
        neighbors_NK: int64, column 0 is the row itself.
        labels_N: int64, -1 where unknown; such an image keeps only itself.

    Returns:
        (table_NK, count_N): the same rows reordered, the right ones first and nearest first, and how many they are.

    Source: SCAN, Fig. 8 (an upper bound, since it looks at labels).
    """
    right_NK = (labels_N[neighbors_NK] == labels_N[:, None]) & (labels_N >= 0)[:, None]
    right_NK[:, 0] = True
    order_NK = right_NK.int().argsort(dim=1, descending=True, stable=True)
    return neighbors_NK.gather(1, order_NK), right_NK.sum(dim=1)


def draw_one(own_BK: Tensor, count_B: Tensor, unit_B: Tensor, *, with_self: bool) -> Tensor:
    """(B, 1) partners, each uniform over the first ``count`` columns of its row.

    Args:
        unit_B: uniform in [0, 1), one for each row.
        with_self: whether column 0, the image itself, may be drawn; a row that has nothing else is paired with itself.
    """
    lowest_B = torch.zeros_like(count_B) if with_self else (count_B > 1).to(count_B.dtype)
    # The product of a float32 just below 1 and the number can round up to the number itself.
    column_B = torch.minimum(lowest_B + (unit_B * (count_B - lowest_B)).long(), count_B - 1)
    return own_BK.gather(1, column_B[:, None])
