"""Contrastive losses: SimCLR against the batch, MoCo against a queue, and the alignment of two views.

Axes: B images of a batch, D feature width, A anchors (B or 2B), M rows of both views (2B), Q keys in the queue.
"""

import torch
from torch import Tensor
from torch.nn import functional


def nt_xent(z0_BD: Tensor, z1_BD: Tensor, *, temperature: float, symmetric: bool) -> Tensor:
    """Normalized, temperature-scaled cross entropy between two views of the same images.

    Each anchor must find its other view among the 2B - 1 rows that are not itself.

    Args:
        z0_BD, z1_BD: floating point of shape (B, D); rows have length one, row i of both shows image i.
        temperature: divides the cosines; above 0.
        symmetric: anchors are both views (2B) instead of view 0 alone (B).

    Returns:
        The mean over the anchors, a scalar in nats. With B = 1 it is 0: there is nothing to tell apart.

    Raises:
        ValueError: the two views differ in shape.

    Source: SimCLR, Eq. 1 (symmetric); SCAN's pretext task trains the one-sided form.
    """
    _same_shape(z0_BD, z1_BD)
    both_MD = torch.cat([z0_BD, z1_BD])
    anchors_AD = both_MD if symmetric else z0_BD
    scores_AM = anchors_AD @ both_MD.T / temperature
    itself_AM = torch.eye(*scores_AM.shape, dtype=torch.bool, device=scores_AM.device)
    other_view_A = (torch.arange(len(anchors_AD), device=scores_AM.device) + len(z0_BD)) % len(both_MD)
    return functional.cross_entropy(scores_AM.masked_fill(itself_AM, -torch.inf), other_view_A)


def queue_nce(query_BD: Tensor, key_BD: Tensor, queue_QD: Tensor, *, temperature: float) -> Tensor:
    """InfoNCE of queries: each must find its own key among the keys in the queue.

    Args:
        query_BD, key_BD: floating point, rows of length one; row i of both shows image i. Keys carry no gradient.
        queue_QD: keys of earlier images, rows of length one.
        temperature: divides the cosines; above 0.

    Returns:
        The mean over the queries, a scalar in nats.

    Raises:
        ValueError: queries and keys differ in shape.

    Source: MoCo, Eq. 1.
    """
    _same_shape(query_BD, key_BD)
    own_B1 = (query_BD * key_BD.detach()).sum(dim=1, keepdim=True)
    scores = torch.cat([own_B1, query_BD @ queue_QD.T], dim=1) / temperature
    return functional.cross_entropy(scores, torch.zeros(len(scores), dtype=torch.long, device=scores.device))


def alignment(z0_BD: Tensor, z1_BD: Tensor) -> Tensor:
    """Mean squared distance between the two views, a scalar; in [0, 4] for rows of length one.

    Raises:
        ValueError: the two views differ in shape.
    """
    _same_shape(z0_BD, z1_BD)
    return (z0_BD - z1_BD).square().sum(dim=1).mean()


def _same_shape(z0_BD: Tensor, z1_BD: Tensor) -> None:
    if z0_BD.shape != z1_BD.shape:
        raise ValueError(
            f"the two views must have one shape, but are {tuple(z0_BD.shape)} and {tuple(z1_BD.shape)}; "
            "row i of both must show image i."
        )
