"""``alignment``: which images it is of, and which views."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from trainables.data import augment
from trainables.interfaces import ImageData, Split
from trainables.nets import backbones
from trainables.runner import runtime
from trainables.training import pretext

View = Callable[..., Tensor]


def images(channels: int, num: int = 20) -> ImageData:
    pixels = torch.randint(0, 256, (num, channels, 8, 8), generator=torch.Generator().manual_seed(0))
    split = Split(pixels.to(torch.uint8), torch.zeros(num, dtype=torch.int64))
    return ImageData("x", split, split, ("a", "b"), (0.5,) * channels, (0.2,) * channels, "x")


def found(data: ImageData, seed: int = 0) -> float:
    channels = data.shape.num_channels
    backbone = backbones.build("small", in_channels=channels, image_size_px=8, seed=0)
    arrays = pretext.features(backbone, data, {"backbone": "features"})
    assert backbone.training
    value = pretext.alignment(backbone, arrays, "backbone", data, runtime.local(seed))
    assert backbone.training  # left as it was
    return value


@pytest.mark.parametrize("channels", [1, 3])
def test_views_that_change_nothing_leave_no_distance(monkeypatch: pytest.MonkeyPatch, channels: int) -> None:
    plain = dict.fromkeys(augment.AUGMENTATIONS, augment.plain)
    assert found(images(channels)) > 1e-3
    monkeypatch.setattr(augment, "AUGMENTATIONS", plain)
    assert found(images(channels)) == pytest.approx(0, abs=1e-10)


@pytest.mark.parametrize(("channels", "view"), [(1, "affine"), (3, "simclr")])
def test_the_data_set_alone_decides_the_views(monkeypatch: pytest.MonkeyPatch, channels: int, view: str) -> None:
    others = {name: augment.plain for name in augment.AUGMENTATIONS if name != view}
    before = found(images(channels))
    monkeypatch.setattr(augment, "AUGMENTATIONS", {**augment.AUGMENTATIONS, **others})
    assert found(images(channels)) == before


def test_the_seed_decides_them_too() -> None:
    first, same, other = (found(images(3), seed) for seed in (0, 0, 1))
    assert first == same != other


def test_of_many_images_some_are_seen_and_held_against_their_own_features(monkeypatch: pytest.MonkeyPatch) -> None:
    data, seen = images(3, 50), []

    def noted(images_BCHW: Tensor, draws: object, norm: augment.Norm) -> Tensor:
        seen.append(images_BCHW)
        return augment.judged(images_BCHW, norm)

    monkeypatch.setattr(augment, "AUGMENTATIONS", {**augment.AUGMENTATIONS, "simclr": noted})
    monkeypatch.setattr(pretext, "ALIGNED_IMAGES", 7)
    assert found(data) == pytest.approx(0, abs=1e-10)
    rows = {image.tobytes() for image in np.asarray(data.eval.images_NCHW)}
    chosen = {image.tobytes() for image in np.asarray(torch.cat(seen))}
    assert len(chosen) == 7 and chosen < rows
