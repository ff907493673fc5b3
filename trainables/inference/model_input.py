"""Which images a model takes: kept beside its weights, so that it can be built without the data it was trained on.

Axes: C channels, H height, W width.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch

from ..interfaces import ImageData, Split
from ..settings import Plain


@dataclass(frozen=True)
class ModelInput:
    """The images of a data set, as a model meets them.

    num_channels: C. size_px: their side as they are kept (of 256 px a model sees the middle 224 px). mean, std: per
    channel, of pixels scaled to [0, 1]. resized: they were brought to this size when they were read, so new ones may
    be too. fit, as_shown, is_bicubic: how files are read, as in ``data.decoding.decoder.How``. is_features: rows of
    num_channels features, which lie in no image file.
    """

    num_channels: int
    size_px: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    resized: bool
    fit: str = "crop"
    as_shown: bool = True
    is_bicubic: bool = False
    is_features: bool = False

    def as_dict(self) -> dict[str, Any]:
        """Plain data, fit for JSON."""
        return {**asdict(self), "mean": list(self.mean), "std": list(self.std)}


def of_data(data: ImageData, dataset: Mapping[str, Plain]) -> ModelInput:
    """What the models of a study take.

    Args:
        data: its images.
        dataset: the fields of ``data.datasets.Spec`` by which they were read.
    """
    shape = data.train.images_NCHW.shape
    resized = bool(dataset.get("image_size")) or dataset.get("name") in ("imagenet", "tiny_imagenet")
    return ModelInput(
        shape[1],
        shape[2],
        data.mean,
        data.std,
        resized,
        fit=str(dataset.get("fit", "crop")),
        # Published sets are read as their authors did; new images of theirs too.
        as_shown=dataset.get("name") not in ("imagenet", "tiny_imagenet"),
        is_bicubic=dataset.get("resize") == "bicubic",
        is_features=data.shape.is_features,
    )


def from_dict(content: Mapping[str, Any]) -> ModelInput:
    """The inverse of ``ModelInput.as_dict``.

    Raises:
        TypeError, KeyError: it has not these fields.
    """
    return ModelInput(**{**content, "mean": tuple(content["mean"]), "std": tuple(content["std"])})


def stand_in(wanted: ModelInput) -> ImageData:
    """A data set of this kind without an image, for ``classifier`` of a stage, which asks for its shape alone."""
    dtype = torch.float32 if wanted.is_features else torch.uint8
    empty = Split(
        torch.zeros((0, wanted.num_channels, wanted.size_px, wanted.size_px), dtype=dtype),
        torch.zeros(0, dtype=torch.int64),
    )
    return ImageData("unseen", empty, empty, (), wanted.mean, wanted.std, "")
