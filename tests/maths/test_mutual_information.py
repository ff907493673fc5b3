"""Triplets and the Jensen-Shannon loss against worked numbers and loops."""

import math

import pytest
import torch
from torch import Tensor

from trainables.maths.mutual_information import Triplets, draw_triplets, jsd_loss, reference_triplets


def scores(*rows: list[float]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64)[:, :, None, None]


def graph(num: int, seed: int) -> Tensor:
    links_BB = torch.rand(num, num, generator=torch.Generator().manual_seed(seed)) < 0.2
    return (links_BB | links_BB.T).fill_diagonal_(True)


def drawn(linked_BB: Tensor, seed: int = 0) -> Triplets:
    return draw_triplets(linked_BB, torch.rand(linked_BB.shape, generator=torch.Generator().manual_seed(seed)))


def test_the_golden_loss() -> None:
    # Means of softplus(-1), softplus(-2) and of softplus(.5), softplus(-.5): .2200949 and .7240769. A discriminator
    # that is right about the positive pairs scores them above zero.
    loss = jsd_loss(scores([1.0], [2.0], [0.5], [-0.5]), torch.tensor([True]))
    assert float(loss) == pytest.approx(0.9441718335, abs=1e-6)


def test_wrong_signs_cost_their_sum_more() -> None:
    # softplus(x) - softplus(-x) = x, here 1.5 on average.
    loss = jsd_loss(scores([-1.0], [-2.0], [0.5], [-0.5]), torch.tensor([True]))
    assert float(loss) == pytest.approx(0.9441718335 + 1.5, abs=1e-6)


def test_images_that_are_not_usable_do_not_count() -> None:
    both = jsd_loss(scores([1.0, 9.0], [2.0, 9.0], [0.5, 9.0], [-0.5, 9.0]), torch.tensor([True, False]))
    assert float(both) == pytest.approx(0.9441718335, abs=1e-6)


def test_without_a_usable_image_the_loss_is_zero() -> None:
    assert float(jsd_loss(scores([1.0], [1.0], [1.0], [1.0]), torch.tensor([False]))) == 0.0


@pytest.mark.parametrize("seed", range(10))
def test_drawn_partners_are_linked_and_unlinked_as_they_should(seed: int) -> None:
    linked_BB = graph(12, seed)
    found = drawn(linked_BB, seed)
    for i in range(12):
        itself, positive, first, second = found.partner_PB[:, i].tolist()
        friends = [j for j in range(12) if linked_BB[i, j] and j != i]
        assert itself == i and (positive in friends if friends else positive == i)
        assert not linked_BB[i, first] and not linked_BB[i, second] and first != second


def test_every_linked_image_is_drawn_as_often() -> None:
    linked_BB = torch.eye(5, dtype=torch.bool)
    linked_BB[0] = torch.tensor([True, True, True, True, False])
    counts = torch.zeros(5)
    for seed in range(600):
        counts[drawn(linked_BB, seed).partner_PB[1, 0]] += 1
    # 200 each with a standard deviation of 11.5.
    assert counts[[0, 4]].sum() == 0 and bool((counts[1:4] - 200).abs().max() < 60)


def test_one_unlinked_image_is_taken_twice_and_none_makes_the_image_unusable() -> None:
    linked_BB = torch.ones(3, 3, dtype=torch.bool)
    linked_BB[0, 2] = False
    found = drawn(linked_BB)
    assert found.partner_PB[2:, 0].tolist() == [2, 2]
    assert found.usable_B.tolist() == [True, False, False]


@pytest.mark.parametrize("seed", range(10))
def test_reference_partners_are_those_of_the_loop_in_the_code(seed: int) -> None:
    linked_BB = graph(12, seed)
    found = reference_triplets(linked_BB)
    for i in range(12):
        shorter = [bool(linked_BB[i, j]) for j in range(12) if j != i]
        place = shorter.index(True) if True in shorter else 0
        unlinked = [j for j in range(12) if not linked_BB[i, j]][:2]
        assert found.partner_PB[:, i].tolist() == [i, place, *unlinked]


def test_the_loss_averages_over_the_places_of_the_map() -> None:
    values = torch.rand(4, 2, 3, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    positive = [math.log1p(math.exp(-x)) for x in values[:2].flatten().tolist()]
    negative = [math.log1p(math.exp(x)) for x in values[2:].flatten().tolist()]
    found = jsd_loss(values, torch.tensor([True, True]))
    assert float(found) == pytest.approx(sum(positive) / 36 + sum(negative) / 36, abs=1e-9)


def by_pytorch(scores_PBHW: Tensor, usable_B: Tensor) -> Tensor:
    """The same loss from PyTorch's own functions."""
    positive_B = torch.nn.functional.softplus(-scores_PBHW[:2]).mean(dim=(0, 2, 3))
    negative_B = torch.nn.functional.softplus(scores_PBHW[2:]).mean(dim=(0, 2, 3))
    return torch.where(usable_B, positive_B + negative_B, 0).sum() / usable_B.sum().clamp(min=1)


@pytest.mark.parametrize("usable", [[True] * 5, [True, False, True, True, False], [False] * 5])
def test_value_and_gradient_are_those_of_pytorch(usable: list[bool]) -> None:
    values = torch.randn(4, 5, 3, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 4
    mine, other = (values.clone().requires_grad_() for _ in range(2))
    found, wanted = jsd_loss(mine, torch.tensor(usable)), by_pytorch(other, torch.tensor(usable))
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-12)
    gradients = [torch.autograd.grad(3 * loss, at)[0] for loss, at in ((found, mine), (wanted, other))]
    torch.testing.assert_close(*gradients, rtol=0, atol=1e-12)
