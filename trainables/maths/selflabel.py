"""SCAN's self-labeling loss: confident predictions of a weak view teach the strong view.

Axes: B images of a batch, C clusters.
"""

import torch
from torch import Tensor
from torch.nn import functional


def confident_cross_entropy(
    weak_probabilities_BC: Tensor,
    strong_logits_BC: Tensor,
    *,
    threshold: float,
    balanced: bool,
    weights_B: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Cross entropy of the strong view against the confident labels of the weak view.

    Args:
        weak_probabilities_BC: rows are probabilities; no gradient flows into them.
        strong_logits_BC: the same images, strongly augmented.
        threshold: an image counts if its largest probability is above this (strictly).
        balanced: every label present weighs the same; otherwise every confident image does.
        weights_B: a further factor for each image, above 0; None for ones. A common factor changes nothing, since the
            loss is divided by the sum of the weights that count.

    Returns:
        (loss, confident_B). The loss is a scalar in nats, confident_B is bool. With no confident image the loss is 0
        with zero gradients: it can still be sent backward, as every rank of a worker group must, but no optimizer
        step belongs to it. Read confident_B.any() for that.

    Raises:
        ValueError: the two views differ in shape.

    Source: SCAN, Eq. 3. The class weights n / n_c make the balanced form the mean over the labels of each one's mean.
    """
    if weak_probabilities_BC.shape != strong_logits_BC.shape:
        raise ValueError(
            f"weak probabilities and strong logits must have one shape, but are {tuple(weak_probabilities_BC.shape)} "
            f"and {tuple(strong_logits_BC.shape)}; row i of both must show image i."
        )
    confidence_B, label_B = weak_probabilities_BC.detach().max(dim=1)
    confident_B = confidence_B > threshold
    dtype = torch.promote_types(strong_logits_BC.dtype, torch.float32)
    weight_B = confident_B.to(dtype)
    if balanced:
        count_C = torch.zeros(strong_logits_BC.shape[1], dtype=dtype, device=weight_B.device)
        count_C.index_add_(0, label_B, weight_B)
        weight_B = weight_B / count_C[label_B].clamp(min=1.0)
    if weights_B is not None:
        weight_B = weight_B * weights_B.to(dtype)
    loss_B = functional.cross_entropy(strong_logits_BC.to(dtype), label_B, reduction="none")
    # Without a confident image 0 is divided by a number above 0; asking first would wait for the device at every step.
    return (weight_B * loss_B).sum() / weight_B.sum().clamp(min=torch.finfo(dtype).tiny), confident_B
