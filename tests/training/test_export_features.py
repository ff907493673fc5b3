"""Features of images from a checkpoint, as DEC's data set."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from trainables.data.datasets import Spec, load
from trainables.nets import backbones, models
from trainables.training import export_features

NETWORK, SIZE = "resnet18_cifar", 16


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    generator = np.random.default_rng(0)
    for part, num in (("train", 4), ("val", 3)):
        for name in ("a", "b"):
            (tmp_path / "images" / part / name).mkdir(parents=True)
            for number in range(num):
                pixels_HWC = generator.integers(0, 256, (20, 20, 3), dtype=np.uint8)
                Image.fromarray(pixels_HWC).save(tmp_path / "images" / part / name / f"{number}.png")
    return tmp_path / "images"


def arguments(folder: Path, checkpoint: Path, out: Path, *more: str) -> list[str]:
    found = ["--dataset", "folder", "--root", str(folder), "--checkpoint", str(checkpoint), "--out", str(out)]
    return [*found, "--network", NETWORK, "--image-size", str(SIZE), *more]


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    backbone = backbones.build(NETWORK, in_channels=3, image_size_px=SIZE, seed=3)
    torch.save(backbone.state_dict(), tmp_path / "weights.pt")
    return tmp_path / "weights.pt"


@pytest.mark.parametrize(("protocol", "sizes"), [("union", {"train": 14}), ("split", {"train": 8, "eval": 6})])
def test_the_file_is_a_data_set_of_the_network_s_features(
    folder: Path, checkpoint: Path, tmp_path: Path, protocol: str, sizes: dict[str, int]
) -> None:
    out = tmp_path / "out" / "features.npz"
    assert export_features.main(arguments(folder, checkpoint, out, "--protocol", protocol)) == 0
    data = load(Spec(name="features", root=str(out), protocol=protocol))
    images = load(
        Spec(
            name="folder",
            root=str(folder),
            protocol=protocol,
            image_size=SIZE,
            resize="bicubic",
            normalization="imagenet",
        )
    )
    backbone = backbones.build(NETWORK, in_channels=3, image_size_px=SIZE, seed=3)
    for part, num in sizes.items():
        split, own = getattr(data, part), getattr(images, part)
        wanted_ND = models.predict(backbone, own.images_NCHW, images.mean, images.std)
        assert len(split) == num and torch.equal(split.labels_N, own.labels_N)
        torch.testing.assert_close(split.images_NCHW[:].flatten(1), wanted_ND)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (["--network", "resnet99"], "--network must be one of"),
        (["--network", "resnet50"], "takes images of at least 64 px"),
        (["--dataset", "features"], "image_size must be 0 for features"),
        (["--dataset", "mnist"], "needs images of three channels"),
        (["--checkpoint", "nowhere.pt"], "the checkpoint cannot be read"),
    ],
)
def test_what_cannot_be_is_one_sentence_and_writes_nothing(
    folder: Path,
    checkpoint: Path,
    tmp_path: Path,
    changes: list[str],
    sentence: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "features.npz"
    assert export_features.main(arguments(folder, checkpoint, out, *changes)) == 2
    assert sentence in capsys.readouterr().err and not out.exists()
