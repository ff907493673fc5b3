"""Fused features: order and widths by hand, and the random parts."""

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
