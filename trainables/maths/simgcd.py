"""SimGCD: a classifier that learns new categories from its own sharpened predictions, beside known ones from labels.

Two views of an image predict each other (``sinkhorn.swapped_prediction`` with ``teacher`` in the place of codes), and
the mean prediction is kept from falling on a few categories. ``contrastive`` holds both contrastive terms.

Axes: T images of a batch, C categories.
"""

import math

from torch import Tensor

from . import scan_loss


def teacher_temperature(epoch: int, *, start: float, end: float, warmup: int) -> float:
    """A straight line from ``start`` at epoch 0 to ``end`` at epoch warmup - 1, and ``end`` from there on.

    Args:
        epoch: counted from 0.
        warmup: epochs of the line; below 2 there is none.

    Source: the public code of SimGCD, after that of DINO.
    """
    return start + (end - start) * min(1.0, epoch / (warmup - 1)) if warmup > 1 else end


def teacher(logits_TC: Tensor, *, temperature: float) -> Tensor:
    """Predictions as targets: softmax(logits / temperature), without gradient. Source: Wen et al. 2023 (SimGCD)."""
    return (logits_TC.detach() / temperature).softmax(1)


def mean_entropy_gap(logits_TC: Tensor, *, temperature: float) -> Tensor:
    """log C minus the entropy of the mean prediction of all rows: a scalar, at least 0 nats.

    0 where all categories are predicted alike often. Source: Wen et al. 2023 (SimGCD), after Assran et al. 2022 (masked
    siamese networks).
    """
    probabilities_TC = (logits_TC / temperature).softmax(1)
    return math.log(probabilities_TC.shape[1]) - scan_loss.mean_entropy(probabilities_TC)
