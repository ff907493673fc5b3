"""Crops of whole pictures against torchvision's on Pillow images, and what sees them."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision import transforms
from torchvision.transforms import functional

from trainables.data import augment, datasets, geometry
from trainables.data.batch_random import BatchRandom
from trainables.data.decoding import decoder
from trainables.data.decoding.workers import Decoders, FileImages
from trainables.data.loaded import DataError
from trainables.settings import SettingsError
from trainables.training import whole_pictures

SIZES = ((500, 375), (375, 500), (300, 300), (900, 240))
PLACES = ((0.0, 0.0), (0.0, 1.0), (1.0, 0.0), (1.0, 1.0), (0.5, 0.5))
DOCUMENT = (Path(__file__).resolve().parents[2] / "docs" / "methods.md").read_text(encoding="utf-8")
PLAIN = augment.Norm((0.0,) * 3, (1.0,) * 3)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    paths = [folder / f"{width} x {height}.png" for width, height in SIZES]
    for path, (width, height) in zip(paths, SIZES, strict=True):
        Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(path)
    return paths


@pytest.fixture(scope="module")
def images(pictures: list[Path]) -> Iterator[FileImages]:
    yield FileImages([str(path) for path in pictures], Decoders(256, 1, is_whole=True))


def drawn(num_images: int, seed: int) -> list[Tensor]:
    return list(BatchRandom(torch.Generator().manual_seed(seed), num_images).uniforms(*augment.STANDARD_RANGES))


@pytest.mark.parametrize("seed", range(5))
def test_a_random_crop_is_torchvisions_of_the_box_that_the_same_numbers_give(
    images: FileImages, pictures: list[Path], seed: int
) -> None:
    views = whole_pictures.standard(images, torch.arange(4), BatchRandom(torch.Generator().manual_seed(seed), 4), PLAIN)
    *numbers, flip_B1 = drawn(4, seed)
    for row, path in enumerate(pictures):
        with Image.open(path) as picture:
            size_HW = picture.height, picture.width
            box = geometry.crops([each[row : row + 1] for each in numbers], size_HW)[0].tolist()
            wanted = functional.resized_crop(picture, *box, [224, 224])
        wanted = functional.hflip(wanted) if flip_B1[row] < 0.5 else wanted
        torch.testing.assert_close(views[row], functional.to_tensor(wanted), rtol=0, atol=1e-6)


@pytest.mark.parametrize("mirrored", [False, True])
def test_windows_are_torchvisions_ten_crops(images: FileImages, pictures: list[Path], mirrored: bool) -> None:
    ten = transforms.Compose([transforms.Resize(256), transforms.TenCrop(224)])
    rows = torch.arange(4)
    found = [whole_pictures.window(images, rows, place, mirrored, PLAIN) for place in PLACES]
    for row, path in enumerate(pictures):
        with Image.open(path) as picture:
            crops = [functional.to_tensor(crop) for crop in ten(picture)]
        for number in range(5):
            torch.testing.assert_close(found[number][row], crops[number + 5 * mirrored], rtol=0, atol=1e-6)


def test_the_squares_stay_what_everything_else_sees(images: FileImages, pictures: list[Path]) -> None:
    assert images.shape == (4, 3, 256, 256)
    for row, path in enumerate(pictures):
        assert np.array_equal(images[torch.tensor([row])][0].permute(1, 2, 0), decoder.decoded(str(path), 256))


def test_both_kinds_of_crops_take_the_same_numbers_from_a_generator(images: FileImages) -> None:
    one, other = (torch.Generator().manual_seed(3) for _ in range(2))
    whole_pictures.standard(images, torch.arange(4), BatchRandom(one, 4), PLAIN)
    augment.standard(images[torch.arange(4)], BatchRandom(other, 4), PLAIN)
    assert torch.equal(one.get_state(), other.get_state())


def test_a_damaged_picture_is_named_without_the_numbers_of_its_crop(tmp_path: Path) -> None:
    path = tmp_path / "cut.png"
    path.write_bytes(b"\x89PNG")
    images = FileImages([str(path)], Decoders(256, 1, is_whole=True))
    with pytest.raises(DataError, match=r"cut\.png is no readable image") as refused:
        whole_pictures.window(images, torch.tensor([0]), (0.0, 0.0), False, PLAIN)
    assert "\0" not in str(refused.value)


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"stream": "auto"}, "whole_pictures: true needs stream: always, but stream is auto"),
        ({"stream": "always", "image_size": 96}, "whole_pictures: true needs image_size: 256, but it is 96"),
    ],
)
def test_what_whole_pictures_need_is_said_before_the_start(fields: dict[str, object], text: str) -> None:
    with pytest.raises(SettingsError, match=text):
        datasets.Spec(name="imagenet", whole_pictures=True, **fields)  # type: ignore[arg-type]


def test_a_set_without_whole_pictures_keeps_its_meaning_and_one_with_them_has_another() -> None:
    fields = {"name": "imagenet", "stream": "always"}
    assert "whole_pictures" not in datasets.meaning(fields)  # type: ignore[arg-type]
    assert datasets.meaning({**fields, "whole_pictures": True})["whole_pictures"] is True


def test_the_areas_of_crops_are_those_that_the_documents_name() -> None:
    numbers = drawn(20_000, 0)[:-1]
    for (height, width), of_picture, wanted in (((375, 500), 1.0, 0.435), ((256, 256), 0.75, 0.362)):
        _, _, high_N, wide_N = geometry.crops(numbers, (height, width)).double().unbind(1)
        share = float((high_N * wide_N).mean()) * of_picture / (height * width)
        assert share == pytest.approx(wanted, abs=0.005)
        assert f"| {wanted} (" in DOCUMENT
