"""The views of DAC and DCCM on numbers worked by hand."""

import torch
from torch import Tensor

from trainables.data import keras_like
from trainables.data.batch_random import BatchRandom


def matrix(*rows: list[float]) -> Tensor:
    return torch.tensor([rows])


def picture() -> Tensor:
    return torch.linspace(0.2, 0.8, 64).reshape(1, 1, 8, 8)


NOTHING = torch.zeros(1, 1, 1, 1)


def test_without_a_change_the_image_is_rescaled() -> None:
    found = keras_like.view(picture(), matrix([1, 0, 0], [0, 1, 0]), NOTHING)
    torch.testing.assert_close(found, 0.95 * picture())


def test_a_mirrored_image_is_the_flipped_one() -> None:
    found = keras_like.view(picture(), matrix([-1, 0, 0], [0, 1, 0]), NOTHING)
    torch.testing.assert_close(found, 0.95 * picture().flip(-1))


def test_the_nearest_pixel_fills_what_lies_outside() -> None:
    # Output column x is fetched from x + 3: the last three come from the last column.
    found = keras_like.view(picture(), matrix([1, 0, 3], [0, 1, 0]), NOTHING) / 0.95
    torch.testing.assert_close(found[..., :5], picture()[..., 3:])
    torch.testing.assert_close(found[..., 5:], picture()[..., -1:].expand(-1, -1, -1, 3))


def test_a_channel_shift_stays_in_the_image_s_own_range() -> None:
    found = keras_like.view(picture(), matrix([1, 0, 0], [0, 1, 0]), torch.full((1, 1, 1, 1), 0.1)) / 0.95
    torch.testing.assert_close(found, (picture() + 0.1).clamp(0.2, 0.8))


def test_the_ranges_are_the_published_ones() -> None:
    draws = BatchRandom(torch.Generator().manual_seed(0), 20_000)
    matrix_B23, added = keras_like.draw(draws, (32, 32), 3)
    linear_B22 = matrix_B23[:, :, :2]
    zoom_B2 = linear_B22.norm(dim=1)
    assert 0.85 <= zoom_B2.min() < 0.851 and 1.149 < zoom_B2.max() <= 1.1501
    turn_B = torch.rad2deg(torch.atan2(-linear_B22[:, 0, 1], linear_B22[:, 1, 1])).abs()
    assert 19.9 < turn_B.max() <= 20.001
    # Turning keeps the length of the shift, at most 0.18 of the side along each axis.
    unturned_B2 = torch.linalg.solve(linear_B22 / zoom_B2[:, None, :], matrix_B23[:, :, 2]).abs()
    assert 5.7 < unturned_B2.max() <= 0.18 * 32 + 1e-3
    mirrored = (torch.linalg.det(linear_B22) < 0).float().mean()
    assert abs(mirrored - 0.5) < 0.02 and 0.099 < added.abs().max() <= 0.1
