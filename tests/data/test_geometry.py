"""Crops, shifts, cutouts and smooth warps: by hand on small images, and against torchvision."""

import pytest
import torch
from torch import Tensor
from torchvision.transforms import functional as tv
from torchvision.transforms.functional import InterpolationMode

from trainables.data import geometry
from trainables.data.batch_random import BatchRandom

NO_FLIP = torch.tensor([False])


def ramp(height: int, width: int) -> Tensor:
    return torch.arange(height * width, dtype=torch.float32).view(1, 1, height, width)


@pytest.mark.parametrize("crop", [(0, 0, 32, 32), (3, 5, 20, 14), (31, 31, 1, 1), (0, 12, 32, 20)])
def test_resized_crop_is_torchvisions_up_to_rounding(crop: tuple[int, int, int, int]) -> None:
    image_1CHW = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    expected_1CHW = tv.resized_crop(image_1CHW, *crop, [32, 32], InterpolationMode.BILINEAR, antialias=True)
    found_1CHW = geometry.resized_crop(image_1CHW, torch.tensor([crop]), NO_FLIP)
    torch.testing.assert_close(found_1CHW, expected_1CHW, rtol=0, atol=1e-4)


def test_the_whole_image_as_its_crop_comes_back() -> None:
    found_11HW = geometry.resized_crop(ramp(9, 12), torch.tensor([[0, 0, 9, 12]]), NO_FLIP)
    torch.testing.assert_close(found_11HW, ramp(9, 12), rtol=0, atol=1e-4)


def test_resized_crop_mirrors_the_crop_left_to_right() -> None:
    crop_14 = torch.tensor([[1, 2, 5, 4]])
    straight_11HW = geometry.resized_crop(ramp(9, 12), crop_14, NO_FLIP)
    found_11HW = geometry.resized_crop(ramp(9, 12), crop_14, ~NO_FLIP)
    torch.testing.assert_close(found_11HW, straight_11HW.flip(-1), rtol=0, atol=1e-4)


def test_resized_crop_never_reads_outside_the_crop() -> None:
    image_11HW = torch.ones(1, 1, 16, 16)
    image_11HW[:, :, 4:12, 4:12] = 0
    assert geometry.resized_crop(image_11HW, torch.tensor([[4, 4, 8, 8]]), NO_FLIP).abs().max() < 1e-5


@pytest.mark.parametrize("size", [(32, 32), (8, 24)])
def test_crops_lie_inside_the_image(size: tuple[int, int]) -> None:
    draws = BatchRandom(torch.Generator().manual_seed(0), 5000)
    top_B, left_B, height_B, width_B = geometry.draw_crops(draws, size, (0.08, 1.0)).unbind(1)
    assert top_B.min() >= 0 and left_B.min() >= 0 and height_B.min() >= 1 and width_B.min() >= 1
    assert (top_B + height_B).max() <= size[0] and (left_B + width_B).max() <= size[1]


def test_crops_have_the_areas_and_ratios_asked_for() -> None:
    draws = BatchRandom(torch.Generator().manual_seed(0), 20_000)
    _, _, height_B, width_B = geometry.draw_crops(draws, (224, 224), (0.2, 0.5)).unbind(1)
    area_B, ratio_B = height_B * width_B / 224**2, width_B / height_B
    assert 0.19 < area_B.min() < 0.21 and 0.49 < area_B.max() < 0.51
    assert 0.74 < ratio_B.min() < 0.76 and 1.32 < ratio_B.max() < 1.35
    # Uniform area: mean 0.35, standard error 0.0006.
    assert abs(area_B.mean() - 0.35) < 0.003


def test_where_no_crop_fits_the_largest_in_the_middle_is_taken() -> None:
    # At 8 x 32 the whole area wants a width of 16 * sqrt(ratio), a height of at least 13.9: none fits.
    draws = BatchRandom(torch.Generator().manual_seed(0), 3)
    assert geometry.draw_crops(draws, (8, 32), (1.0, 1.0)).tolist() == [[0, 10, 8, 11]] * 3


def test_shift_reflects_at_the_border() -> None:
    row_1114 = torch.tensor([[[[10, 20, 30, 40]]]], dtype=torch.uint8).expand(3, 1, 4, 4)
    shift_B2 = torch.tensor([[0, -2], [0, 1], [0, 0]])
    found_3 = geometry.shifted(row_1114, shift_B2, torch.tensor([False, False, True]))[:, 0, 0]
    assert found_3.tolist() == [[30, 20, 10, 20], [20, 30, 40, 30], [40, 30, 20, 10]]


def test_shift_moves_down_the_columns_too() -> None:
    column_1141 = torch.arange(4, dtype=torch.uint8).view(1, 1, 4, 1).expand(1, 1, 4, 4)
    found_HW = geometry.shifted(column_1141, torch.tensor([[1, 0]]), NO_FLIP)[0, 0]
    assert found_HW[:, 0].tolist() == [1, 2, 3, 2]


def test_shift_mirrors_before_it_shifts() -> None:
    row_1114 = torch.tensor([[[[10, 20, 30, 40]]]], dtype=torch.uint8).expand(1, 1, 4, 4)
    # Mirrored: 40 30 20 10; from one further right: 30 20 10, then reflected 20.
    assert geometry.shifted(row_1114, torch.tensor([[0, 1]]), ~NO_FLIP)[0, 0, 0].tolist() == [30, 20, 10, 20]


def test_flip_mirrors_only_the_chosen_images() -> None:
    images_BCHW = torch.arange(6).view(2, 1, 1, 3)
    assert geometry.flip(images_BCHW, torch.tensor([False, True])).flatten().tolist() == [0, 1, 2, 5, 4, 3]


def test_cutout_box_is_cut_at_the_border() -> None:
    # Length 5 is cut to two on each side: rows 0 - 2 .. 0 + 2, columns 3 - 2 .. 3 + 2.
    keep_HW = geometry.cutout_keep(torch.tensor([[0, 3]]), torch.tensor([5]), (4, 8))[0, 0]
    assert keep_HW.tolist() == [[1, 0, 0, 0, 0, 1, 1, 1]] * 2 + [[1] * 8] * 2


def test_cutout_of_one_pixel_is_none() -> None:
    assert geometry.cutout_keep(torch.tensor([[2, 2]]), torch.tensor([1]), (4, 4)).min() == 1


def test_smooth_warp_counts_shifts_in_pixels() -> None:
    matrix_123 = torch.tensor([[[1.0, 0.0, 2.0], [0.0, 1.0, -1.0]]])
    found_HW = geometry.warp_smooth(ramp(3, 4), matrix_123)[0, 0]
    # Output (y, x) comes from (y - 1, x + 2) of rows 0..3, 4..7, 8..11; zero outside.
    torch.testing.assert_close(found_HW, torch.tensor([[0.0, 0, 0, 0], [2, 3, 0, 0], [6, 7, 0, 0]]), atol=1e-4, rtol=0)


def test_smooth_warp_turns_an_oblong_image_without_bending_it() -> None:
    # A quarter turn: what lies at (-y, x) from the middle comes to (x, y). Of 2 x 4 pixels only the middle four stay.
    matrix_123 = torch.tensor([[[0.0, -1.0, 0.0], [1.0, 0.0, 0.0]]])
    found_HW = geometry.warp_smooth(ramp(2, 4), matrix_123)[0, 0]
    torch.testing.assert_close(found_HW, torch.tensor([[0.0, 2, 6, 0], [0, 1, 5, 0]]), atol=1e-4, rtol=0)
