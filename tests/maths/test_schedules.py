"""Learning rates at the epochs where they can be worked by hand."""

import pytest

from trainables.maths import schedules


def test_constant_is_the_base_rate() -> None:
    assert schedules.constant(0.4, 7) == 0.4


def test_cosine_starts_at_the_base_rate_is_halfway_in_the_middle_and_ends_at_a_thousandth() -> None:
    rates = [schedules.cosine_scan(0.4, epoch, epochs=500) for epoch in (0, 250, 500)]
    assert rates == pytest.approx([0.4, 0.2002, 0.0004])


def test_step_counts_a_milestone_from_its_own_epoch_on() -> None:
    rates = [schedules.step(1.0, epoch, milestones=(10, 20), decay=0.1) for epoch in (9, 10, 19, 20)]
    assert rates == pytest.approx([1.0, 0.1, 0.1, 0.01])


def test_rampdown_of_spc_counts_iterations_and_runs_over_ten_epochs_more() -> None:
    # 50 epochs: half the cosine of 60 epochs is at epoch 30, and 29 + 4/4 is the same moment.
    at = [
        schedules.cosine_rampdown_spc(0.03, epoch, iteration, epochs=50, iterations=4)
        for epoch, iteration in ((0, 0), (30, 0), (29, 4))
    ]
    assert at == pytest.approx([0.03, 0.015, 0.015])


def test_rampdown_of_spc_is_above_zero_at_the_last_step() -> None:
    assert schedules.cosine_rampdown_spc(0.03, 49, 3, epochs=50, iterations=4) > 0.03 * 0.05


def test_the_plain_cosine_falls_from_the_rate_over_its_half_to_0() -> None:
    rates = [schedules.cosine(0.4, epoch, epochs=10) for epoch in (0, 5, 10)]
    assert rates == pytest.approx([0.4, 0.2, 0.0])


def test_swav_s_rate_rises_on_a_line_and_falls_along_a_cosine() -> None:
    rates = [
        schedules.warmup_cosine(4.0, step, iterations=13, warmup=5, start_lr=2.0, final_lr=1.0) for step in range(14)
    ]
    assert rates[:5] == pytest.approx([2.0, 2.5, 3.0, 3.5, 4.0])
    assert rates[5] == 4.0
    assert rates[9] == pytest.approx(2.5)  # half way between 4 and 1
    assert rates[13] == pytest.approx(1.0)


def test_without_a_warm_up_the_rate_begins_at_its_height() -> None:
    assert schedules.warmup_cosine(4.0, 0, iterations=10) == 4.0
    assert schedules.warmup_cosine(4.0, 0, iterations=10, warmup=1, start_lr=2.0) == 2.0
