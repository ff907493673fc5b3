"""The contrastive loss against numbers that an independent script computed in float64."""

import math

import pytest
import torch
from torch.nn import functional

from trainables.maths import contrastive

Z_MD = functional.normalize(
    torch.tensor(
        [[-2, 1, -3, 0.5], [0.5, 3, -1, 2], [2, -2, 1, -3], [-3, 0.5, 3, -1]],
        dtype=torch.float64,
    ),
    dim=1,
)


@pytest.mark.parametrize(("symmetric", "expected"), [(False, 2.1167815075), (True, 1.8099738949)])
def test_nt_xent_equals_the_golden_number(symmetric: bool, expected: float) -> None:
    loss = contrastive.nt_xent(Z_MD[:2], Z_MD[2:], temperature=0.5, symmetric=symmetric)
    assert float(loss) == pytest.approx(expected, abs=1e-6)


def test_nt_xent_of_two_orthogonal_images_leaves_an_anchor_one_positive_and_two_negatives() -> None:
    # Each anchor: positive 1 / 0.5 = 2, two negatives 0, itself left out: log(e^2 + 2) - 2.
    z_BD = torch.eye(2, dtype=torch.float64)
    loss = contrastive.nt_xent(z_BD, z_BD, temperature=0.5, symmetric=True)
    assert float(loss) == pytest.approx(math.log(math.exp(2) + 2) - 2)


def test_nt_xent_does_not_count_the_anchor_itself() -> None:
    z_BD = torch.tensor([[1.0, 0.0]])
    assert float(contrastive.nt_xent(z_BD, -z_BD, temperature=0.1, symmetric=False)) == 0.0


def test_nt_xent_sends_a_gradient_into_both_views() -> None:
    z0_BD, z1_BD = (Z_MD[rows].clone().requires_grad_() for rows in (slice(0, 2), slice(2, 4)))
    loss = contrastive.nt_xent(z0_BD, z1_BD, temperature=0.5, symmetric=False)
    assert all(bool(gradient_BD.any()) for gradient_BD in torch.autograd.grad(loss, [z0_BD, z1_BD]))


def test_alignment_is_the_mean_squared_distance() -> None:
    # Rows are at squared distances 0 and 2.
    z0_BD, z1_BD = torch.tensor([[1.0, 0.0], [1.0, 0.0]]), torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    assert float(contrastive.alignment(z0_BD, z1_BD)) == 1.0


def test_views_of_different_shapes_are_refused_with_both_shapes() -> None:
    with pytest.raises(ValueError, match=r"one shape, but are \(2, 4\) and \(1, 4\)"):
        contrastive.nt_xent(Z_MD[:2], Z_MD[2:3], temperature=0.5, symmetric=False)


def unit(rows: list[list[float]]) -> torch.Tensor:
    return functional.normalize(torch.tensor(rows, dtype=torch.float64), dim=1)


def test_queue_nce_equals_the_golden_number() -> None:
    loss = contrastive.queue_nce(
        unit([[1, 2], [2, -1]]), unit([[1, 1], [2, 0]]), unit([[1, -1], [-1, 2], [0, 1]]), temperature=0.2
    )
    assert float(loss) == pytest.approx(0.7504046108, abs=1e-6)


def test_queue_nce_equals_its_sum_written_out() -> None:
    query, key, queue = (
        unit(torch.randn(n, 3, generator=torch.Generator().manual_seed(n)).tolist()) for n in (4, 4, 7)
    )
    key = key.flip(0)
    terms = []
    for q, k in zip(query, key, strict=True):
        own = math.exp(float(q @ k) / 0.3)
        terms.append(-math.log(own / (own + sum(math.exp(float(q @ n) / 0.3) for n in queue))))
    assert float(contrastive.queue_nce(query, key, queue, temperature=0.3)) == pytest.approx(sum(terms) / 4, abs=1e-12)


def test_queue_nce_sends_its_gradient_into_the_queries_alone() -> None:
    query, key = (unit([[1, 2], [2, -1]]).requires_grad_() for _ in range(2))
    contrastive.queue_nce(query, key, unit([[0, 1]]), temperature=0.2).backward()
    assert query.grad is not None and key.grad is None


def by_hand(z_MD: torch.Tensor, labels_M: list[int], temperature: float) -> float:
    """Khosla et al. 2020, Eq. 2, one anchor and one positive at a time."""
    rows, terms = range(len(labels_M)), []
    for anchor in rows:
        exps = {j: math.exp(float(z_MD[anchor] @ z_MD[j]) / temperature) for j in rows if j != anchor}
        positives = [j for j in exps if labels_M[j] == labels_M[anchor]]
        terms.append(-sum(math.log(exps[j] / sum(exps.values())) for j in positives) / len(positives))
    return sum(terms) / len(terms)


@pytest.mark.parametrize("labels", [[0, 0, 1], [2, 2, 2], [0, 1, 2]])
def test_the_supervised_loss_is_its_equation_written_out(labels: list[int]) -> None:
    z_BD = functional.normalize(torch.randn(6, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64))
    loss = contrastive.supervised_nt_xent(z_BD[:3], z_BD[3:], torch.tensor(labels), temperature=0.07)
    assert float(loss) == pytest.approx(by_hand(z_BD, labels * 2, 0.07), abs=1e-9)


def test_the_supervised_loss_of_different_labels_is_nt_xent() -> None:
    views = (Z_MD[:2], Z_MD[2:])
    loss = contrastive.supervised_nt_xent(*views, torch.tensor([4, 1]), temperature=0.5)
    assert float(loss) == pytest.approx(1.8099738949, abs=1e-6)


def test_one_labeled_image_has_its_other_view_to_find_and_nothing_else() -> None:
    z_BD = torch.tensor([[0.6, 0.8]], requires_grad=True)
    loss = contrastive.supervised_nt_xent(z_BD, torch.tensor([[1.0, 0.0]]), torch.tensor([0]), temperature=0.07)
    loss.backward()
    assert float(loss.detach()) == 0.0 and z_BD.grad is not None and bool(z_BD.grad.isfinite().all())


@pytest.mark.parametrize(("images", "labels"), [(0, 0), (2, 1)])
def test_the_supervised_loss_refuses_no_image_and_another_number_of_labels(images: int, labels: int) -> None:
    z_BD = torch.ones(images, 3)
    with pytest.raises(ValueError, match=f"a label for each of one image or more, but {labels} came"):
        contrastive.supervised_nt_xent(z_BD, z_BD, torch.zeros(labels, dtype=torch.long), temperature=0.1)
