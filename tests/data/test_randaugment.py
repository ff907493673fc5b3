"""The fourteen operations against Pillow itself, on random images: every one bit for bit."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps
from torch import Tensor

from trainables.data import randaugment

AFFINE = Image.Transform.AFFINE

PILLOW: dict[str, Callable[[Image.Image, float], Image.Image]] = {
    "identity": lambda image, level: image,
    "autocontrast": lambda image, level: ImageOps.autocontrast(image),
    "equalize": lambda image, level: ImageOps.equalize(image),
    "rotate": lambda image, level: image.rotate(level),
    "solarize": lambda image, level: ImageOps.solarize(image, level),  # type: ignore[arg-type]
    "color": lambda image, level: ImageEnhance.Color(image).enhance(level),
    "contrast": lambda image, level: ImageEnhance.Contrast(image).enhance(level),
    "brightness": lambda image, level: ImageEnhance.Brightness(image).enhance(level),
    "sharpness": lambda image, level: ImageEnhance.Sharpness(image).enhance(level),
    "shear_x": lambda image, level: image.transform(image.size, AFFINE, (1, level, 0, 0, 1, 0)),
    "translate_x": lambda image, level: image.transform(image.size, AFFINE, (1, 0, level * image.size[0], 0, 1, 0)),
    "translate_y": lambda image, level: image.transform(image.size, AFFINE, (1, 0, 0, 0, 1, level * image.size[1])),
    "posterize": lambda image, level: ImageOps.posterize(image, int(level)),
    "shear_y": lambda image, level: image.transform(image.size, AFFINE, (1, 0, 0, level, 1, 0)),
}


def pillow(name: str, images_BCHW: Tensor, level_B: Tensor) -> Tensor:
    changed = []
    for image_CHW, level in zip(images_BCHW, level_B.tolist(), strict=True):
        image = Image.fromarray(image_CHW.permute(1, 2, 0).squeeze(2).numpy())
        array = np.atleast_3d(np.array(PILLOW[name](image, level)))
        changed.append(torch.from_numpy(array).permute(2, 0, 1))
    return torch.stack(changed)


def pictures(num: int, channels: int, height: int, width: int, seed: int) -> Tensor:
    """Random images of every kind: full range, few levels, dim, bright, one level."""
    generator = torch.Generator().manual_seed(seed)
    low_B111 = torch.randint(0, 128, (num, 1, 1, 1), generator=generator)
    span_B111 = torch.tensor([255, 100, 7, 1]).repeat(num)[:num, None, None, None]
    noise_BCHW = torch.rand(num, channels, height, width, generator=generator)
    return (low_B111 + noise_BCHW**2 * span_B111).clamp(0, 255).to(torch.uint8)


@pytest.mark.parametrize("name", PILLOW)
@pytest.mark.parametrize("size", [(3, 32, 32), (3, 21, 13), (1, 28, 28), (1, 8, 8)], ids=str)
def test_operation_is_pillows(name: str, size: tuple[int, int, int]) -> None:
    images_BCHW = pictures(60, *size, seed=sum(size))
    low, high = torch.tensor(randaugment.RANGES[name])
    unit_B1 = torch.rand(60, 1, generator=torch.Generator().manual_seed(5))
    level_B = unit_B1[:, 0] * (high - low) + low
    if name == "color" and size[0] == 1:
        expected_BCHW = images_BCHW
    else:
        expected_BCHW = pillow(name, images_BCHW, level_B)
    choice_B1 = torch.full((60, 1), list(randaugment.RANGES).index(name))
    torch.testing.assert_close(randaugment.apply_drawn(images_BCHW, choice_B1, unit_B1), expected_BCHW, rtol=0, atol=0)


def test_every_operation_is_compared_with_pillow() -> None:
    assert PILLOW.keys() == randaugment.RANGES.keys() and len(PILLOW) == 14


def test_drawn_operations_follow_one_another_as_drawn() -> None:
    images_BCHW = pictures(200, 3, 16, 16, seed=1)
    generator = torch.Generator().manual_seed(2)
    choice_BS = torch.randint(0, 14, (200, 4), generator=generator)
    unit_BS = torch.rand(200, 4, generator=generator)
    expected_BCHW = images_BCHW
    names = list(randaugment.RANGES)
    for step in range(4):
        rows = []
        for row, choice in enumerate(choice_BS[:, step].tolist()):
            low, high = torch.tensor(randaugment.RANGES[names[choice]])
            level_1 = unit_BS[row : row + 1, step] * (high - low) + low
            rows.append(pillow(names[choice], expected_BCHW[row : row + 1], level_1))
        expected_BCHW = torch.cat(rows)
    torch.testing.assert_close(randaugment.apply_drawn(images_BCHW, choice_BS, unit_BS), expected_BCHW, rtol=0, atol=0)


def test_no_operations_leave_the_images() -> None:
    images_BCHW = pictures(3, 3, 8, 8, seed=0)
    none_B0 = torch.zeros(3, 0)
    assert torch.equal(randaugment.apply_drawn(images_BCHW, none_B0.long(), none_B0), images_BCHW)


def test_the_input_is_not_changed() -> None:
    images_BCHW = pictures(14, 3, 16, 16, seed=0)
    before_BCHW = images_BCHW.clone()
    randaugment.apply_drawn(images_BCHW, torch.arange(14)[:, None], torch.full((14, 1), 0.4))
    assert torch.equal(images_BCHW, before_BCHW)
