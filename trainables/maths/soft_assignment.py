"""Soft assignment to centers, its sharpened target, and the divergence between them (DEC Eqs. 1 to 3).

Axes: N or B images, E embedding width, C clusters.
"""

import torch
from torch import Tensor

SMALLEST = 1e-12


def student_t(embedding_BE: Tensor, centers_CE: Tensor, dof: float = 1.0) -> Tensor:
    """(B, C) rows of probabilities: Student's t kernel with ``dof`` degrees of freedom (DEC Eq. 1)."""
    squared_BC = (embedding_BE[:, None] - centers_CE[None]).square().sum(2)
    return (-(dof + 1) / 2 * torch.log1p(squared_BC / dof)).softmax(1)


def target(q_NC: Tensor) -> Tensor:
    """(N, C) target: squared assignments over the clusters' sizes, rows summing to 1 (DEC Eq. 3); without gradients."""
    q_NC = q_NC.detach()
    weight_NC = q_NC.square() / q_NC.sum(0).clamp_min(SMALLEST)
    return weight_NC / weight_NC.sum(1, keepdim=True).clamp_min(SMALLEST)


def divergence(p_BC: Tensor, q_BC: Tensor) -> Tensor:
    """(B,) KL(p || q) of each row (DEC Eq. 2), 0 log 0 being 0."""
    return (torch.xlogy(p_BC, p_BC) - p_BC * q_BC.clamp_min(SMALLEST).log()).sum(1)
