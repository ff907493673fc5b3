"""Cluster probabilities of images that a model has not seen.

Axes: N images, B batch, K clusters.
"""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..interfaces import Images

BATCH = 256

Model = Callable[[Tensor], Tensor]
"""uint8 images (B, C, H, W) to probabilities (B, K)."""


Done = Callable[[int], None]
"""Is told after each batch how many images it had."""


def probabilities(
    model: Model, images: Images, *, batch_size: int = BATCH, done: Done = lambda num: None
) -> NDArray[np.float32]:
    """Probabilities of all images, in their order; while a batch is computed the next one is decoded.

    Args:
        model: in eval mode, on the device of the images.
        images: at least one.
        batch_size: images at a time; without effect on the values but for rounding.
        done: called after each batch.

    Returns:
        float32 (N, K).

    Raises:
        DataError: a file cannot be decoded.
        FloatingPointError: a probability is not a finite number.
    """
    parts = []
    with torch.no_grad():
        for first in range(0, len(images), batch_size):
            images_BCHW = images[first : first + batch_size]
            # An exported program has no batch of one: a second copy is computed and dropped.
            num = len(images_BCHW)
            given_BCHW = images_BCHW if num > 1 else images_BCHW.repeat(2, 1, 1, 1)
            parts.append(model(given_BCHW)[:num].float().cpu())
            done(num)
    rows_NK = torch.cat(parts)
    if not bool(rows_NK.isfinite().all()):
        raise FloatingPointError("the model's probabilities are not finite numbers; was it trained to its end?")
    return rows_NK.numpy()
