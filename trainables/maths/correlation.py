"""What confident predictions say about each other: a graph of alike images, labels, and the losses that follow them.

Source: DCCM sections 3.1 to 3.3 (thresholds are reached with ">=", as in DCCM's code).

The losses are written with their gradients: PyTorch would launch some hundred operations on a few thousand numbers in
every step. What is no number goes through them, and whoever takes the steps finds it: PyTorch's own cross entropies
raise on a CPU, and end the process's use of a GPU.

Axes: B images of a batch, C clusters. Every ``predictions_BC`` holds probabilities in its rows.
"""

from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional

SMALLEST_DIVISOR = 1e-6
SMALLEST_LENGTH = 1e-12
SMALLEST_LOG = -100.0
"""Of a probability of 0, as in PyTorch."""
SMALLEST_SLOPE = 1e-12

LabelLoss = Literal["bce", "ce"]


def cosine_similarities(predictions_BC: Tensor) -> Tensor:
    """(B, B) cosines between the rows; in [0, 1] for probabilities, up to rounding."""
    unit_BC = functional.normalize(predictions_BC, dim=1, eps=SMALLEST_LENGTH)
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
        normalize_similarity: divide the cosines by the largest of the batch first, as DCCM's code does. The largest is
            that of an image with itself, 1 but for rounding, so it counts as a constant.
    """
    loss: Tensor = _GraphLoss.apply(predictions_BC, linked_BB, normalize_similarity)
    return loss


def label_loss(predictions_BC: Tensor, label_B: Tensor, confident_B: Tensor, *, form: LabelLoss = "bce") -> Tensor:
    """Loss of the confident images against their labels, over all B images; in nats, 0 where none is confident.

    Args:
        label_B: int64. confident_B: bool; both from ``pseudo_labels`` of the untransformed images.
        form: "bce" averages a binary cross entropy over the clusters (DCCM's code), "ce" is the text's cross entropy.
    """
    num_images, num_clusters = predictions_BC.shape
    if form == "bce":
        wanted_BC = functional.one_hot(label_B, num_clusters).to(predictions_BC.dtype)
        weight_B1 = confident_B[:, None].to(predictions_BC.dtype) / (num_images * num_clusters)
        loss: Tensor = _BinaryCrossEntropy.apply(predictions_BC, wanted_BC, weight_B1)
        return loss
    log_B = predictions_BC.gather(1, label_B[:, None]).squeeze(1).clamp(min=1e-12).log()
    return -(log_B * confident_B).sum() / num_images


def consistency_loss(predictions_BC: Tensor, plain_BC: Tensor) -> Tensor:
    """Mean binary cross entropy between predictions and those of the plain images, which get no gradient (DAC)."""
    weight_11 = predictions_BC.new_full((1, 1), 1 / predictions_BC.numel())
    loss: Tensor = _BinaryCrossEntropy.apply(predictions_BC, plain_BC, weight_11)
    return loss


def invariance_loss(predictions_BC: Tensor, plain_BC: Tensor) -> Tensor:
    """Mean l2 norm of the difference between predictions of transformed and of plain images (L_r of section 3.3)."""
    distance_B: Tensor = torch.linalg.vector_norm(predictions_BC - plain_BC, dim=1)
    return distance_B.mean()


class _BinaryCrossEntropy(torch.autograd.Function):
    """The sum of weight * binary cross entropy; no gradient to the target and the weight."""

    @staticmethod
    def forward(ctx: Any, predictions_BC: Tensor, target_BC: Tensor, weight_BC: Tensor) -> Tensor:
        ctx.save_for_backward(predictions_BC, target_BC, weight_BC)
        return (_cross_entropy(predictions_BC, target_BC) * weight_BC).sum()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        predictions_BC, target_BC, weight_BC = ctx.saved_tensors
        return _slope(predictions_BC, target_BC).mul_(weight_BC).mul_(gradient), None, None


class _GraphLoss(torch.autograd.Function):
    """See ``graph_loss``."""

    @staticmethod
    def forward(ctx: Any, predictions_BC: Tensor, linked_BB: Tensor, normalize_similarity: bool) -> Tensor:
        length_B1 = torch.linalg.vector_norm(predictions_BC, dim=1, keepdim=True).clamp_(min=SMALLEST_LENGTH)
        unit_BC, target_BB = predictions_BC / length_B1, linked_BB.to(predictions_BC.dtype)
        cosine_BB = unit_BC @ unit_BC.T
        largest = cosine_BB.max().clamp_(min=SMALLEST_DIVISOR) if normalize_similarity else cosine_BB.new_ones(())
        similarity_BB = cosine_BB.div_(largest).clamp_(0, 1)
        ctx.save_for_backward(length_B1, unit_BC, target_BB, similarity_BB, largest)
        return _cross_entropy(similarity_BB, target_BB).mean()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        length_B1, unit_BC, target_BB, similarity_BB, largest = ctx.saved_tensors
        slope_BB = _slope(similarity_BB, target_BB)
        # Links are symmetric where the graph is one; a graph that is not has both of its halves.
        along_BC = (slope_BB + slope_BB.T) @ unit_BC
        tangent_BC = along_BC - unit_BC * (along_BC * unit_BC).sum(dim=1, keepdim=True)
        scale = gradient / (slope_BB.numel() * largest)
        return tangent_BC.div_(length_B1).mul_(scale), None, None


def _cross_entropy(predictions: Tensor, target: Tensor) -> Tensor:
    """Binary cross entropy of each element; its logarithms end at SMALLEST_LOG."""
    own, other = predictions.log().clamp_(min=SMALLEST_LOG), torch.log1p(-predictions).clamp_(min=SMALLEST_LOG)
    return torch.lerp(other, own, target).neg_()


def _slope(predictions: Tensor, target: Tensor) -> Tensor:
    """The derivative of ``_cross_entropy`` by the prediction."""
    return (predictions - target).div_((predictions * (1 - predictions)).clamp_(min=SMALLEST_SLOPE))
