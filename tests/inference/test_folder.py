"""A folder of any shape, read as the images that a model was trained on."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from trainables.data import datasets
from trainables.data.loaded import DataError
from trainables.inference import folder, model_input
from trainables.inference.model_input import ModelInput

WANTED = ModelInput(3, 8, (0.5,) * 3, (0.2,) * 3, resized=True)


def put(path: Path, size: tuple[int, int] = (8, 8), mode: str = "RGB", color: object = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, color or (40 if mode == "L" else (10, 20, 30))).save(path)
    return path


def test_images_are_found_at_any_depth_and_hidden_ones_are_not(tmp_path: Path) -> None:
    for name in ("b.png", "a b/ü.JPG", "a b/c/d.jpeg", ".hidden/x.png", "a b/.y.png", "__MACOSX/z.png"):
        put(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no image")
    assert folder.read(tmp_path, WANTED).names == ("a b/c/d.jpeg", "a b/ü.JPG", "b.png")


@pytest.mark.parametrize("size_px", [8, 20])
def test_pixels_are_those_that_training_reads(tmp_path: Path, size_px: int) -> None:
    random = np.random.default_rng(0)
    for number in range(6):
        pixels = random.integers(0, 256, (size_px + number, size_px, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    fields = {"name": "folder", "root": str(tmp_path), "image_size": 8, "protocol": "union"}
    data = datasets.load(datasets.Spec(**fields))  # type: ignore[arg-type]
    images = folder.read(tmp_path, model_input.of_data(data, fields))  # type: ignore[arg-type]
    assert torch.equal(images.images_NCHW[:], data.train.images_NCHW[:])


def test_a_model_of_gray_images_takes_gray_ones_and_names_those_in_color(tmp_path: Path) -> None:
    gray = ModelInput(1, 8, (0.5,), (0.2,), resized=False)
    put(tmp_path / "a.png", mode="L")
    images = folder.read(tmp_path, gray).images_NCHW
    assert images.shape == (1, 1, 8, 8) and images[:].unique().tolist() == [40]
    put(tmp_path / "b.png")
    with pytest.raises(DataError, match=r"b\.png is in color, but the model takes images of one channel \(1 of 2"):
        folder.read(tmp_path, gray).images_NCHW[torch.tensor([0, 1])]


def test_another_size_is_refused_where_training_resized_nothing(tmp_path: Path) -> None:
    fixed = ModelInput(3, 8, (0.5,) * 3, (0.2,) * 3, resized=False)
    put(tmp_path / "good.png")
    put(tmp_path / "wide.png", (9, 8))
    with pytest.raises(DataError, match=r"wide\.png has 9 x 8 px, but .* 8 x 8 px .*--resize"):
        folder.read(tmp_path, fixed)
    assert folder.read(tmp_path, fixed, resize=True).images_NCHW[:].shape == (2, 3, 8, 8)


@pytest.mark.parametrize(
    ("wanted", "rule"),
    [
        (ModelInput(16, 1, (), (), False, is_features=True), "rows of features with 16 channels"),
        (ModelInput(2, 8, (0.5,) * 2, (0.2,) * 2, True), "images with 2 channels"),
    ],
)
def test_a_model_of_something_else_is_refused(tmp_path: Path, wanted: ModelInput, rule: str) -> None:
    put(tmp_path / "a.png")
    with pytest.raises(DataError, match=rule):
        folder.read(tmp_path, wanted)


def test_no_folder_no_image_and_a_broken_one_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not a folder"):
        folder.read(tmp_path / "none", WANTED)
    with pytest.raises(DataError, match="holds no"):
        folder.read(tmp_path, WANTED)
    (tmp_path / "broken.png").write_bytes(b"\x89PNG")
    with pytest.raises(DataError, match=r"broken\.png"):
        folder.read(tmp_path, WANTED).images_NCHW[:]


def test_what_a_model_takes_survives_json() -> None:
    import json

    assert model_input.from_dict(json.loads(json.dumps(WANTED.as_dict()))) == WANTED
    assert model_input.stand_in(WANTED).shape.num_channels == 3
