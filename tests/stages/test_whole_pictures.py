"""Which stages see the whole pictures of a set that keeps squares of them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from trainables.data import datasets
from trainables.interfaces import ImageData, Result
from trainables.nets import backbones
from trainables.settings import build
from trainables.stages import deepcluster, linear_probe
from trainables.training import whole_pictures

Train = Callable[..., Any]
FEW = {"network": "alexnet_dc", "num_clusters": 2, "batch_size": 4, "epochs": 1, "clustering.pca_dim": 4}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ImageNet of two classes with four wide pictures to train on and two to judge each."""
    base: Path = tmp_path_factory.mktemp("imagenet")
    rng = np.random.default_rng(0)
    for part, count in (("train", 4), ("val", 2)):
        for synset in ("n01443537", "n02124075"):
            (base / part / synset).mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(0, 256, (300, 400, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(base / part / synset / f"{synset}_{number}.JPEG", "JPEG")
    return base


def imagenet(root: Path, **changes: Any) -> ImageData:
    spec = datasets.Spec(name="imagenet", root=str(root), stream="always", keep_decoded=False, **changes)
    return datasets.load(spec, torch.device("cpu"))


def clustered(train: Train, data: ImageData, **changes: Any) -> Any:
    return train(deepcluster, build(deepcluster.Config, {**FEW, **changes}), data)


def test_standard_crops_of_deepcluster_come_from_whole_pictures_where_that_is_asked_for(
    train: Train, root: Path
) -> None:
    whole, squares = imagenet(root, whole_pictures=True), imagenet(root)
    first, other = (clustered(train, data, augmentation="standard") for data in (whole, squares))
    assert first.metrics[0]["loss"] != other.metrics[0]["loss"]
    # Both cluster the same squares before the first step.
    same = "mean_squared_distance"
    assert first.metrics[0][same] == other.metrics[0][same]
    assert whole.fingerprint != squares.fingerprint


def test_the_ten_crops_of_the_linear_probe_come_from_whole_pictures_and_its_other_views_do_not(
    train: Train, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[tuple[float, float], bool]] = []
    window = whole_pictures.window

    def counted(images: Any, rows_B: Any, place: tuple[float, float], mirrored: bool, norm: Any) -> Any:
        seen.append((place, mirrored))
        return window(images, rows_B, place, mirrored, norm)

    monkeypatch.setattr(whole_pictures, "window", counted)
    data = imagenet(root, whole_pictures=True)
    backbone = backbones.build("alexnet_dc", in_channels=3, image_size_px=224, seed=0)
    probed = Result(weights={"backbone": backbone.state_dict()}, facts={"network": "alexnet_dc"})
    for ten_crops, wanted in ((False, 0), (True, 10)):
        config = build(linear_probe.Config, {"batch_size": 4, "epochs": 1, "ten_crops": ten_crops})
        train(linear_probe, config, data, {"probed": probed})
        assert len(seen) == len(set(seen)) == wanted
