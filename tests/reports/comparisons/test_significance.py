"""The statistics against SciPy's own tests, closed forms and simulation."""

import itertools
import math
import statistics
from platform.reports.comparisons import significance

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

VALUES = st.lists(st.floats(-1, 1).map(lambda x: round(x, 6)), min_size=2, max_size=9)


def by_seed(values: list[float]) -> dict[int, float]:
    return dict(enumerate(values))


@given(VALUES)
def test_the_interval_is_scipy_s(values: list[float]) -> None:
    found = significance.mean_interval(values)
    assert found is not None
    if statistics.stdev(values) == 0:
        assert found.low == found.high == pytest.approx(values[0])
        return
    low, high = stats.t.interval(0.95, len(values) - 1, loc=np.mean(values), scale=stats.sem(values))
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-12)


def test_one_value_has_no_interval() -> None:
    assert significance.mean_interval([0.9]) is None


@given(VALUES, st.integers(0, 10_000))
def test_the_paired_test_is_scipy_s(values: list[float], seed: int) -> None:
    base = np.random.default_rng(seed).normal(size=len(values)).round(6).tolist()
    found = significance.paired(by_seed(values), by_seed(base))
    expected = stats.ttest_rel(values, base)
    assert found is not None and found.p == pytest.approx(expected.pvalue, abs=1e-9)
    assert found.difference == pytest.approx(np.mean(np.subtract(values, base)))
    ours = expected.confidence_interval(0.95)
    assert found.interval is not None
    assert (found.interval.low, found.interval.high) == pytest.approx((ours.low, ours.high), abs=1e-9)


def test_only_shared_seeds_count() -> None:
    found = significance.paired({0: 0.9, 1: 0.8, 5: 0.1}, {1: 0.7, 0: 0.7, 2: 0.0})
    assert found is not None and found.n == 2 and found.difference == pytest.approx(0.15)
    assert significance.paired({0: 1.0}, {1: 1.0}) is None


def test_one_pair_has_a_difference_and_no_test() -> None:
    found = significance.paired({0: 0.9}, {0: 0.8})
    assert found is not None and (found.p, found.interval, found.effect) == (None, None, None)
    assert significance.verdict(found) == "one seed: nothing can be said"


def test_equal_rows_are_no_difference_and_a_constant_one_is_certain() -> None:
    same = significance.paired({0: 0.5, 1: 0.6}, {0: 0.5, 1: 0.6})
    moved = significance.paired({0: 0.75, 1: 1.0}, {0: 0.5, 1: 0.75})
    assert same is not None and (same.difference, same.p, same.effect) == (0, 1.0, None)
    assert moved is not None and (moved.p, moved.effect) == (0.0, None)


@given(VALUES)
def test_the_exact_test_counts_sign_patterns(values: list[float]) -> None:
    observed = abs(math.fsum(values))
    signs = itertools.product((1, -1), repeat=len(values))
    sums = [abs(math.fsum(s * v for s, v in zip(pattern, values, strict=True))) for pattern in signs]
    expected = sum(each >= observed - 1e-9 for each in sums) / len(sums)
    assert significance.sign_flip(values) == pytest.approx(expected)


@pytest.mark.parametrize("values", [[0.1, 0.2, -0.05, 0.3, 0.15, 0.01], [1.0, -1.0, 0.5], [0.3, 0.3, 0.3, 0.3]])
def test_the_exact_test_is_scipy_s_permutation_test(values: list[float]) -> None:
    found = stats.permutation_test(
        (np.array(values),), np.sum, permutation_type="samples", n_resamples=np.inf, alternative="two-sided"
    )
    assert significance.sign_flip(values) == pytest.approx(found.pvalue)


def test_the_exact_test_s_floor() -> None:
    for n in (2, 5, 6):
        assert significance.sign_flip([0.1 + 0.01 * i for i in range(n)]) == 2.0 ** (1 - n)
    assert "0.0625" in significance.exact_note(5) and "6 seeds" in significance.exact_note(5)
    assert significance.exact_note(6) == ""
    with pytest.raises(ValueError, match="1 to 16"):
        significance.sign_flip([0.1] * 17)


def test_holm_steps_down() -> None:
    # What p.adjust of R and multipletests of statsmodels give.
    assert significance.holm([0.01, 0.02, 0.03, 0.04, 0.05]) == pytest.approx([0.05, 0.08, 0.09, 0.09, 0.09])
    # Smallest times 4, next times 3, and never below the one before.
    assert significance.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert significance.holm([0.5, 0.9]) == [1.0, 1.0]
    assert significance.holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_keeps_order_and_never_lowers(values: list[float]) -> None:
    adjusted = significance.holm(values)
    assert all(after >= before for before, after in zip(values, adjusted, strict=True))
    pairs = sorted(zip(values, adjusted, strict=True))
    assert [after for _, after in pairs] == sorted(after for _, after in pairs)


def test_rows_that_cannot_be_tested_do_not_weigh_on_the_others() -> None:
    base = {0: 0.5, 1: 0.6, 2: 0.55}
    good = {0: 0.7, 1: 0.81, 2: 0.74}
    alone, with_others = (
        significance.compare_to_base([good], base),
        significance.compare_to_base([good, {}, {0: 0.9}], base),
    )
    assert alone[0] == with_others[0] and with_others[1] is None
    assert alone[0] is not None and alone[0].is_evidence and significance.verdict(alone[0]) == "better"
    assert with_others[2] is not None and with_others[2].p_adjusted is None


def test_two_seeds_are_marked() -> None:
    found = significance.compare_to_base([{0: 0.7, 1: 0.5}], {0: 0.5, 1: 0.55})[0]
    assert found is not None and significance.verdict(found) == "no evidence of a difference, but only 2 seeds"


@pytest.mark.parametrize(("seeds", "noise"), [(3, "normal"), (5, "normal"), (5, "uniform"), (10, "normal")])
def test_without_a_true_difference_few_ablations_come_out_significant(seeds: int, noise: str) -> None:
    """Five rows against a base, a strong seed effect, no effect of any row: 2,000 tables, each wrong if any row is."""
    rng = np.random.default_rng(0)
    wrong = 0
    for _ in range(2_000):
        seed_effect_S = rng.normal(0, 0.05, seeds)
        drawn_RS = rng.normal(0, 0.01, (6, seeds)) if noise == "normal" else rng.uniform(-0.02, 0.02, (6, seeds))
        base, *rows = (by_seed(row.tolist()) for row in 0.8 + seed_effect_S + drawn_RS)
        wrong += any(found is not None and found.is_evidence for found in significance.compare_to_base(rows, base))
    # 5 % and 1 % for the chance of 2,000 tables; above nothing, which a test without any power would show.
    assert 0 < wrong / 2_000 <= 0.06


def test_pairing_finds_what_the_seeds_hide() -> None:
    """Differences of a constant size under a seed effect thirty times as large."""
    seeds = [0.70, 0.85, 0.78, 0.91, 0.66]
    moved = [seed + by for seed, by in zip(seeds, (0.011, 0.009, 0.01, 0.012, 0.008), strict=True)]
    found = significance.compare_to_base([by_seed(moved)], by_seed(seeds))[0]
    assert found is not None and found.is_evidence
    assert stats.ttest_ind([s + 0.01 for s in seeds], seeds).pvalue > 0.8


# Variance


def test_the_split_finds_planted_components() -> None:
    rng = np.random.default_rng(0)
    pretext_P, method_M = rng.normal(0, 3.0, 60), rng.normal(0, 1.0, 60)
    values = {
        (p, m): pretext_P[p] + method_M[m] + rng.normal(0, 0.5) for p in range(60) for m in range(60)
    }  # fmt: skip
    found = significance.variance_split(values)
    assert found is not None
    assert found.pretext == pytest.approx(np.var(pretext_P, ddof=1), rel=0.02)
    assert found.method == pytest.approx(np.var(method_M, ddof=1), rel=0.05)
    assert found.rest == pytest.approx(0.25, rel=0.1)
    assert sum(found.shares) == pytest.approx(1)


def test_a_split_by_hand() -> None:
    found = significance.variance_split({(0, 0): 1.0, (0, 1): 1.0, (1, 0): 3.0, (1, 1): 3.0})
    assert found == significance.VarianceSplit(pretext=2.0, method=0.0, rest=0.0)
    assert found is not None and found.shares == (1.0, 0.0, 0.0)


@pytest.mark.parametrize(
    "values", [{}, {(0, 0): 1.0, (0, 1): 2.0}, {(0, 0): 1.0, (0, 1): 2.0, (1, 0): 3.0}], ids=["none", "one", "gap"]
)
def test_no_split_without_the_whole_cross(values: dict[tuple[int, int], float]) -> None:
    assert significance.variance_split(values) is None


def test_no_variance_has_no_shares() -> None:
    found = significance.variance_split(dict.fromkeys(itertools.product((0, 1), (0, 1)), 0.5))
    assert found is not None and found.shares == (0.0, 0.0, 0.0)
