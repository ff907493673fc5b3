"""Fused features: order and widths by hand, and the random parts."""

from typing import get_args

import pytest
import torch

from trainables.maths import fusion

LOW_BCHW = torch.tensor([[[[3.0, 0.0]], [[0.0, 4.0]]]])
HIGH_BG = torch.tensor([[6.0, 8.0, 0.0]])


def test_the_low_block_comes_first_channel_by_channel() -> None:
    fused_BD = fusion.fuse(LOW_BCHW, HIGH_BG, operation="concat", unit_blocks=False, seed=0)
    assert fused_BD.tolist() == [[3, 0, 0, 4, 6, 8, 0]]


def test_unit_blocks_weigh_the_same_whatever_their_scale() -> None:
    # Lengths 5 and 10.
    fused_BD = fusion.fuse(LOW_BCHW, HIGH_BG, operation="concat", unit_blocks=True, seed=0)
    torch.testing.assert_close(fused_BD, torch.tensor([[0.6, 0, 0, 0.8, 0.6, 0.8, 0]]))


def test_a_block_of_zeros_stays_zero() -> None:
    fused_BD = fusion.fuse(torch.zeros(1, 2, 1, 2), HIGH_BG, operation="concat", unit_blocks=True, seed=0)
    assert fused_BD[0, :4].tolist() == [0, 0, 0, 0]


def test_add_and_multiply_use_one_projection_to_the_high_block_s_width() -> None:
    both = {}
    for operation in ("add", "multiply"):
        both[operation] = fusion.fuse(LOW_BCHW, HIGH_BG, operation=operation, unit_blocks=False, seed=3)  # type: ignore[arg-type]
    low_BG = both["add"] - HIGH_BG
    assert low_BG.shape == (1, 3)
    torch.testing.assert_close(both["multiply"], low_BG * HIGH_BG)


def test_the_matrix_product_is_that_of_both_blocks_brought_to_one_length() -> None:
    fused_BD = fusion.fuse(LOW_BCHW, HIGH_BG, operation="matrix_product", unit_blocks=False, seed=3)
    side = fusion.MATRIX_SIDE
    assert fused_BD.shape == (1, fusion.width("matrix_product", 4, 3)) == (1, side * side)
    # An outer product has rank 1.
    assert int(torch.linalg.matrix_rank(fused_BD.view(side, side), rtol=1e-4)) == 1
    doubled_BD = fusion.fuse(2 * LOW_BCHW, 3 * HIGH_BG, operation="matrix_product", unit_blocks=False, seed=3)
    torch.testing.assert_close(doubled_BD, 6 * fused_BD, rtol=1e-5, atol=1e-4)


def test_noise_is_a_tenth_of_the_row_s_size() -> None:
    # Root mean squares sqrt((9 + 16 + 25 + 0 + 50) / 5) and 0: the second row gets no noise.
    rows_BD, noise_BD = torch.tensor([[3.0, -4.0, 5.0, 0.0, 7.07106781], [0.0] * 5]), torch.ones(2, 5)
    torch.testing.assert_close(fusion.noisy(rows_BD, noise_BD) - rows_BD, torch.tensor([[0.44721360] * 5, [0.0] * 5]))


@pytest.mark.parametrize("operation", get_args(fusion.Operation))
def test_the_width_is_said_before_anything_is_fused(operation: fusion.Operation) -> None:
    fused_BD = fusion.fuse(LOW_BCHW, HIGH_BG, operation=operation, unit_blocks=False, seed=0)
    assert fused_BD.shape[1] == fusion.width(operation, 4, 3)
    assert fusion.has_blocks(operation) == (fused_BD.shape[1] == 7)


def test_the_share_of_the_high_level_is_the_part_of_the_directions_in_its_block() -> None:
    # Three directions over two low and two high columns: (3, 0, 0, 4), (0, 0, 1, 1) and one that is flat.
    directions_DE = torch.tensor([[3.0, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 1.0, 0.0], [4.0, 1.0, 0.0]])
    # 16 / 25 and 1; the flat one does not count.
    assert fusion.high_level_share(directions_DE, 2) == pytest.approx((0.64 + 1) / 2)


def test_the_projection_keeps_lengths_on_average() -> None:
    low_BCHW = torch.randn(50, 4, 10, 10, generator=torch.Generator().manual_seed(0))
    low_BG = fusion.fuse(low_BCHW, torch.zeros(50, 400), operation="add", unit_blocks=False, seed=1)
    assert float(low_BG.norm() / low_BCHW.norm()) == pytest.approx(1.0, abs=0.05)


def test_channels_are_different_ascending_and_fixed_by_the_generator() -> None:
    drawn = [fusion.draw_channels(96, 8, torch.Generator().manual_seed(seed)).tolist() for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert drawn[0] == sorted(set(drawn[0])) and len(drawn[0]) == 8 and max(drawn[0]) < 96


def test_all_channels_are_all_channels() -> None:
    assert fusion.draw_channels(5, 5, torch.Generator().manual_seed(0)).tolist() == [0, 1, 2, 3, 4]
