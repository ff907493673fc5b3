"""Instance discrimination against numbers computed apart in float64, and against sums written out."""

import math

import pytest
import torch
from torch.nn import functional

from trainables.maths import instance_discrimination


def test_nce_equals_the_golden_number() -> None:
    weights_BM = torch.tensor([[0.9, 0.2, -0.1]], dtype=torch.float64).div(0.1).exp()
    loss = instance_discrimination.nce(weights_BM, torch.tensor(10.0, dtype=torch.float64), 5, epsilon=0.0)
    assert float(loss) == pytest.approx(1.1348353358, abs=1e-6)


def test_nce_equals_its_terms_written_out() -> None:
    weights_BM = torch.rand(3, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 0.1
    noise, total = 4 / 20, 0.0
    for row in (weights_BM / 7.0).tolist():
        total -= math.log(row[0] / (row[0] + noise + 1e-7))
        total -= sum(math.log(noise / (p + noise + 1e-7)) for p in row[1:])
    found = instance_discrimination.nce(weights_BM, torch.tensor(7.0, dtype=torch.float64), 20)
    assert float(found) == pytest.approx(total / 3, abs=1e-12)


def test_with_every_row_drawn_once_the_constant_is_the_sum_over_the_memory() -> None:
    memory_ND = functional.normalize(torch.randn(6, 4, dtype=torch.float64), dim=1)
    features_BD = memory_ND[:2]
    all_BM = memory_ND.expand(2, -1, -1)
    weights_BM = instance_discrimination.weights(features_BD, all_BM, temperature=0.5)
    exact = torch.exp(features_BD @ memory_ND.T / 0.5).sum(1).mean()
    assert float(instance_discrimination.estimated_constant(weights_BM, 6)) == pytest.approx(float(exact), abs=1e-9)


def test_the_full_softmax_equals_its_sum_written_out() -> None:
    memory_ND = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]], dtype=torch.float64)
    loss = instance_discrimination.full_softmax(memory_ND[:1], memory_ND, torch.tensor([0]), temperature=0.5)
    assert float(loss) == pytest.approx(math.log(math.exp(2) + 1 + math.exp(-2)) - 2, abs=1e-12)


def test_only_named_rows_of_the_memory_move_and_they_keep_length_one() -> None:
    memory_ND = functional.normalize(torch.randn(5, 3, generator=torch.Generator().manual_seed(0)), dim=1)
    before_ND, features_BD = memory_ND.clone(), torch.eye(3)[:2]
    instance_discrimination.remember(memory_ND, torch.tensor([3, 1]), features_BD, momentum=0.25)
    expected_BD = functional.normalize(0.25 * before_ND[[3, 1]] + 0.75 * features_BD, dim=1)
    torch.testing.assert_close(memory_ND[[3, 1]], expected_BD)
    assert torch.equal(memory_ND[[0, 2, 4]], before_ND[[0, 2, 4]])


def test_a_fresh_memory_lies_within_its_bound_and_has_squared_lengths_around_one() -> None:
    memory_ND = instance_discrimination.fresh_memory(4000, 12, torch.Generator().manual_seed(0))
    assert float(memory_ND.abs().max()) <= 0.5
    assert float(memory_ND.square().sum(1).mean()) == pytest.approx(1.0, abs=0.02)
