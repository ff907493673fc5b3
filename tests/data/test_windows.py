"""Images that are kept larger than they are seen (256 px through windows of 224 px), and crops of large images."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from trainables.data import augment, geometry
from trainables.data.augment import AUGMENTATIONS, Norm
from trainables.data.batch_random import BatchRandom
from trainables.interfaces import ImageData, Split
from trainables.nets import models
from trainables.nets.backbones import Backbone

UNIT = Norm((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


def draws(num: int) -> BatchRandom:
    return BatchRandom(torch.Generator().manual_seed(0), num)


def coordinates() -> Tensor:
    """One image whose red is the row of a pixel and whose green its column."""
    row_HW = torch.arange(256, dtype=torch.uint8)[:, None].expand(256, 256)
    return torch.stack([row_HW, row_HW.T, torch.zeros_like(row_HW)])[None]


def smooth(num: int, size: int = 256) -> Tensor:
    coarse = torch.rand(num, 3, 6, 6, generator=torch.Generator().manual_seed(1))
    return (nn.functional.interpolate(coarse, (size, size), mode="bicubic") * 255).clamp(0, 255).to(torch.uint8)


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_every_view_of_a_256_px_image_has_224_px(name: str) -> None:
    views = AUGMENTATIONS[name](smooth(3), draws(3), UNIT)
    assert views.shape == (3, 3, 224, 224) and bool(views.isfinite().all())


def test_a_data_set_of_256_px_is_seen_at_224_px() -> None:
    split = Split(smooth(2), torch.zeros(2, dtype=torch.int64))
    assert ImageData("photos", split, split, ("a",), (0.0,) * 3, (1.0,) * 3, "f").shape.image_size_px == 224


def test_evaluation_sees_the_middle() -> None:
    seen = AUGMENTATIONS["eval"](coordinates(), draws(1), UNIT)[0] * 255
    assert (seen[0, 0, 0].round(), seen[0, -1, 0].round(), seen[1, 0, -1].round()) == (16, 239, 239)


def test_predict_sees_the_middle() -> None:
    images = smooth(3)
    backbone = Backbone("flat", nn.Sequential(nn.AvgPool2d(56), nn.Flatten(), nn.Linear(48, 4)), 4, 0)
    whole, middle = (
        models.predict(backbone, each, UNIT.mean, UNIT.std) for each in (images, images[..., 16:240, 16:240])
    )
    assert torch.equal(whole, middle)


def test_a_window_is_a_part_of_its_image_at_a_place_of_its_own() -> None:
    windows = geometry.windows(coordinates().expand(50, -1, -1, -1), draws(50)).int()
    top_B, left_B = windows[:, 0, 0, 0], windows[:, 1, 0, 0]
    assert torch.equal(windows[:, 0], (top_B[:, None] + torch.arange(224))[:, :, None].expand(-1, -1, 224))
    assert torch.equal(windows[:, 1], (left_B[:, None] + torch.arange(224))[:, None, :].expand(-1, 224, -1))
    assert 0 <= top_B.min() < 8 and 24 < top_B.max() <= 32 and not torch.equal(top_B, left_B)


def test_images_that_are_seen_whole_cost_no_draw() -> None:
    images, drawn = smooth(2, 96), draws(2)
    before = drawn.generator.get_state()
    assert geometry.windows(images, drawn) is images
    assert torch.equal(drawn.generator.get_state(), before)


def test_crops_come_out_of_the_whole_kept_image() -> None:
    crop_B4 = torch.tensor([[0, 0, 256, 256]])
    corners = geometry.resized_crop(coordinates().float(), crop_B4, torch.tensor([False]))[0, :2, [0, -1], [0, -1]]
    assert corners[:, 0].tolist() == pytest.approx([0, 0], abs=1) and corners[:, 1].tolist() == pytest.approx(
        [255, 255], abs=1
    )


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_large_crops_on_a_cpu_are_pillows(layout: torch.memory_format) -> None:
    images = smooth(6).contiguous(memory_format=layout)
    crop_B4 = geometry.draw_crops(draws(6), (256, 256), (0.08, 1.0))
    flip_B = torch.tensor([False, True] * 3)
    cropped = list(geometry.resized_crops_in_levels(images, crop_B4, flip_B))
    for view, image, (top, left, height, width), mirrored in zip(
        cropped, images, crop_B4.tolist(), flip_B.tolist(), strict=True
    ):
        box = (left, top, left + width, top + height)
        # Cut out first: Pillow's own box would let pixels outside of it count.
        part = Image.fromarray(image.permute(1, 2, 0).contiguous().numpy()).crop(box)
        wanted = np.asarray(part.resize((224, 224), Image.Resampling.BILINEAR)).astype(int)
        wanted = wanted[:, ::-1] if mirrored else wanted
        assert np.abs(view.permute(1, 2, 0).numpy() - wanted).max() <= 1


def test_large_crops_in_levels_are_within_a_level_of_the_smooth_ones() -> None:
    images = smooth(4)
    crop_B4 = torch.tensor([[3, 9, 120, 100], [0, 0, 200, 150], [50, 60, 90, 110], [10, 20, 224, 224]])
    flip_B = torch.tensor([True, False, False, True])
    levels = torch.stack(list(geometry.resized_crops_in_levels(images, crop_B4, flip_B))).float()
    exact = geometry.resized_crop(images.float(), crop_B4, flip_B)
    assert (levels - exact).abs().max() <= 1


def test_small_crops_stay_as_they_were() -> None:
    images = smooth(2, augment.LARGE_PX - 1)
    crop_B4 = geometry.draw_crops(draws(2), (127, 127), (0.08, 1.0))
    flip_B = torch.tensor([False, True])
    wanted = geometry.resized_crop(images.float().div(255), crop_B4, flip_B)
    assert torch.equal(augment._cropped(images, crop_B4, flip_B), wanted)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_large_crops_are_normalized_as_small_ones(layout: torch.memory_format) -> None:
    """The way from grey levels in one step, against the crops themselves, scaled and normalized."""
    images = smooth(4).contiguous(memory_format=layout)
    norm = augment.Norm((0.4, 0.5, 0.6), (0.2, 0.25, 0.3))
    crop_B4 = geometry.draw_crops(draws(4), (256, 256), (0.08, 1.0))
    flip_B = torch.tensor([True, False, False, True])
    crops = torch.stack(list(geometry.resized_crops_in_levels(images, crop_B4, flip_B)))
    found = augment._standard_in_levels(norm, images, crop_B4, flip_B)
    assert found.shape == (4, 3, 224, 224) and found.is_contiguous()
    assert torch.allclose(found, norm.apply(crops.float().div(255)), atol=1e-5, rtol=0)
