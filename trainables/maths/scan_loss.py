"""SCAN's clustering loss: neighbors agree, clusters are used alike.

Axes: B anchors of a batch, N images, C clusters, K neighbors of an image. Further axes in front, such as one of heads,
stay as they are: every head has its own loss.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

Agreement = Literal["dot", "ce"]

SMALLEST_LOG_AGREEMENT = -100.0
"""log of the agreement never counts below this, so that a pair's loss is at most 100 and its gradient finite."""

SMALLEST_MEAN_PROBABILITY = 1e-8

_CHUNK_ELEMENTS = 1 << 22


def neighbor_disagreement(logits_BC: Tensor, neighbor_logits_BC: Tensor) -> Tensor:
    """-log of the probability that an image and its neighbor share a cluster: shape (..., B), nats, in [0, 100].

    Computed from log probabilities: a product of two small numbers cannot underflow. float16 and bfloat16 are widened.

    Raises:
        ValueError: the two differ in shape.

    Source: SCAN, Eq. 2, first term.
    """
    if logits_BC.shape != neighbor_logits_BC.shape:
        raise ValueError(
            f"logits and neighbor logits must have one shape, but are {tuple(logits_BC.shape)} and "
            f"{tuple(neighbor_logits_BC.shape)}; row i of the second must be a neighbor of image i."
        )
    log_joint_BC = _log_softmax(logits_BC) + _log_softmax(neighbor_logits_BC)
    return -torch.logsumexp(log_joint_BC, dim=-1).clamp(min=SMALLEST_LOG_AGREEMENT)


def neighbor_cross_entropy(logits_BC: Tensor, target_logits_BC: Tensor) -> Tensor:
    """Cross entropy of an image's prediction against its neighbor's: shape (..., B), nats; the neighbor's is fixed."""
    targets_BC = _log_softmax(target_logits_BC).exp().detach()
    return -(targets_BC * _log_softmax(logits_BC)).sum(-1)


def mean_entropy(probabilities_BC: Tensor) -> Tensor:
    """Entropy of the mean prediction: shape (...), in [0, log C] nats. Source: SCAN, Eq. 2, second term."""
    mean_C = probabilities_BC.mean(dim=-2).clamp(min=SMALLEST_MEAN_PROBABILITY)
    return -(mean_C * mean_C.log()).sum(-1)


def prior_divergence(probabilities_BC: Tensor, prior_C: Tensor) -> Tensor:
    """KL(mean prediction || prior): shape (...), at least 0 nats.

    Args:
        probabilities_BC: shape (..., B, C); rows are probabilities.
        prior_C: the known share of each cluster; every entry above 0, the sum one.

    Raises:
        ValueError: the prior has another number of clusters.
    """
    if prior_C.shape != probabilities_BC.shape[-1:]:
        raise ValueError(
            f"the prior must have one entry for each of the {probabilities_BC.shape[-1]} clusters, "
            f"but has shape {tuple(prior_C.shape)}."
        )
    mean_C = probabilities_BC.mean(dim=-2).clamp(min=SMALLEST_MEAN_PROBABILITY)
    return (mean_C * (mean_C.log() - prior_C.to(mean_C).log())).sum(-1)


def scan_loss(
    logits_BC: Tensor,
    *neighbor_logits_BC: Tensor,
    entropy_weight: float,
    prior_C: Tensor | None = None,
    weights: Sequence[Tensor] | None = None,
    agreement: Agreement = "dot",
) -> tuple[Tensor, Tensor, Tensor]:
    """SCAN's loss of a batch of anchors with one or more neighbors each.

    Args:
        logits_BC: the anchors', shape (..., B, C).
        neighbor_logits_BC: of the same shape; row i of each belongs to a neighbor of image i.
        entropy_weight: how much the entropy of the anchors' mean prediction counts (the paper's lambda); at least 0.
        prior_C: the known share of each cluster; then KL(mean prediction || prior) takes the place of the negative
            entropy, with the same weight.
        weights: for each neighbor, of every pair's term: shape (..., B), at least 0; None for ones.
        agreement: -log of the dot product, or the cross entropy with the neighbor as a fixed target.

    Returns:
        (total, consistency, entropy) in nats, each of shape (...). The neighbors' terms are summed, the anchors'
        entropy counts once: total = consistency - entropy_weight * entropy.

    Raises:
        ValueError: shapes that do not fit each other.

    Source: SCAN, Eq. 2 and the remark on a known prior in section 2.2. Differs: the mean is over the batch, as its
    authors ran it, not over the data set.
    """
    measure = neighbor_disagreement if agreement == "dot" else neighbor_cross_entropy
    terms = [measure(logits_BC, each) for each in neighbor_logits_BC]
    if weights is not None:
        terms = [term_B * weights_B for term_B, weights_B in zip(terms, weights, strict=True)]
    consistency = torch.stack([term_B.mean(-1) for term_B in terms]).sum(0)
    probabilities_BC = _log_softmax(logits_BC).exp()
    entropy = mean_entropy(probabilities_BC)
    imbalance = -entropy if prior_C is None else prior_divergence(probabilities_BC, prior_C)
    return consistency + entropy_weight * imbalance, consistency, entropy


@torch.no_grad()
def selection_loss(probabilities_NC: Tensor, neighbors_NK: Tensor, entropy_weight: float = 1.0) -> float:
    """The label-free number by which SCAN chooses its epoch and its head; smaller is better.

    Args:
        probabilities_NC: rows are probabilities.
        neighbors_NK: integers of shape (N, K), indices of rows; the image itself counts if it is among them.
        entropy_weight: 1 whatever the training used, as in SCAN.

    Returns:
        Mean disagreement over all N * K pairs minus entropy_weight times the entropy of the mean prediction, in nats.

    Raises:
        ValueError: the table has another number of rows.

    Never holds more than about four million products at once.
    """
    if len(neighbors_NK) != len(probabilities_NC):
        raise ValueError(
            f"the neighbor table must have one row for each of the {len(probabilities_NC)} images, "
            f"but has {len(neighbors_NK)}; it must be mined within the same split."
        )
    num_images, num_neighbors = neighbors_NK.shape
    num_rows = max(1, _CHUNK_ELEMENTS // (num_neighbors * probabilities_NC.shape[1]))
    total = torch.zeros((), dtype=torch.float64, device=probabilities_NC.device)
    for start in range(0, num_images, num_rows):
        own_BC = probabilities_NC[start : start + num_rows]
        theirs_BKC = probabilities_NC[neighbors_NK[start : start + num_rows]]
        agreement_BK = torch.einsum("bc,bkc->bk", own_BC, theirs_BKC)
        total += agreement_BK.log().clamp_(min=SMALLEST_LOG_AGREEMENT).sum(dtype=torch.float64)
    disagreement = -total / neighbors_NK.numel()
    return float(disagreement - entropy_weight * mean_entropy(probabilities_NC.double()))


def _log_softmax(logits_BC: Tensor) -> Tensor:
    return torch.log_softmax(logits_BC, dim=-1, dtype=torch.promote_types(logits_BC.dtype, torch.float32))
