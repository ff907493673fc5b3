"""The contrastive loss against numbers that an independent script computed in float64."""

import math

import pytest
import torch
from torch.nn import functional

from trainables.maths import contrast

Z_MD = functional.normalize(
    torch.tensor(
        [[-2, 1, -3, 0.5], [0.5, 3, -1, 2], [2, -2, 1, -3], [-3, 0.5, 3, -1]],
        dtype=torch.float64,
    ),
    dim=1,
)


@pytest.mark.parametrize(("symmetric", "expected"), [(False, 2.1167815075), (True, 1.8099738949)])
def test_nt_xent_equals_the_golden_number(symmetric: bool, expected: float) -> None:
    loss = contrast.nt_xent(Z_MD[:2], Z_MD[2:], temperature=0.5, symmetric=symmetric)
    assert float(loss) == pytest.approx(expected, abs=1e-6)


def test_nt_xent_of_two_orthogonal_images_leaves_an_anchor_one_positive_and_two_negatives() -> None:
    # Each anchor: positive 1 / 0.5 = 2, two negatives 0, itself left out: log(e^2 + 2) - 2.
    z_BD = torch.eye(2, dtype=torch.float64)
    loss = contrast.nt_xent(z_BD, z_BD, temperature=0.5, symmetric=True)
    assert float(loss) == pytest.approx(math.log(math.exp(2) + 2) - 2)


def test_nt_xent_does_not_count_the_anchor_itself() -> None:
    z_BD = torch.tensor([[1.0, 0.0]])
    assert float(contrast.nt_xent(z_BD, -z_BD, temperature=0.1, symmetric=False)) == 0.0


def test_nt_xent_sends_a_gradient_into_both_views() -> None:
    z0_BD, z1_BD = (Z_MD[rows].clone().requires_grad_() for rows in (slice(0, 2), slice(2, 4)))
    loss = contrast.nt_xent(z0_BD, z1_BD, temperature=0.5, symmetric=False)
    assert all(bool(gradient_BD.any()) for gradient_BD in torch.autograd.grad(loss, [z0_BD, z1_BD]))


def test_alignment_is_the_mean_squared_distance() -> None:
    # Rows are at squared distances 0 and 2.
    z0_BD, z1_BD = torch.tensor([[1.0, 0.0], [1.0, 0.0]]), torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    assert float(contrast.alignment(z0_BD, z1_BD)) == 1.0


def test_views_of_different_shapes_are_refused_with_both_shapes() -> None:
    with pytest.raises(ValueError, match=r"one shape, but are \(2, 4\) and \(1, 4\)"):
        contrast.nt_xent(Z_MD[:2], Z_MD[2:3], temperature=0.5, symmetric=False)
