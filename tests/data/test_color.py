"""Color changes against torchvision's, which they restate for a factor per image."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torchvision.transforms import functional as tv

from trainables.data import color

CASES: dict[str, tuple[Callable[[Tensor, Tensor], Tensor], Callable[[Tensor, float], Tensor], float, float]] = {
    "brightness": (color.adjust_brightness, tv.adjust_brightness, 0.2, 1.8),
    "contrast": (color.adjust_contrast, tv.adjust_contrast, 0.2, 1.8),
    "saturation": (color.adjust_saturation, tv.adjust_saturation, 0.2, 1.8),
    "hue": (color.adjust_hue, tv.adjust_hue, -0.5, 0.5),
}


def colors(num: int) -> Tensor:
    images_BCHW = torch.rand(num, 3, 6, 5, generator=torch.Generator().manual_seed(0))
    # Greys, black, white and ties between two channels, where a hue is not defined or changes its branch.
    images_BCHW[0] = 0.5
    images_BCHW[1] = 0
    images_BCHW[2] = 1
    images_BCHW[3, 0] = images_BCHW[3, 1]
    images_BCHW[4, 1] = images_BCHW[4, 2]
    images_BCHW[5, 0] = images_BCHW[5, 2]
    return images_BCHW


@pytest.mark.parametrize("name", CASES)
def test_change_is_torchvisions(name: str) -> None:
    ours, theirs, low, high = CASES[name]
    images_BCHW = colors(40)
    factor_B = torch.linspace(low, high, 40)
    expected_BCHW = torch.stack([theirs(*pair) for pair in zip(images_BCHW, factor_B.tolist(), strict=True)])
    # torchvision's weights of a grey are rounded to four digits.
    torch.testing.assert_close(ours(images_BCHW, factor_B), expected_BCHW, rtol=0, atol=2e-4)


@pytest.mark.parametrize("change", [color.adjust_saturation, color.adjust_hue])
def test_grey_images_have_no_color_to_change(change: Callable[[Tensor, Tensor], Tensor]) -> None:
    images_B1HW = torch.rand(3, 1, 4, 4)
    assert torch.equal(change(images_B1HW, torch.tensor([0.1, 0.2, 0.3])), images_B1HW)


def test_each_image_is_changed_in_its_own_order() -> None:
    images_BCHW = torch.tensor([0.2, 0.6]).view(1, 1, 1, 2).expand(3, 1, 1, 2).clone()
    factors_B4 = torch.tensor([[2.0, 0.5, 1.0, 0.0]]).expand(3, 4)
    order_BS = torch.tensor([[0, 1, 2, 3], [1, 0, 2, 3], [color.NO_CHANGE] * 4])
    images_BCHW = color.jitter(images_BCHW, factors_B4, order_BS)
    # Brighter first: .4, 1 (clamped); mean .7; halfway: .55, .85. Contrast first: mean .4; .3, .5; doubled: .6, 1.
    torch.testing.assert_close(images_BCHW.view(3, 2), torch.tensor([[0.55, 0.85], [0.6, 1.0], [0.2, 0.6]]))


def test_only_chosen_images_have_an_order() -> None:
    order_BS = color.order_of_changes(torch.tensor([[1, 0], [0, 1]]), torch.tensor([True, False]))
    assert order_BS.tolist() == [[1, 0], [color.NO_CHANGE] * 2]
