"""DEC's assignment, target and divergence against numbers worked out by hand."""

import pytest
import torch

from trainables.maths import soft_assignment

EMBEDDING = torch.tensor([[0, 0], [1, 0], [0, 2], [3, 1]], dtype=torch.float64)
CENTERS = torch.tensor([[0, 0], [2, 1]], dtype=torch.float64)
Q = torch.tensor([[0.857143, 0.142857], [0.6, 0.4], [0.545455, 0.454545], [0.153846, 0.846154]], dtype=torch.float64)
P = torch.tensor(
    [[0.968530, 0.031470], [0.657949, 0.342051], [0.551783, 0.448217], [0.027485, 0.972515]], dtype=torch.float64
)


def test_golden_numbers() -> None:
    q_NC = soft_assignment.student_t(EMBEDDING, CENTERS)
    p_NC = soft_assignment.target(q_NC)
    assert torch.allclose(q_NC, Q, atol=1e-6, rtol=0) and torch.allclose(p_NC, P, atol=1e-6, rtol=0)
    divergence_N = soft_assignment.divergence(p_NC, q_NC)
    assert float(divergence_N.mean()) == pytest.approx(0.0414884520, abs=1e-9)
    assert float(divergence_N.sum()) == pytest.approx(0.1659538079, abs=1e-9)


@pytest.mark.parametrize("dof", [0.5, 1.0, 5.0])
def test_the_kernel_is_students_t(dof: float) -> None:
    squared_NC = torch.cdist(EMBEDDING, CENTERS).square()
    kernel_NC = (1 + squared_NC / dof) ** (-(dof + 1) / 2)
    wanted = kernel_NC / kernel_NC.sum(1, keepdim=True)
    assert torch.allclose(soft_assignment.student_t(EMBEDDING, CENTERS, dof), wanted, atol=1e-12, rtol=0)


def test_an_empty_cluster_stays_empty_and_finite() -> None:
    p_NC = soft_assignment.target(torch.tensor([[1.0, 0.0], [1.0, 0.0]], dtype=torch.float64))
    assert p_NC.tolist() == [[1.0, 0.0], [1.0, 0.0]]


def test_the_divergence_of_rows_with_zeros_is_finite_and_zero_where_they_agree() -> None:
    rows = torch.tensor([[1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    assert soft_assignment.divergence(rows, rows).tolist() == [0.0, 0.0]
    assert bool(soft_assignment.divergence(rows, rows.flip(0)).isfinite().all())


def test_no_gradient_reaches_the_target() -> None:
    q_NC = soft_assignment.student_t(EMBEDDING, CENTERS.clone().requires_grad_())
    assert q_NC.requires_grad and not soft_assignment.target(q_NC).requires_grad
