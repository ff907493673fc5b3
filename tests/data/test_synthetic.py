"""Generated images have a published set's shape."""

import pytest
import torch

from trainables.data import datasets, synthetic
from trainables.interfaces import ImageData, Split


@pytest.mark.parametrize("name", synthetic.PUBLISHED)
@pytest.mark.parametrize("protocol", ["split", "union"])
def test_the_shape_is_that_of_the_published_set(name: str, protocol: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(synthetic, "LARGEST", 64)
    shown = synthetic.instead(datasets.Spec(name=name, protocol=protocol))
    assert shown is not None and shown.is_generated
    train, evaluation, classes, channels, _ = synthetic.PUBLISHED[name]
    num = train + evaluation if protocol == "union" else train
    assert (shown.shape.num_train, shown.shape.num_classes, shown.shape.num_channels) == (num, classes, channels)
    assert shown.images.is_union == (protocol == "union")
    assert len(shown.images.train) == 64
    assert shown.images.shape.image_size_px == shown.shape.image_size_px
    assert shown.num_pretext == num + (100_000 if name == "stl10" else 0)


def test_limits_and_sizes_of_the_spec_hold() -> None:
    shown = synthetic.instead(datasets.Spec(name="cifar10", train_limit=100, eval_limit=50, image_size=16))
    assert shown is not None
    assert (shown.shape.num_train, shown.shape.num_eval, shown.shape.image_size_px) == (100, 50, 16)
    assert shown.images.train.images_NCHW.shape == (100, 3, 16, 16) and len(shown.images.eval) == 50


@pytest.mark.parametrize("name", ["folder", "features", "digits"])
def test_what_only_its_files_know_is_not_made_up(name: str) -> None:
    assert synthetic.instead(datasets.Spec(name=name)) is None


def test_bytes_are_those_of_the_whole_set() -> None:
    shown = synthetic.instead(datasets.Spec(name="cifar10", train_limit=100, eval_limit=50, image_size=16))
    assert shown is not None and shown.whole_bytes == 150 * 3 * 16 * 16
    split = Split(torch.zeros(7, 1, 8, 8, dtype=torch.uint8), torch.zeros(7, dtype=torch.int64))
    union = ImageData("x", split, split, ("0",), (0.5,), (0.5,), "x")
    assert synthetic.real(union).whole_bytes == 7 * 64
