"""Contrastive losses: SimCLR against the batch, the same with labels, MoCo against a queue, and two views' alignment.

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


def supervised_nt_xent(z0_BD: Tensor, z1_BD: Tensor, labels_B: Tensor, *, temperature: float) -> Tensor:
    """``nt_xent`` in which all views of all images with an anchor's label are to be found, and not its own other alone.

    Args:
        z0_BD, z1_BD: as there.
        labels_B: int64, the class of each image.
        temperature: divides the cosines; above 0.

    Returns:
        The mean over both views of all images and, of each, over what is to be found: a scalar in nats. With all labels
        different it is the symmetric ``nt_xent``.

    Raises:
        ValueError: the two views differ in shape, or there is no image or not a label for each.

    Source: Khosla et al. 2020 (supervised contrastive learning), Eq. 2.
    """
    _same_shape(z0_BD, z1_BD)
    if not len(z0_BD) or labels_B.shape != z0_BD.shape[:1]:
        raise ValueError(f"there must be a label for each of one image or more, but {len(labels_B)} came.")
    both_MD = torch.cat([z0_BD, z1_BD])
    itself_MM = torch.eye(len(both_MD), dtype=torch.bool, device=both_MD.device)
    log_share_MM = (both_MD @ both_MD.T / temperature).masked_fill(itself_MM, -torch.inf).log_softmax(1)
    labels_M = labels_B.repeat(2)
    wanted_MM = (labels_M[:, None] == labels_M) & ~itself_MM
    return -(log_share_MM.masked_fill(~wanted_MM, 0.0).sum(1) / wanted_MM.sum(1)).mean()


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
