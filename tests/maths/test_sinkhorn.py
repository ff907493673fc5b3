"""Sinkhorn codes and the swapped prediction against golden numbers, plain loops and their own properties.

S_ij = ((3 i + 5 j) mod 7) / 10 and S2_ij = ((2 i + 3 j + 1) mod 5) / 10, 4 x 3, float64, i and j from 0; the numbers
are those of an independent script.
"""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from trainables.maths import sinkhorn


def pattern(a: int, b: int, c: int, modulus: int) -> Tensor:
    rows = [[((a * i + b * j + c) % modulus) / 10 for j in range(3)] for i in range(4)]
    return torch.tensor(rows, dtype=torch.float64)


S, S2 = pattern(3, 5, 0, 7), pattern(2, 3, 1, 5)


def looped(scores_BK: Tensor, epsilon: float, iterations: int) -> Tensor:
    """SwAV's code as it is printed: a K x B table, rows to 1 / K, columns to 1 / B, and times B at the end."""
    table_KB = ((scores_BK - scores_BK.max()) / epsilon).exp().T
    table_KB = table_KB / table_KB.sum()
    num_prototypes, num_images = table_KB.shape
    for _ in range(iterations):
        for k in range(num_prototypes):
            table_KB[k] = table_KB[k] / table_KB[k].sum() / num_prototypes
        for b in range(num_images):
            table_KB[:, b] = table_KB[:, b] / table_KB[:, b].sum() / num_images
    return (table_KB * num_images).T


def test_codes_have_the_golden_numbers() -> None:
    found_BK = sinkhorn.codes(S, epsilon=0.05, iterations=3)
    expected = torch.tensor([[0.013257, 0.001094, 0.985649], [0.923747, 0.076196, 0.000057]], dtype=torch.float64)
    torch.testing.assert_close(found_BK[1:3], expected, rtol=0, atol=1e-6)


def test_the_swapped_prediction_has_the_golden_numbers() -> None:
    codes = [sinkhorn.codes(each, epsilon=0.05, iterations=3) for each in (S, S2)]
    both = sinkhorn.swapped_prediction(codes, [S, S2], temperature=0.1)
    first = sinkhorn.swapped_prediction(codes[:1], [S, S2], temperature=0.1)
    assert float(first) == pytest.approx(0.9609187788, abs=1e-6)
    assert float(both) == pytest.approx(1.2005414617, abs=1e-6)


@given(
    rows=st.integers(2, 9), columns=st.integers(2, 7), epsilon=st.floats(0.03, 1.0), iterations=st.integers(1, 6),
    seed=st.integers(0, 99),
)  # fmt: skip
def test_codes_equal_the_plain_loop_and_their_rows_sum_to_one(
    rows: int, columns: int, epsilon: float, iterations: int, seed: int
) -> None:
    scores_BK = torch.rand(rows, columns, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    found_BK = sinkhorn.codes(scores_BK, epsilon=epsilon, iterations=iterations)
    torch.testing.assert_close(found_BK, looped(scores_BK, epsilon, iterations), rtol=1e-8, atol=1e-12)
    torch.testing.assert_close(found_BK.sum(1), torch.ones(rows, dtype=torch.float64))


def test_many_iterations_use_every_prototype_alike() -> None:
    found_BK = sinkhorn.codes(S, epsilon=0.2, iterations=200)
    torch.testing.assert_close(found_BK.sum(0), torch.full((3,), 4 / 3, dtype=torch.float64), rtol=1e-6, atol=0)


def test_a_shift_of_all_scores_changes_nothing() -> None:
    torch.testing.assert_close(
        sinkhorn.codes(S + 3, epsilon=0.05, iterations=3), sinkhorn.codes(S, epsilon=0.05, iterations=3)
    )


def test_hard_codes_of_a_tiny_epsilon_are_finite() -> None:
    # exp(-1 / 0.001) is 0 in float32, and a column of zeros would be divided by its sum.
    found_BK = sinkhorn.codes(S.float() * 2 - 1, epsilon=0.001, iterations=3)
    assert bool(found_BK.isfinite().all())
    torch.testing.assert_close(found_BK.sum(1), torch.ones(4))


def test_equal_scores_and_a_single_image_give_the_uniform_code() -> None:
    uniform_BK = torch.full((4, 3), 1 / 3)
    torch.testing.assert_close(sinkhorn.codes(torch.zeros(4, 3), epsilon=0.05, iterations=3), uniform_BK)
    torch.testing.assert_close(sinkhorn.codes(S[:1].float(), epsilon=0.05, iterations=3), uniform_BK[:1])


def test_codes_carry_no_gradient_and_half_precision_is_widened() -> None:
    found_BK = sinkhorn.codes(S.half().requires_grad_(), epsilon=0.05, iterations=3)
    assert found_BK.dtype == torch.float32 and not found_BK.requires_grad


def test_every_other_crop_predicts_each_code_with_its_weight() -> None:
    crops = [S, S2, S.flip(0)]
    codes = [sinkhorn.codes(each, epsilon=0.05, iterations=3) for each in crops[:2]]
    weights = [torch.tensor([2.0, 0.0, 1.0, 1.0]), torch.tensor([0.5, 1.5, 1.0, 1.0])]
    total = 0.0
    for a in range(2):
        for v in range(3):
            if v != a:
                for i in range(4):
                    logits = [float(each) / 0.1 for each in crops[v][i]]
                    log_sum = math.log(sum(math.exp(each) for each in logits))
                    cross = -sum(float(codes[a][i][k]) * (logits[k] - log_sum) for k in range(3))
                    total += float(weights[a][i]) * cross / 4 / 2 / 2
    found = sinkhorn.swapped_prediction(codes, crops, temperature=0.1, weights_AB=weights)
    assert float(found) == pytest.approx(total, abs=1e-9)


def test_bad_arguments_are_named_with_their_values() -> None:
    with pytest.raises(ValueError, match="epsilon must be above 0 and iterations at least 1, but they are 0 and 3"):
        sinkhorn.codes(S, epsilon=0, iterations=3)
    with pytest.raises(ValueError, match="1 crops and 1 codes came"):
        sinkhorn.swapped_prediction([S], [S], temperature=0.1)
