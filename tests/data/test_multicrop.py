"""Multi-crop views: sizes, areas, what is drawn for whom, and the blur."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from trainables.data import augment, geometry, multicrop
from trainables.data.batch_random import BatchRandom

NORM = augment.Norm((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


def images(count: int = 6, size_px: int = 16) -> Tensor:
    shape = (count, 3, size_px, size_px)
    return torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(0)).to(torch.uint8)


def draws(count: int = 6, start: int = 0, own: int | None = None) -> BatchRandom:
    return BatchRandom(torch.Generator().manual_seed(1), count, start, own)


@pytest.mark.parametrize("size_px", [8, 16, 20])
def test_a_view_has_the_asked_size_and_finite_values_in_range(size_px: int) -> None:
    view_BCHW = multicrop.view(images(), draws(), NORM, multicrop.Crop(size_px, (0.1, 0.5)))
    assert view_BCHW.shape == (6, 3, size_px, size_px)
    assert float(view_BCHW.min()) >= 0 and float(view_BCHW.max()) <= 1 + 1e-6


def test_two_ranks_see_what_one_would_have_seen() -> None:
    crop = multicrop.Crop(10, (0.1, 0.5))
    whole = multicrop.view(images(), draws(), NORM, crop)
    halves = [multicrop.view(images()[start : start + 3], draws(6, start, 3), NORM, crop) for start in (0, 3)]
    torch.testing.assert_close(torch.cat(halves), whole)


def test_without_color_and_blur_a_view_is_the_crop_alone() -> None:
    # Grey is drawn for a fifth of the images: a grey image stays what it is.
    grey_BCHW = images()[:, :1].expand(-1, 3, -1, -1).contiguous()
    crop = multicrop.Crop(10, (0.3, 0.9), jitter=0.0, blur=False)
    same = draws()
    crop_B4, flip_B = geometry.draw_crops(same, (16, 16), crop.area), same.bernoulli(0.5)
    expected = geometry.resized_crop(grey_BCHW.float() / 255, crop_B4, flip_B, (10, 10))
    torch.testing.assert_close(multicrop.view(grey_BCHW, draws(), NORM, crop), expected, rtol=0, atol=1e-5)


def test_grey_data_sets_have_views_too() -> None:
    norm = augment.Norm((0.5,), (0.5,))
    assert multicrop.view(images()[:, :1], draws(), norm, multicrop.Crop(8, (0.2, 1.0))).shape == (6, 1, 8, 8)


def test_the_blur_is_a_gaussian_of_each_image_s_own_sigma() -> None:
    point = torch.zeros(3, 2, 21, 21)
    point[:, :, 10, 10] = 1
    blurred = multicrop.blur(point, torch.tensor([0.8, 2.0, 2.0]), torch.tensor([True, True, False]))
    assert torch.equal(blurred[2], point[2])
    for row, sigma in ((0, 0.8), (1, 2.0)):
        offset = torch.arange(-6, 7).float()
        kernel = torch.exp(-(offset**2) / (2 * sigma**2))
        kernel = kernel / kernel.sum()
        expected = functional.pad(kernel[:, None] * kernel[None, :], (4, 4, 4, 4))
        torch.testing.assert_close(blurred[row, 1], expected, rtol=1e-4, atol=1e-6)


def test_a_blur_of_an_even_image_changes_nothing_at_the_border() -> None:
    even = torch.full((1, 1, 9, 9), 0.7)
    torch.testing.assert_close(multicrop.blur(even, torch.tensor([2.0]), torch.tensor([True])), even)
