"""Images of the shape that a published data set has, for who wants to know its cost before its files are there."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..interfaces import WINDOWS_PX, DataShape, ImageData, Split
from .datasets import Spec

PUBLISHED: Mapping[str, tuple[int, int, int, int, int]] = {
    "mnist": (60_000, 10_000, 10, 1, 28),
    "cifar10": (50_000, 10_000, 10, 3, 32),
    "cifar20": (50_000, 10_000, 20, 3, 32),
    "cifar100": (50_000, 10_000, 100, 3, 32),
    "stl10": (5_000, 8_000, 10, 3, 96),
    "tiny_imagenet": (100_000, 10_000, 200, 3, 64),
    "imagenet": (1_281_167, 50_000, 1_000, 3, 256),
}
"""Name -> training images, evaluation images, classes, channels, side in px as it is kept."""


NUM_UNLABELED = 100_000
"""Of STL-10."""
LARGEST = 8192
"""Training images that are generated: two steps of the largest published batch."""


@dataclass(frozen=True)
class Shown:
    """Images to measure on, which may be fewer than the data set has.

    Attributes:
        num_pretext: images that a pretext trains on in the real data set.
    """

    images: ImageData
    shape: DataShape
    num_pretext: int
    is_generated: bool = False

    @property
    def whole_bytes(self) -> int:
        """Bytes of the whole data set's pixels on a device; 0 where the images stay in their files."""
        images_NCHW = self.images.train.images_NCHW
        if not isinstance(images_NCHW, Tensor):
            return 0
        whole = self.num_pretext + (0 if self.images.is_union else self.shape.num_eval)
        return whole * images_NCHW[0].nbytes


def real(data: ImageData) -> Shown:
    """Take a data set as it is."""
    return Shown(data, data.shape, len(data.train) + (len(data.unlabeled) if data.unlabeled else 0))


def instead(spec: Spec) -> Shown | None:
    """Make random images in the place of a published data set that is missing.

    Returns:
        Noise in the shape of the data set, with the real numbers of images; None where only the files know these. There
        are at most LARGEST training images and the same share of the others, and every class has some. Lists of classes
        are not read.
    """
    if spec.name not in PUBLISHED:
        return None
    train, evaluation, classes, channels, kept_px = PUBLISHED[spec.name]
    is_union, size_px = spec.protocol != "split", spec.image_size or kept_px
    train = train + evaluation if spec.protocol == "union" else train
    train = min(train, spec.train_limit or train)
    evaluation = train if is_union else min(evaluation, spec.eval_limit or evaluation)
    shape = DataShape(train, evaluation, classes, channels, WINDOWS_PX.get(size_px, size_px))
    num = min(train, LARGEST)
    first = _split(num, shape, size_px, seed=0)
    names, moments = tuple(map(str, range(classes))), ((0.5,) * channels, (0.25,) * channels)
    data = ImageData(spec.name, first, first, names, *moments, "generated")
    if not is_union:
        data = replace(data, eval=_split(max(1, evaluation * num // train), shape, size_px, seed=1))
    unlabeled = NUM_UNLABELED if spec.name == "stl10" and spec.unlabeled else 0
    return Shown(data, shape, train + unlabeled, is_generated=True)


def _split(num: int, shape: DataShape, size_px: int, seed: int) -> Split:
    generator = torch.Generator().manual_seed(seed)
    size = (num, shape.num_channels, size_px, size_px)
    images_NCHW = torch.randint(0, 256, size, generator=generator, dtype=torch.uint8)
    return Split(images_NCHW, torch.arange(num) % shape.num_classes)
