"""SimGCD's own terms against numbers that an independent script computed in float64."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trainables.maths import simgcd, sinkhorn

# Row i, column j: ((3 i + 5 j) mod 7) / 10. The first two rows are one view, the last two the other.
COSINES_XC = torch.tensor([[((3 * i + 5 * j) % 7) / 10 for j in range(3)] for i in range(4)], dtype=torch.float64)
VIEWS_VTC = COSINES_XC.chunk(2)


def test_self_distillation_equals_the_golden_number() -> None:
    targets = [simgcd.teacher(rows_TC, temperature=0.07) for rows_TC in VIEWS_VTC]
    loss = sinkhorn.swapped_prediction(targets, VIEWS_VTC, temperature=0.1)
    assert float(loss) == pytest.approx(1.8254843619, abs=1e-6)


def test_the_gap_of_the_mean_entropy_equals_the_golden_number() -> None:
    assert float(simgcd.mean_entropy_gap(COSINES_XC, temperature=0.1)) == pytest.approx(0.0638237059, abs=1e-6)


def test_the_gap_is_nothing_where_categories_are_predicted_alike_often_and_log_c_where_one_is() -> None:
    assert float(simgcd.mean_entropy_gap(torch.eye(4), temperature=0.01)) == pytest.approx(0.0, abs=1e-6)
    one_TC = torch.tensor([[1.0, 0.0, 0.0, 0.0]] * 3)
    assert float(simgcd.mean_entropy_gap(one_TC, temperature=0.01)) == pytest.approx(math.log(4), abs=1e-6)


@given(st.integers(0, 1000), st.integers(1, 8), st.integers(2, 6), st.floats(0.04, 1.0))
def test_the_gap_lies_between_nothing_and_log_c(seed: int, rows: int, num_categories: int, temperature: float) -> None:
    logits_TC = torch.randn(rows, num_categories, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    gap = float(simgcd.mean_entropy_gap(logits_TC, temperature=temperature))
    assert -1e-9 <= gap <= math.log(num_categories) + 1e-9


def test_a_colder_teacher_is_surer_of_the_same_category_and_carries_no_gradient() -> None:
    logits_TC = COSINES_XC.clone().requires_grad_()
    warm_TC, cold_TC = (simgcd.teacher(logits_TC, temperature=temperature) for temperature in (0.07, 0.04))
    assert torch.equal(warm_TC.argmax(1), cold_TC.argmax(1))
    assert bool((cold_TC.amax(1) > warm_TC.amax(1)).all())
    assert not cold_TC.requires_grad


@pytest.mark.parametrize("warmup", [2, 5, 30])
def test_the_teacher_s_temperature_is_a_line_of_warmup_points_and_then_its_end(warmup: int) -> None:
    expected = [*np.linspace(0.07, 0.04, warmup), 0.04, 0.04]
    found = [simgcd.teacher_temperature(epoch, start=0.07, end=0.04, warmup=warmup) for epoch in range(warmup + 2)]
    np.testing.assert_allclose(found, expected, atol=1e-12)


@pytest.mark.parametrize("warmup", [0, 1])
def test_without_epochs_to_warm_up_in_the_temperature_is_at_its_end(warmup: int) -> None:
    assert simgcd.teacher_temperature(0, start=0.07, end=0.04, warmup=warmup) == 0.04
