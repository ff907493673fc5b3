"""How much a pseudo-label is trusted: the distance of an image to its centroid, and the loss it then weighs.

Source: UAD Eq. 15 and 21-23. The paper calls U an uncertainty, but it grows towards the centroid: it is a confidence.

Axes: N images, B batch, C clusters.
"""

import math
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

Direction = Literal["confident_up", "uncertain_up"]
LossForm = Literal["weighted_nll", "double_softmax", "normalized"]


def relative_distances(distances_N: Tensor, labels_N: Tensor, num_clusters: int) -> Tensor:
    """Distances to the own centroid, from 0 (nearest of the cluster) to 1 (farthest) within each cluster (Eq. 22).

    Args:
        distances_N: finite, at least 0. labels_N: int64, below num_clusters; clusters may be empty.

    Returns:
        (N,), same dtype. 0 throughout a cluster of one image, or of images that are equally far; the paper's code
        leaves the raw distance there.
    """
    nearest_C, farthest_C = (
        distances_N.new_full((num_clusters,), start).scatter_reduce_(0, labels_N, distances_N, reduce)
        for start, reduce in ((math.inf, "amin"), (-math.inf, "amax"))
    )
    span_C = farthest_C - nearest_C
    # An empty cluster's span is -inf; nobody asks for it.
    spread_C = torch.where(span_C > 0, span_C, torch.ones_like(span_C))
    # index_select is several times faster here than indexing.
    return (distances_N - nearest_C.index_select(0, labels_N)) / spread_C.index_select(0, labels_N)


def confidence_weights(
    distances_N: Tensor, labels_N: Tensor, num_clusters: int, *, offset: float, direction: Direction
) -> Tensor:
    """U of Eq. 23: 1 - relative distance + offset (gamma), in [offset, 1 + offset]; a lone image gets 1 + offset.

    direction: "uncertain_up" is relative distance + offset, as the last sentence of UAD section 3.3 has it.
    """
    relative_N = relative_distances(distances_N, labels_N, num_clusters)
    return (1 - relative_N if direction == "confident_up" else relative_N) + offset


def cross_entropies(logits_BC: Tensor, labels_B: Tensor, weights_B: Tensor, form: LossForm) -> Tensor:
    """(B,) terms whose mean is the loss.

    weighted_nll: U times the cross-entropy (Eq. 15, with the mean that the code takes instead of the printed sum).
    double_softmax: the paper's figure 7 with DeepCluster's criterion: U scales the target's log-probability, and the
        softmax is taken once more, which gives -U log p_t + log(sum of the others' p + p_t^U).
    normalized: as weighted_nll, for weights that the caller has divided by their mean over the whole batch.
    """
    if form != "double_softmax":
        return weights_B * functional.cross_entropy(logits_BC, labels_B, reduction="none")
    log_BC = functional.log_softmax(logits_BC, dim=1)
    target_B1 = labels_B[:, None]
    scaled_B1 = log_BC.gather(1, target_B1) * weights_B[:, None]
    return functional.cross_entropy(log_BC.scatter(1, target_B1, scaled_B1), labels_B, reduction="none")
