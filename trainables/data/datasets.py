"""Data sets by name: a Spec says which images, ``load`` brings them into memory as uint8 or leaves them in their files.

Sets that consist of image files stay in them where ``stream`` says so, or where they are large and do not fit; then
they are decoded by other processes while the device works (see ``decoding.workers``).
Axes: N images, C channels, H height, W width.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .. import settings
from ..interfaces import WINDOWS_PX, ImageData, Split
from . import features, fingerprints, folders, moments, public_sets, superclasses
from .decoding import decoder
from .decoding.workers import MANY, Decoders, FileImages
from .loaded import DataError, Raw, shortened
from .own_images import layout, reader
from .splits import joined, limited, named, resized

MIN_IMAGE_SIZE_PX = 8
LARGE_BYTES = 2 * 2**30
"""Pixels of image files beyond which a set may stay in its files, and is known by its files instead of its pixels."""

SHARE_OF_DEVICE = 0.5
"""Of the device's free memory, what a large set may take; the rest is for networks and for other trials."""

_WAY_PAST = "\nskip_unreadable: true in the study's dataset (name: folder) leaves such files out."
PLACES = ("root", "download", "stream", "keep_decoded")
"""Fields of a Spec that say where a data set is and how it is read, not what it is."""

_SHOWN = ("superclasses",)
"""Fields that figures alone look at."""

_LISTS = ("classes", "labels")
_PATHS = ("root", *_LISTS, *_SHOWN)
_SEEN = (*_LISTS, "skip_unreadable")
"""Fields whose effect is seen in the images and labels themselves."""

_BY_DEFAULT: Mapping[str, settings.Plain] = {
    "resize": "bilinear",
    "normalization": "data",
    "fit": "crop",
    "skip_unreadable": False,
    "whole_pictures": False,
}
"""Values of a Spec under which it means what it meant before it had these fields, and under which they are left out."""
_PUBLIC = ("mnist", "cifar10", "cifar20", "cifar100", "stl10")
_TREES = ("tiny_imagenet", "imagenet", "folder")


@dataclass(frozen=True, kw_only=True)
class Spec:
    """Which data set, and which part of it. ``image_size`` is 0 or at least 8."""

    name: str = settings.setting(
        "digits",
        "data set: scikit-learn's 8x8 digits (nothing to fetch), a public one, a folder of images, or a matrix of"
        " features; cifar20 is CIFAR-100 with its 20 super-classes",
        choices=("digits", *_PUBLIC, *_TREES, "features"),
    )
    root: str = settings.setting(
        "data",
        "folder that holds the files, relative to the current directory; for name: folder also a zip or tar of images,"
        " or a .npz or .npy file of images; for features the .npz or .npy file",
        when={"name": (*_PUBLIC, *_TREES, "features")},
    )
    protocol: str = settings.setting(
        "split",
        "split: train on the training part, judge on the other; union: train and judge on all images (DEC, DCCM);"
        " train: train and judge on the training part (DCCM's parts of ImageNet)",
        choices=("split", "union", "train"),
    )
    train_limit: int = settings.setting(
        0, "training images to use, drawn once without a look at the labels; 0 is all", low=0, unit="images"
    )
    eval_limit: int = settings.setting(
        0,
        "evaluation images to use, drawn once without a look at the labels; 0 is all",
        low=0,
        unit="images",
        when={"protocol": ("split",)},
    )
    image_size: int = settings.setting(
        0,
        "side to which images are resized when they are loaded; 0 leaves them as they are (imagenet: 256). Images of"
        " 256 px are seen through windows of 224 px",
        low=0,
        unit="px",
    )
    resize: str = settings.setting(
        "bilinear",
        "kernel by which images are resized; DINO's recipes have bicubic",
        choices=("bilinear", "bicubic"),
    )
    normalization: str = settings.setting(
        "data",
        "mean and deviation of the channels: those of the data set, or ImageNet's, with which published checkpoints of"
        " ImageNet were trained (DINO, torchvision)",
        choices=("data", "imagenet"),
    )
    fit: str = settings.setting(
        "crop",
        "how an image that is no square becomes one: crop keeps the middle, stretch resizes both sides, pad adds black"
        " bars",
        choices=("crop", "stretch", "pad"),
        when={"name": ("folder",)},
    )
    skip_unreadable: bool = settings.setting(
        False,
        "leave out files that cannot be read as images; every file is read once before anything starts, and the report"
        " says how many were left out",
        when={"name": ("folder",)},
    )
    download: bool = settings.setting(False, "fetch missing files where the data set is public", when={"name": _PUBLIC})
    classes: str = settings.setting(
        "", "text file that lists the classes to keep, one in a line; empty keeps all", when={"name": _TREES}
    )
    superclasses: str = settings.setting(
        "",
        "table (CSV, or TSV) with the columns class and superclass, by which the confusion figure puts classes that"
        " belong together side by side; it leaves out those with an empty superclass",
        when={"name": _TREES},
    )
    labels: str = settings.setting(
        "",
        "folders: the names of the class folders; none: images at any depth, without labels; or a table (CSV) with the"
        " columns file and label; empty: class folders where there are some. For features the .npy file with their"
        " labels",
        when={"name": ("folder", "features")},
    )
    unlabeled: bool = settings.setting(
        True, "also read the 100,000 images without labels, for the pretext", when={"name": ("stl10",)}
    )
    stream: str = settings.setting(
        "auto",
        "always: images stay in their files and are decoded while training; auto: only where they are more than half of"
        " the device's free memory",
        choices=("auto", "always", "never"),
        when={"name": _TREES},
    )

    whole_pictures: bool = settings.setting(
        False,
        "DeepCluster and UAD cut their standard crops, and the linear probe its ten, out of the whole pictures at full"
        " resolution, as the released code does, and not out of the kept squares; needs stream: always and 256 px, and"
        " decodes each crop when it is wanted",
        when={"name": ("imagenet",)},
    )
    keep_decoded: bool = settings.setting(
        True,
        "keep the decoded pixels of streamed images in the temporary folder (TMPDIR), on at most half of its free space"
        ": every epoch and trial after the first only reads them",
        when={"name": _TREES},
    )

    def __post_init__(self) -> None:
        settings.check(self)
        errors = []
        if 0 < self.image_size < MIN_IMAGE_SIZE_PX:
            errors.append(
                ("image_size", f"image_size must be 0 or at least {MIN_IMAGE_SIZE_PX} px, but is {self.image_size}.")
            )
        if self.normalization == "imagenet" and self.name in ("digits", "mnist", "features"):
            errors.append(
                ("normalization", f"normalization: imagenet needs images of three channels, but {self.name} has none.")
            )
        if self.name == "features" and self.image_size:
            errors.append(("image_size", f"image_size must be 0 for features, but is {self.image_size}."))
        if self.stream == "always" and not self.size_px and self.name == "folder":
            errors.append(("stream", "stream: always needs an image_size above 0, so that all images have one size."))
        if self.whole_pictures and self.name == "imagenet":
            if self.stream != "always":
                errors.append(("stream", f"whole_pictures: true needs stream: always, but stream is {self.stream}."))
            if self.size_px not in WINDOWS_PX:
                errors.append(("image_size", f"whole_pictures: true needs image_size: 256, but it is {self.size_px}."))
        if self.classes and self.labels not in ("", layout.FOLDERS):
            errors.append(("classes", f"classes names class folders, which labels: {self.labels} does not look at."))
        if errors:
            raise settings.SettingsError(errors)

    @property
    def size_px(self) -> int:
        """Side of the images once they are loaded; 0 where only their files know."""
        return self.image_size or {"imagenet": 256, "tiny_imagenet": 64}.get(self.name, 0)


def meaning(fields: Mapping[str, settings.Plain]) -> dict[str, settings.Plain]:
    """The fields of a Spec that say what the data set is, and not where it lies or how it is read.

    Args:
        fields: every field of a Spec.
    """
    effective = settings.effective(Spec(**fields))  # type: ignore[arg-type]
    return {
        name: value
        for name, value in effective.items()
        if name not in (*PLACES, *_SHOWN) and _BY_DEFAULT.get(name) != value
    }


def located(fields: Mapping[str, settings.Plain]) -> dict[str, settings.Plain]:
    """The fields of a Spec with paths that do not depend on the current directory, which a trial's process changes."""
    named = {name: str(fields[name]) for name in _PATHS if fields.get(name) not in (None, "", *layout.WORDS)}
    paths = {name: str(Path(path).absolute()) for name, path in named.items()}
    return {**fields, **paths}


def load(spec: Spec, device: torch.device | None = None) -> ImageData:
    """Read a data set and check it; the same Spec and files give the same tensors and fingerprint.

    Args:
        device: where the images will be used, and what the size of a large set is compared with; None leaves a large
            set in its files, for who wants to know its shape and fingerprint alone.

    Returns:
        Images on the CPU, or still in files; ``to`` brings them to a device. Under ``union`` and ``train``, train and
        eval are one and the same part. Mean and std are the published ones where there are some; otherwise they are
        computed from the training pixels, of a large set from a sample.

    Raises:
        DataError: files are missing, altered or no images, a limit exceeds the images there are, or a channel has only
            one level; or as ``superclasses.of_table``.
    """
    raw = _named(_read(spec))
    if spec.superclasses:
        table, is_cut_down = Path(spec.superclasses), bool(spec.classes)
        groups = superclasses.of_table(table, raw.class_names, is_cut_down=is_cut_down)
        raw = replace(raw, class_groups=groups)
    if spec.protocol == "union":
        train = evaluation = limited(joined(raw.train, raw.eval), "train_limit", spec.train_limit)
    elif spec.protocol == "train":
        train = evaluation = limited(raw.train, "train_limit", spec.train_limit)
    else:
        train = limited(raw.train, "train_limit", spec.train_limit)
        evaluation = limited(raw.eval, "eval_limit", spec.eval_limit)
    for purpose, split in (("train on", train), ("evaluate on", evaluation)):
        if not len(split):
            raise DataError(f"{Path(spec.root).resolve()} holds no images to {purpose}. Add some, or change protocol.")
    unlabeled = None if raw.unlabeled is None else resized(raw.unlabeled, spec.image_size, spec.resize)
    by_files = _is_by_files(spec, train, evaluation)
    if by_files:
        _refuse_empty_files(_parts(train, evaluation))
        fingerprint = fingerprints.of_files(_meaning(spec), _parts(train, evaluation))
        train, evaluation = _on_device_if_it_fits(spec, train, evaluation, device)
    else:
        train, evaluation = _in_memory(spec, train, evaluation)
        seen = [train, evaluation] if unlabeled is None else [train, evaluation, unlabeled]
        fingerprint = fingerprints.of_pixels(_meaning(spec), seen)
    mean, std = raw.mean, raw.std
    if spec.normalization == "imagenet":
        mean, std = public_sets.IMAGENET_MEAN, public_sets.IMAGENET_STD
    if not mean and spec.name != "features":
        pixels_NCHW = moments.sampled(train) if by_files else train.images_NCHW[:]
        mean, std = moments.of_pixels(spec.name, pixels_NCHW)
    return ImageData(
        spec.name,
        train,
        evaluation,
        raw.class_names,
        mean,
        std,
        fingerprint,
        unlabeled,
        raw.class_groups,
        raw.root,
        raw.left_out,
    )


def _read(spec: Spec) -> Raw:
    root, union = Path(spec.root), spec.protocol == "union"
    if spec.name in _TREES:
        return _tree(spec, root, spec.protocol != "split")
    readers: Mapping[str, Callable[[], Raw]] = {
        "digits": public_sets.digits,
        "mnist": lambda: public_sets.mnist(root, spec.download),
        "cifar10": lambda: public_sets.cifar10(root, spec.download),
        "cifar20": lambda: public_sets.cifar100(root, spec.download, grouped=True),
        "cifar100": lambda: public_sets.cifar100(root, spec.download),
        "stl10": lambda: public_sets.stl10(root, spec.download, union=union, unlabeled=spec.unlabeled),
        "features": lambda: features.features(root, spec.labels, spec.protocol != "split"),
    }
    return readers[spec.name]()


def _named(raw: Raw) -> Raw:
    unlabeled = None if raw.unlabeled is None else named(raw.unlabeled, "unlabeled")
    return replace(raw, train=named(raw.train, "train"), eval=named(raw.eval, "eval"), unlabeled=unlabeled)


def _tree(spec: Spec, root: Path, one_part: bool) -> Raw:
    is_bicubic = spec.resize == "bicubic"
    if spec.name == "folder":
        how = decoder.How(spec.fit, as_shown=True, is_bicubic=is_bicubic)
        choices = reader.Choices(spec.labels, spec.classes, one_part, spec.size_px, how, spec.skip_unreadable)
        return reader.read(root, choices)
    find = folders.imagenet if spec.name == "imagenet" else folders.tiny_imagenet
    how = decoder.How(is_bicubic=is_bicubic)
    decoders = Decoders(spec.size_px, how=how, is_whole=spec.whole_pictures and spec.name == "imagenet")
    raw = reader.in_files(find(root, spec.classes), decoders, root)
    return replace(raw, mean=public_sets.IMAGENET_MEAN, std=public_sets.IMAGENET_STD)


def _meaning(spec: Spec) -> dict[str, settings.Plain]:
    """What of a Spec decides the images; what its lists hold is seen in the images and labels themselves."""
    left_out = (*PLACES, *_SHOWN, *_SEEN)
    effective = settings.effective(spec).items()
    return {name: value for name, value in effective if name not in left_out and _BY_DEFAULT.get(name) != value}


def _parts(train: Split, evaluation: Split) -> list[Split]:
    return [train] if evaluation is train else [train, evaluation]


def _is_by_files(spec: Spec, train: Split, evaluation: Split) -> bool:
    """Whether the set is known by its files. Not by the device: every process must find the same fingerprint."""
    if not isinstance(train.images_NCHW, FileImages):
        return False
    return spec.stream == "always" or _num_bytes(train, evaluation) > LARGE_BYTES


def _refuse_empty_files(parts: Sequence[Split]) -> None:
    """Of a set whose files are not all read before it is used: what a look at their sizes finds."""
    paths = [path for part in parts for path in part.images_NCHW.paths]  # type: ignore[attr-defined]
    empty = [path for path in paths if not os.path.exists(path) or not os.path.getsize(path)]
    if empty:
        raise DataError(shortened([f"{path} is empty (0 bytes), or not there." for path in empty]) + _WAY_PAST)


def _num_bytes(train: Split, evaluation: Split) -> int:
    return sum(part.images_NCHW.shape.numel() for part in _parts(train, evaluation))


def _on_device_if_it_fits(
    spec: Spec, train: Split, evaluation: Split, device: torch.device | None
) -> tuple[Split, Split]:
    if device is None:
        return train, evaluation
    images = [part.images_NCHW for part in _parts(train, evaluation) if isinstance(part.images_NCHW, FileImages)]
    too_large = _num_bytes(train, evaluation) > SHARE_OF_DEVICE * _free_bytes(device)
    if spec.stream == "always" or (spec.stream == "auto" and too_large):
        if spec.keep_decoded:
            images[0].decoders.keep([path for part in images for path in part.paths])
        return train, evaluation
    train = replace(train, images_NCHW=images[0].whole(device))
    return train, replace(evaluation, images_NCHW=images[1].whole(device)) if len(images) > 1 else train


def _free_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        # A trial that shares its GPU may take its own share, which is set for its process.
        free, total = torch.cuda.mem_get_info(device)
        return min(free, int(total * torch.cuda.get_per_process_memory_fraction(device)))
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2


def _in_memory(spec: Spec, train: Split, evaluation: Split) -> tuple[Split, Split]:
    """Both parts decoded and resized; one and the same where they were."""
    parts = _parts(train, evaluation)
    if isinstance(train.images_NCHW, FileImages):
        paths = [path for part in parts for path in part.images_NCHW.paths]  # type: ignore[attr-defined]
        images_NCHW = _decoded(Path(spec.root), paths, train.images_NCHW)
        pieces = images_NCHW.split([len(part) for part in parts])
        parts = [replace(part, images_NCHW=piece_NCHW) for piece_NCHW, part in zip(pieces, parts, strict=True)]
    parts = [resized(part, spec.image_size, spec.resize) for part in parts]
    return parts[0], parts[-1]


def _decoded(root: Path, paths: Sequence[str], like: FileImages) -> Tensor:
    """All these images, by other processes where they are many."""
    size_px = like.decoders.size_px
    if size_px and len(paths) >= MANY:
        try:
            return FileImages(paths, like.decoders).whole(torch.device("cpu"))
        except DataError as error:
            raise DataError(shortened(list(like.decoders.unreadable(paths).values())) + _WAY_PAST) from error
    images, errors = [], []
    for path in paths:
        try:
            image_HWC = np.array(decoder.decoded(path, size_px, like.decoders.how))
            images.append(torch.from_numpy(image_HWC).permute(2, 0, 1).contiguous())
        except decoder.Unreadable as error:
            errors.append(str(error))
    if errors:
        raise DataError(shortened(errors) + _WAY_PAST)
    sizes: set[tuple[int, ...]] = {tuple(image_CHW.shape[1:]) for image_CHW in images}
    if len(sizes) > 1 or any(len(set(sides)) > 1 for sides in sizes):
        shown = ", ".join(f"{width}x{height}" for height, width in sorted(sizes)[:3])
        raise DataError(
            f"Images in {root} must be squares of one size while image_size is 0, but there are {len(sizes)} sizes,"
            f" among them {shown} px. Set image_size to the side that all should have; fit says how they become"
            " squares."
        )
    return torch.stack(images)
