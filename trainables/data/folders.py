"""Image folders: root/train/<class>/* beside root/val, test or eval, or root/<class>/* alone. Images become RGB.

Every faulty file is found before anything is trained, and all are named at once.
Axes: N images, H height, W width.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..contract import Split
from .raw import DataError, Raw, fixed_order, picked

SUFFIXES = (".jpeg", ".jpg", ".png")
EVAL_FOLDERS = ("val", "test", "eval")
"""Names of the folder with the images for evaluation; the first that exists is read."""

TRAIN_SHARE = 0.8
MAX_FAULTS_SHOWN = 10


def folder(root: Path, image_size_px: int, union: bool) -> Raw:
    """Read an image folder.

    Args:
        root: holds train and one of val, test, eval, or the class folders themselves. Classes are the names of the
            folders, sorted; files whose names start with a dot, and files that are no images by their suffix, are
            passed over.
        image_size_px: the shorter side is resized to it and the middle square kept; 0 leaves the images as they are,
            which must then all be squares of one size.
        union: the parts will be joined, so that one alone is enough.

    Returns:
        Class folders alone are divided 80 to 20, class by class, always in the same way.

    Raises:
        DataError: a folder is missing, empty or holds one class; the parts have different classes; a file is empty or
            cannot be decoded; sizes differ.
    """
    if not root.is_dir():
        raise DataError(
            f"{root.resolve()} is not a folder. Set root to a folder with train/<class>/*.png and val/<class>/*.png,"
            " or with <class>/*.png; there is nothing to download for name: folder."
        )
    if not (root / "train").is_dir():
        classes = _class_names(root)
        whole = _read(root, classes, image_size_px)
        if union:
            return Raw(whole, picked(whole, torch.arange(0)), classes)
        return Raw(*_divided(whole, classes, root), classes)
    classes = _class_names(root / "train")
    train = _read(root / "train", classes, image_size_px)
    beside = next((root / name for name in EVAL_FOLDERS if (root / name).is_dir()), None)
    if beside is None and not union:
        raise DataError(
            f"{root.resolve()} has a folder train but none of {', '.join(EVAL_FOLDERS)} beside it. Add one, or set"
            " protocol: union to train and evaluate on the same images."
        )
    if beside is None:
        return Raw(train, picked(train, torch.arange(0)), classes)
    if _class_names(beside) != classes:
        differ = sorted(set(_class_names(beside)) ^ set(classes))
        raise DataError(
            f"{beside} and {root / 'train'} must hold the same classes, but {', '.join(map(repr, differ))} is in only"
            " one of them. Add the missing class folders, or remove the others."
        )
    evaluation = _read(beside, classes, image_size_px)
    if evaluation.images_NCHW.shape[1:] != train.images_NCHW.shape[1:]:
        raise DataError(_sizes_differ(beside, {tuple(part.images_NCHW.shape[2:]) for part in (train, evaluation)}))
    return Raw(train, evaluation, classes)


def _class_names(part: Path) -> tuple[str, ...]:
    names = sorted(path.name for path in part.iterdir() if path.is_dir() and not path.name.startswith("."))
    if len(names) < 2:
        raise DataError(
            f"{part} must hold a folder for each of at least two classes, but holds {len(names)}"
            f" ({', '.join(names) or 'none'}). Put the images into folders named after their classes."
        )
    return tuple(names)


def _read(part: Path, classes: Sequence[str], image_size_px: int) -> Split:
    images: list[Tensor] = []
    labels: list[int] = []
    faults: list[str] = []
    for label, name in enumerate(classes):
        paths = sorted(path for path in (part / name).iterdir() if _is_image(path))
        if not paths:
            faults.append(f"{part / name} holds no {', '.join(SUFFIXES)} file. Add images, or remove the folder.")
        for path in paths:
            try:
                images.append(_decode(path, image_size_px))
                labels.append(label)
            except DataError as error:
                faults.append(str(error))
    if faults:
        more = f"\n... and {len(faults) - MAX_FAULTS_SHOWN} more." if len(faults) > MAX_FAULTS_SHOWN else ""
        raise DataError("\n".join(faults[:MAX_FAULTS_SHOWN]) + more)
    sizes: set[tuple[int, ...]] = {tuple(image_CHW.shape[1:]) for image_CHW in images}
    if len(sizes) > 1 or any(len(set(sides)) > 1 for sides in sizes):
        raise DataError(_sizes_differ(part, sizes))
    return Split(torch.stack(images), torch.tensor(labels))


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


def _sizes_differ(part: Path, sizes: set[tuple[int, ...]]) -> str:
    shown = ", ".join(f"{width}x{height}" for height, width in sorted(sizes)[:3])
    return (
        f"Images in {part} must be squares of one size while image_size is 0, but there are {len(sizes)} sizes, among"
        f" them {shown} px. Set image_size to the side that all should have."
    )


def _decode(path: Path, image_size_px: int) -> Tensor:
    if path.stat().st_size == 0:
        raise DataError(f"{path} is empty (0 bytes). Copy it again, or remove it.")
    try:
        with Image.open(path) as image:
            deep = image.mode[:1] in ("I", "F")
            rgb = image.convert("RGB")
    # Pillow raises SyntaxError for a broken PNG chunk and ValueError for a broken header.
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(
            f"{path} is no readable image ({error}). It was cut short, or is no image in spite of its name: copy it"
            " again, or remove it."
        ) from error
    if deep:
        # Pillow would cut every level above 255 down to it.
        raise DataError(f"{path} has more than 8 bits per channel. Convert it to 8 bits.")
    if image_size_px and rgb.size != (image_size_px, image_size_px):
        rgb = _middle_square(rgb, image_size_px)
    return torch.from_numpy(np.array(rgb)).permute(2, 0, 1).contiguous()


def _middle_square(image: Image.Image, size_px: int) -> Image.Image:
    side = min(image.size)
    left, top = ((length - side) / 2 for length in image.size)
    # Pillow's bilinear filter widens when it reduces, so that every pixel of a large image counts.
    box = (left, top, left + side, top + side)
    return image.resize((size_px, size_px), Image.Resampling.BILINEAR, box=box)


def _divided(whole: Split, classes: Sequence[str], root: Path) -> tuple[Split, Split]:
    train, evaluation = [], []
    for label, name in enumerate(classes):
        rows_R = (whole.labels_N == label).nonzero().squeeze(1)
        if len(rows_R) < 2:
            raise DataError(
                f"{root / name} must hold at least two images, one to train on and one to evaluate on, but holds"
                f" {len(rows_R)}. Add images, or set protocol: union."
            )
        order_R = rows_R[fixed_order(len(rows_R), purpose=8020)]
        num_train = min(max(1, round(TRAIN_SHARE * len(rows_R))), len(rows_R) - 1)
        train.append(order_R[:num_train])
        evaluation.append(order_R[num_train:])
    return picked(whole, torch.cat(train).sort().values), picked(whole, torch.cat(evaluation).sort().values)
