"""What a difference between two rows of a table is worth: intervals, paired tests, and the variance of the seeds.

Rows are compared seed by seed, on the seeds that both have: what a seed makes easy or hard falls out of the difference.
Everything here is exact or a textbook formula, so the same numbers give the same report.

Sources: Student's t; Holm 1979 (step-down correction); Fisher 1935 (sign-flip test); Cohen's d of the differences;
variance components of a two-way layout without replication.
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import stats

CONFIDENCE = 0.95
ALPHA = 0.05
FEW_SEEDS = 3
"""A row with fewer seeds is marked: a deviation of two numbers says next to nothing."""
EXACT_LIMIT = 16
"""Up to so many pairs all 2^n signs are tried; with more, only the t-test is reported."""


@dataclass(frozen=True)
class Interval:
    """A two-sided confidence interval of a mean, by Student's t."""

    low: float
    high: float


@dataclass(frozen=True)
class Paired:
    """A row minus the base, over the seeds both have.

    n: pairs. difference: their mean. interval: of the mean, None for one pair. p: two-sided paired t-test, None for one
    pair. p_exact: two-sided sign-flip test; p_floor: the smallest it can give with n pairs. effect: mean difference in
    units of the differences' deviation, None where they do not vary. p_adjusted: p after Holm's correction over the
    rows of the table, None until ``compare_to_base`` has made it.
    """

    n: int
    difference: float
    interval: Interval | None
    p: float | None
    p_exact: float | None
    p_floor: float
    effect: float | None
    p_adjusted: float | None = None

    @property
    def is_evidence(self) -> bool:
        """Whether the corrected test rejects "no difference" at ALPHA."""
        return self.p_adjusted is not None and self.p_adjusted < ALPHA


@dataclass(frozen=True)
class VarianceSplit:
    """Where the variance of crossed seeds comes from; estimates cut at 0. shares sum to one unless all are 0.

    pretext: between pretext seeds. method: between the seeds of the later stages. rest: what neither explains.
    """

    pretext: float
    method: float
    rest: float

    @property
    def shares(self) -> tuple[float, float, float]:
        total = self.pretext + self.method + self.rest
        parts = (self.pretext, self.method, self.rest)
        return (0.0, 0.0, 0.0) if total == 0 else (parts[0] / total, parts[1] / total, parts[2] / total)


def mean_interval(values: Sequence[float], confidence: float = CONFIDENCE) -> Interval | None:
    """Student's interval of the mean of at least one value; None for one, which has no spread."""
    if len(values) < 2:
        return None
    mean, std = statistics.fmean(values), statistics.stdev(values)
    half = float(stats.t.ppf((1 + confidence) / 2, len(values) - 1)) * std / math.sqrt(len(values))
    return Interval(mean - half, mean + half)


def paired(row: Mapping[int, float], base: Mapping[int, float]) -> Paired | None:
    """``row`` minus ``base``, each a value by seed; None where they share no seed."""
    seeds = sorted(row.keys() & base.keys())
    if not seeds:
        return None
    differences = [row[seed] - base[seed] for seed in seeds]
    mean, n = statistics.fmean(differences), len(differences)
    if n == 1:
        return Paired(1, mean, None, None, None, p_floor=1.0, effect=None)
    std = statistics.stdev(differences)
    p_exact = sign_flip(differences) if n <= EXACT_LIMIT else None
    effect = mean / std if std > 0 else None
    return Paired(n, mean, mean_interval(differences), _t_test(mean, std, n), p_exact, 2.0 ** (1 - n), effect)


def _t_test(mean: float, std: float, n: int) -> float:
    if std == 0:
        # The same difference for every seed: certain if there is one. No statistic exists, and none is needed.
        return 1.0 if mean == 0 else 0.0
    return float(2 * stats.t.sf(abs(mean) / (std / math.sqrt(n)), n - 1))


def sign_flip(differences: Sequence[float]) -> float:
    """Two-sided p of the exact sign-flip test: how many of the 2^n sign patterns have a mean at least as far from 0.

    Raises:
        ValueError: more than EXACT_LIMIT differences, or none.
    """
    n = len(differences)
    if not 1 <= n <= EXACT_LIMIT:
        raise ValueError(f"the exact test takes 1 to {EXACT_LIMIT} differences, but got {n}.")
    bits_PN = (np.arange(2**n)[:, None] >> np.arange(n)) & 1
    sums_P = np.abs((1 - 2 * bits_PN) @ np.asarray(differences, dtype=np.float64))
    # The observed pattern must count itself, whatever order the sum was taken in.
    observed = sums_P[0] * (1 - 1e-12) - 1e-300
    return float((sums_P >= observed).mean())


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction: adjusted p-values in the order given, at most 1."""
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    adjusted, highest = [0.0] * len(p_values), 0.0
    for place, index in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - place) * p_values[index]))
        adjusted[index] = highest
    return adjusted


def compare_to_base(rows: Sequence[Mapping[int, float]], base: Mapping[int, float]) -> list[Paired | None]:
    """Every row against the base, corrected over all rows that can be tested.

    Args:
        rows, base: a value by seed.

    Returns:
        In the order of ``rows``; None for a row that shares no seed with the base.
    """
    return corrected([paired(row, base) for row in rows])


def corrected(pairs: Sequence[Paired | None]) -> list[Paired | None]:
    """The same comparisons with p after Holm's correction over all that can be tested."""
    tested = [(index, pair.p) for index, pair in enumerate(pairs) if pair is not None and pair.p is not None]
    adjusted = dict(zip((index for index, _ in tested), holm([p for _, p in tested]), strict=True))
    return [
        replace(pair, p_adjusted=adjusted[index]) if pair is not None and index in adjusted else pair
        for index, pair in enumerate(pairs)
    ]


def verdict(pair: Paired, *, is_higher_better: bool = True) -> str:
    """What the comparison allows to say, in words."""
    if pair.n < 2:
        return "one seed: nothing can be said"
    few = f", but only {pair.n} seeds" if pair.n < FEW_SEEDS else ""
    if not pair.is_evidence:
        return f"no evidence of a difference{few}"
    return f"{'better' if (pair.difference > 0) == is_higher_better else 'worse'}{few}"


def exact_note(n: int) -> str:
    """What the exact test can reach at best with ``n`` seeds; empty where it can reach ALPHA."""
    floor = 2.0 ** (1 - n)
    if floor < ALPHA:
        return ""
    needed = math.ceil(1 - math.log2(ALPHA))
    return f"With {n} seeds the exact test cannot fall below {floor:.4g}; {needed} seeds are the least for {ALPHA:g}."


def variance_split(values: Mapping[tuple[int, int], float]) -> VarianceSplit | None:
    """Variance components of values by (pretext seed, method seed).

    None unless every pair of at least two pretext and two method seeds is there: a gap would bias the split.
    """
    first = sorted({pretext for pretext, _ in values})
    second = sorted({method for _, method in values})
    if min(len(first), len(second)) < 2 or len(values) != len(first) * len(second):
        return None
    table_PM = np.array([[values[pretext, method] for method in second] for pretext in first])
    num_p, num_m = table_PM.shape
    mean_P, mean_M, mean = table_PM.mean(1), table_PM.mean(0), table_PM.mean()
    square_p = num_m * float(((mean_P - mean) ** 2).sum()) / (num_p - 1)
    square_m = num_p * float(((mean_M - mean) ** 2).sum()) / (num_m - 1)
    rest_PM = table_PM - mean_P[:, None] - mean_M[None, :] + mean
    square_rest = float((rest_PM**2).sum()) / ((num_p - 1) * (num_m - 1))
    return VarianceSplit(
        pretext=max(0.0, (square_p - square_rest) / num_m),
        method=max(0.0, (square_m - square_rest) / num_p),
        rest=square_rest,
    )
