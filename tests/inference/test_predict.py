import numpy as np
import pytest
import torch

from trainables.inference import predict


def sums(images_BCHW: torch.Tensor) -> torch.Tensor:
    assert len(images_BCHW) > 1  # an exported program takes no batch of one
    bright_B = images_BCHW.float().mean((1, 2, 3)) / 255
    return torch.stack([bright_B, 1 - bright_B], dim=1)


@pytest.mark.parametrize("num", [1, 2, 5, 6])
def test_rows_come_in_the_order_of_the_images_whatever_the_batch(num: int) -> None:
    images_NCHW = (torch.arange(num)[:, None, None, None] * 40).expand(num, 1, 8, 8).to(torch.uint8)
    counts: list[int] = []
    rows_NK = predict.probabilities(sums, images_NCHW, batch_size=4, done=counts.append)
    np.testing.assert_allclose(rows_NK[:, 0], np.arange(num) * 40 / 255, atol=1e-6)
    assert sum(counts) == num and max(counts) <= 4


def test_a_number_that_is_not_finite_is_refused() -> None:
    with pytest.raises(FloatingPointError, match="not finite"):
        predict.probabilities(lambda images_BCHW: images_BCHW[:, :, 0, 0] * torch.nan, torch.ones(3, 1, 8, 8))
