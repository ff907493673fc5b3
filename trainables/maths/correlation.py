"""What confident predictions say about each other: a graph of alike images, labels, and the losses that follow them.

Source: DCCM sections 3.1 to 3.3 (thresholds are reached with ">=", as in DCCM's code).

Axes: B images of a batch, C clusters. Every ``predictions_BC`` holds probabilities in its rows.
"""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

SMALLEST_DIVISOR = 1e-6

LabelLoss = Literal["bce", "ce"]


def cosine_similarities(predictions_BC: Tensor) -> Tensor:
    """(B, B) cosines between the rows; in [0, 1] for probabilities, up to rounding."""
    unit_BC = functional.normalize(predictions_BC, dim=1)
    return unit_BC @ unit_BC.T


def pseudo_graph(predictions_BC: Tensor, threshold: float) -> Tensor:
    """bool (B, B): images whose cosine reaches the threshold; each image links to itself. Not transitive."""
    linked_BB = cosine_similarities(predictions_BC) >= threshold
    return linked_BB.fill_diagonal_(True)


def pseudo_labels(predictions_BC: Tensor, threshold: float) -> tuple[Tensor, Tensor]:
    """int64 (B,) most probable cluster, and bool (B,): whether its probability reaches the threshold."""
    confidence_B, label_B = predictions_BC.max(dim=1)
    return label_B, confidence_B >= threshold


def graph_loss(predictions_BC: Tensor, linked_BB: Tensor, *, normalize_similarity: bool = True) -> Tensor:
    """Mean binary cross entropy between cosines and links over all B * B pairs, the diagonal included; in nats.

    Args:
        linked_BB: bool, from ``pseudo_graph`` of the untransformed images.
        normalize_similarity: divide the cosines by the largest of the batch first, as DCCM's code does.
    """
    similarity_BB = cosine_similarities(predictions_BC)
    if normalize_similarity:
        similarity_BB = similarity_BB / similarity_BB.max().clamp(min=SMALLEST_DIVISOR)
    return functional.binary_cross_entropy(similarity_BB.clamp(0, 1), linked_BB.to(similarity_BB.dtype))


def label_loss(predictions_BC: Tensor, label_B: Tensor, confident_B: Tensor, *, form: LabelLoss = "bce") -> Tensor:
    """Loss of the confident images against their labels, over all B images; in nats, 0 where none is confident.

    Args:
        label_B: int64. confident_B: bool; both from ``pseudo_labels`` of the untransformed images.
        form: "bce" averages a binary cross entropy over the clusters (DCCM's code), "ce" is the text's cross entropy.
    """
    wanted_BC = functional.one_hot(label_B, predictions_BC.shape[1]).to(predictions_BC.dtype)
    if form == "bce":
        each_B = functional.binary_cross_entropy(predictions_BC, wanted_BC, reduction="none").mean(dim=1)
    else:
        each_B = -(wanted_BC * predictions_BC.clamp(min=1e-12).log()).sum(dim=1)
    return torch.where(confident_B, each_B, 0).mean()
