"""Data sets by name: a Spec says which images, ``load`` brings them whole into memory as uint8.

Axes: N images, C channels, H height, W width, L 256 grey levels.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from .. import checks
from ..contract import ImageData, Split
from . import folders, official
from .raw import DataError, Raw, fixed_order, joined, picked

FINGERPRINT_VERSION = "images-1"
MIN_IMAGE_SIZE_PX = 8
_ON_DISK = {"name": ("mnist", "cifar10", "folder")}


@dataclass(frozen=True, kw_only=True)
class Spec:
    """Which data set, and which part of it. ``image_size`` is 0 or at least 8."""

    name: str = checks.setting(
        "digits",
        "data set: scikit-learn's 8x8 digits (nothing to fetch), MNIST, CIFAR-10, or a folder of images",
        choices=("digits", "mnist", "cifar10", "folder"),
    )
    root: str = checks.setting("data", "folder that holds the files, relative to the current directory", when=_ON_DISK)
    protocol: str = checks.setting(
        "split",
        "split: train on the training part, judge on the other; union: train and judge on all images (DEC, DCCM)",
        choices=("split", "union"),
    )
    train_limit: int = checks.setting(
        0, "training images to use, drawn once without a look at the labels; 0 is all", low=0, unit="images"
    )
    eval_limit: int = checks.setting(
        0,
        "evaluation images to use, drawn once without a look at the labels; 0 is all",
        low=0,
        unit="images",
        when={"protocol": ("split",)},
    )
    image_size: int = checks.setting(
        0, "side to which images are resized when they are loaded; 0 leaves them as they are", low=0, unit="px"
    )
    download: bool = checks.setting(
        False, "fetch missing files where the data set is public", when={"name": ("mnist", "cifar10")}
    )

    def __post_init__(self) -> None:
        checks.check(self)
        if 0 < self.image_size < MIN_IMAGE_SIZE_PX:
            sentence = f"image_size must be 0 or at least {MIN_IMAGE_SIZE_PX} px, but is {self.image_size}."
            raise checks.SettingsError([("image_size", sentence)])


def load(spec: Spec) -> ImageData:
    """Read a data set and check it; the same Spec and files give the same tensors and fingerprint.

    Returns:
        Images on the CPU. Under ``union`` train and eval are one and the same part. Mean and std are the published
        ones for CIFAR-10; for the others, which have none, they are computed from the training pixels.

    Raises:
        DataError: files are missing, altered or no images, a limit exceeds the images there are, or a channel has only
            one level.
    """
    raw = _read(spec)
    if spec.protocol == "union":
        train = _limited(joined(raw.train, raw.eval), "train_limit", spec.train_limit)
        train = evaluation = _resized(train, spec.image_size)
    else:
        train = _resized(_limited(raw.train, "train_limit", spec.train_limit), spec.image_size)
        evaluation = _resized(_limited(raw.eval, "eval_limit", spec.eval_limit), spec.image_size)
    mean, std = (raw.mean, raw.std) if raw.mean else _moments(spec.name, train.images_NCHW)
    return ImageData(spec.name, train, evaluation, raw.class_names, mean, std, _fingerprint(spec, train, evaluation))


def _read(spec: Spec) -> Raw:
    root = Path(spec.root)
    if spec.name == "digits":
        return official.digits()
    if spec.name == "mnist":
        return official.mnist(root, spec.download)
    if spec.name == "cifar10":
        return official.cifar10(root, spec.download)
    return folders.folder(root, spec.image_size, union=spec.protocol == "union")


def _limited(split: Split, setting: str, limit: int) -> Split:
    if limit > len(split):
        raise DataError(
            f"{setting} must be at most the {len(split)} images there are, but is {limit}. Set it to 0 for all of them."
        )
    if limit == 0:
        return split
    return picked(split, fixed_order(len(split), purpose=1)[:limit].sort().values)


def _resized(split: Split, image_size_px: int) -> Split:
    images_NCHW = split.images_NCHW
    if image_size_px in (0, images_NCHW.shape[-1]):
        return split
    size = (image_size_px, image_size_px)
    # antialias: where images shrink, every old pixel counts by the area it covers, instead of the nearest four alone.
    resized_NCHW = functional.interpolate(images_NCHW, size, mode="bilinear", antialias=True)
    return Split(resized_NCHW, split.labels_N)


def _moments(name: str, images_NCHW: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel, exact: from a count of the levels, in float64."""
    levels_L = torch.arange(256, dtype=torch.float64) / 255
    means, stds = [], []
    for images_NHW in images_NCHW.unbind(1):
        share_L = torch.bincount(images_NHW.flatten(), minlength=256).double() / images_NHW.numel()
        mean = (share_L * levels_L).sum()
        means.append(mean.item())
        stds.append((share_L * (levels_L - mean) ** 2).sum().sqrt().item())
        if share_L.max() == 1:
            raise DataError(
                f"Every training pixel of channel {len(means) - 1} of {name!r} has the same value, so there is nothing"
                " to learn from. Look at the images, or set root to others."
            )
    return tuple(means), tuple(stds)


def _fingerprint(spec: Spec, train: Split, evaluation: Split) -> str:
    """sha256 of what a stage can see: not of where the files lie."""
    digest = hashlib.sha256(FINGERPRINT_VERSION.encode())
    meaning = {name: value for name, value in checks.effective(spec).items() if name not in ("root", "download")}
    digest.update(repr(sorted(meaning.items())).encode())
    for split in (train, evaluation):
        digest.update(repr(tuple(split.images_NCHW.shape)).encode())
        digest.update(split.images_NCHW.contiguous().numpy().data)
        digest.update(split.labels_N.contiguous().numpy().data)
    return digest.hexdigest()
