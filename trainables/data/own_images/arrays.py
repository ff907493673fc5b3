"""Images in NumPy files: uint8 of shape (N, H, W) or (N, H, W, C).

    file.npy    the images, with labels in a second .npy file
    file.npz    images and labels; or a training and an evaluation part: train_images and val_images (valid, validation,
                test, eval), or x_train and x_test, with train_labels or y_train and so on beside them

Numbers from 0 to 1 with a fraction are scaled to 255, 16-bit ones divided by 257. Labels are whole numbers, -1 where
unknown, and may be left out.
Axes: N images, C channels, H height, W width.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...interfaces import Split
from .. import features
from ..loaded import DataError, Raw
from ..splits import divided, joined, named, picked

SUFFIXES = (".npy", ".npz")
_PARTS = ("train", "val", "valid", "validation", "test", "eval")
_CHANNELS = (1, 3)
Arrays = Mapping[str, NDArray[Any]]


def is_array(path: Path) -> bool:
    """Whether a path is that of a NumPy file by its suffix."""
    return path.suffix.lower() in SUFFIXES and not path.is_dir()


def images(path: Path, labels: str, union: bool) -> tuple[Raw, tuple[str, ...]]:
    """Read the images of a NumPy file.

    Args:
        path: a .npy or .npz file.
        labels: a .npy file with the labels of a .npy file; "none" reads no labels; empty those of the file.
        union: the parts will be joined, so that one alone need not be divided (80 to 20, class by class).

    Returns:
        The data set, and a sentence for each array that is not used.

    Raises:
        DataError: a file is missing or not NumPy's, an array is missing, is no images, or has not as many labels.
    """
    arrays = features.opened(path)
    if path.suffix.lower() == ".npy":
        arrays = {"images": arrays["array"]}
        if labels not in ("", "none", "folders"):
            arrays["labels"] = features.opened(Path(labels))["array"]
    of_images = _image_names(path, arrays)
    given = {part: _given(path, arrays, part, name, labels) for part, name in of_images.items()}
    values = np.unique(np.concatenate([own_N for _, own_N in given.values()]))
    values = values[values >= 0]
    splits = {
        part: Split(images_NCHW, torch.from_numpy(np.where(own_N >= 0, np.searchsorted(values, own_N), -1)))
        for part, (images_NCHW, own_N) in given.items()
    }
    if len({split.images_NCHW.shape[1:] for split in splits.values()}) > 1:
        raise DataError(f"{path}: {' and '.join(of_images.values())} must have images of one size and channel count.")
    names = tuple(map(str, values.tolist()))
    used = {*of_images.values(), *(_label_name(arrays, part) for part in of_images)}
    left_out = [f"The array {name} of {path.name} was left out." for name in sorted(set(arrays) - used)]
    return _in_parts(path, splits, names, union, left_out)


def _in_parts(
    path: Path, splits: dict[str, Split], names: tuple[str, ...], union: bool, left_out: list[str]
) -> tuple[Raw, tuple[str, ...]]:
    splits = {part: named(split, part or "images") for part, split in splits.items()}
    if "" in splits:
        whole = splits[""]
        if union:
            return Raw(whole, picked(whole, torch.arange(0)), names), tuple(left_out)
        smallest = int(whole.labels_N.unique(return_counts=True)[1].min()) if len(whole) else 0
        if smallest < 2:
            raise DataError(f"{path}: a label has one image only; the parts need one each. Set protocol: union.")
        train_N, eval_N = divided(whole.labels_N, features.TRAIN_SHARE)
        return Raw(picked(whole, train_N), picked(whole, eval_N), names), tuple(left_out)
    first, *rest = [part for part in splits if part != "train"]
    evaluation = splits[first]
    for part in rest:
        if union:
            evaluation = joined(evaluation, splits[part])
        else:
            left_out.append(f"{part} holds {len(splits[part]):,} images that were left out; {first} is judged.")
    return Raw(splits["train"], evaluation, names), tuple(left_out)


def _image_names(path: Path, arrays: Arrays) -> dict[str, str]:
    """Part -> its array of images; the part is "" where there are none."""
    if "images" in arrays:
        return {"": "images"}
    found = {
        part: name for part in _PARTS for name in (f"{part}_images", f"x_{part}", f"X_{part}", part) if name in arrays
    }
    if len(found) < 2 or "train" not in found:
        raise DataError(
            f"{path} must hold the array images, or train_images and val_images or test_images, but holds"
            f" {', '.join(sorted(arrays)) or 'none'}. Write it again with numpy.savez(file, images=..., labels=...)."
        )
    return found


def _label_name(arrays: Arrays, part: str) -> str:
    names = (f"{part}_labels", f"y_{part}", f"Y_{part}") if part else ("labels",)
    return next((name for name in names if name in arrays), "")


def _given(path: Path, arrays: Arrays, part: str, name: str, labels: str) -> tuple[Tensor, NDArray[np.int64]]:
    images_NCHW = _pixels(path, name, arrays[name])
    label_name = "" if labels == "none" else _label_name(arrays, part)
    given = arrays.get(label_name)
    if given is not None and given.ndim == 2 and given.shape[1] == 1:
        given = given[:, 0]
    return images_NCHW, features.labels_of(path, label_name, given, len(images_NCHW))


def _pixels(path: Path, name: str, array: NDArray[Any]) -> Tensor:
    """uint8 (N, C, H, W)."""
    shape = f"{array.dtype} of shape {array.shape}"
    if array.ndim == 3:
        array = array[..., None]
    if array.ndim != 4 or not array.size or array.shape[3] not in _CHANNELS:
        way_out = ""
        if array.ndim == 4 and array.shape[1] in _CHANNELS:
            way_out = " Its channels come second: write array.transpose(0, 2, 3, 1)."
        raise DataError(
            f"{path}: {name} must be images of shape (N, H, W) or (N, H, W, C) with 1 or 3 channels, but is {shape}."
            f"{way_out}"
        )
    return torch.from_numpy(np.ascontiguousarray(_levels(path, name, array).transpose(0, 3, 1, 2)))


def _levels(path: Path, name: str, array: NDArray[Any]) -> NDArray[np.uint8]:
    if array.dtype == np.uint8:
        return array
    kind, rule = (
        array.dtype.kind,
        f"{path}: {name} must hold levels from 0 to 255, numbers from 0 to 1 or 16-bit levels",
    )
    if kind == "b":
        black_and_white: NDArray[np.uint8] = np.where(array, np.uint8(255), np.uint8(0))
        return black_and_white
    if array.dtype == np.uint16:
        return ((array.astype(np.uint32) + 128) // 257).astype(np.uint8)
    if kind not in "iuf" or not np.isfinite(array).all():
        raise DataError(f"{rule}, but is {array.dtype}, or holds NaN or infinity. Convert it to uint8.")
    low, high = float(array.min()), float(array.max())
    if kind == "f" and 0 <= low and high <= 1:
        scaled: NDArray[np.uint8] = np.rint(array * 255).astype(np.uint8)
        return scaled
    if low < 0 or high > 255 or kind == "f" and bool((array != np.rint(array)).any()):
        raise DataError(f"{rule}, but holds {array.dtype} from {low:g} to {high:g}. Convert it to uint8.")
    return array.astype(np.uint8)
