"""Codes of SwAV: a batch is dealt to prototypes in equal parts, and each view predicts the other's code.

Axes: B images of a batch, K prototypes, A crops that codes are computed of, V crops of an image.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional


@torch.no_grad()
def codes(scores_BK: Tensor, *, epsilon: float, iterations: int) -> Tensor:
    """Soft assignments that use every prototype alike, by Sinkhorn-Knopp.

    The columns of exp(scores / epsilon) are scaled to one sum and then the rows to 1, ``iterations`` times. It is
    done in logarithms, where no score is too large and no epsilon too small.

    Args:
        scores_BK: the whole batch, rows of all ranks; cosines of images and prototypes. float16 and bfloat16 are
            widened.
        epsilon: how soft the codes are; above 0.
        iterations: column-then-row passes, at least 1.

    Returns:
        Shape (B, K), rows sum to 1, without gradient. Columns sum to about B / K, the more nearly the more iterations.
        A batch of one image gives the uniform code.

    Raises:
        ValueError: epsilon is not above 0, or iterations is below 1.

    Source: Caron et al. 2020 (SwAV), Eq. 3 and appendix A; Cuturi 2013.
    """
    if not epsilon > 0 or iterations < 1:
        raise ValueError(f"epsilon must be above 0 and iterations at least 1, but they are {epsilon} and {iterations}.")
    log_BK = scores_BK.to(torch.promote_types(scores_BK.dtype, torch.float32)) / epsilon
    for _ in range(iterations):
        log_BK = log_BK.log_softmax(0)
        log_BK = log_BK.log_softmax(1)
    return log_BK.exp()


def swapped_prediction(
    codes_ABK: Sequence[Tensor],
    scores_VBK: Sequence[Tensor],
    *,
    temperature: float,
    weights_AB: Sequence[Tensor] | None = None,
) -> Tensor:
    """Cross entropy of every crop's prediction against the code of every other crop that has one.

    Args:
        codes_ABK: targets of the first A crops, each (B, K).
        scores_VBK: of all V crops, each (B, K); crop a is the one of code a. V is at least 2.
        temperature: divides the scores; above 0.
        weights_AB: of each image's term under each code, each (B,); None for ones.

    Returns:
        The mean over codes, over the V - 1 other crops of each, and over images: a scalar in nats.

    Raises:
        ValueError: fewer than two crops, or more codes than crops.

    Source: SwAV, Eq. 2 and section 3.2 (multi-crop).
    """
    if len(scores_VBK) < 2 or len(codes_ABK) > len(scores_VBK):
        raise ValueError(
            f"there must be two crops or more and a crop for each code, but {len(scores_VBK)} crops and "
            f"{len(codes_ABK)} codes came."
        )
    predictions = [functional.log_softmax(scores_BK / temperature, dim=1) for scores_BK in scores_VBK]
    terms = []
    for own, code_BK in enumerate(codes_ABK):
        others = [prediction_BK for crop, prediction_BK in enumerate(predictions) if crop != own]
        # Linear in the predictions: their mean costs one product instead of V - 1.
        loss_B = -(code_BK * (torch.stack(others).mean(0))).sum(1)
        terms.append((loss_B if weights_AB is None else loss_B * weights_AB[own]).mean())
    return torch.stack(terms).mean()
