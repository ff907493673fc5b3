"""The data sets with published files: scikit-learn's digits, MNIST, CIFAR-10, CIFAR-100 with its super-classes, STL-10.

Files are compared with their published checksums before anything opens them: CIFAR comes as pickles, and an altered
pickle can run any code.
Axes: N images, C channels, H height, W width.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..interfaces import Split
from . import superclasses
from .loaded import DataError, Raw, check_md5, fixed_order
from .splits import picked

NUM_DIGITS_TRAIN = 1437

MNIST_MD5 = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}

CIFAR10_MD5 = {
    "data_batch_1": "c99cafc152244af753f735de768cd75f",
    "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
    "data_batch_4": "634d18415352ddfa80567beed471001a",
    "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    "test_batch": "40351d587109b95175f43aff81a1287e",
    "batches.meta": "5ff9c542aee3614f3951f8cda6e48888",
}

CIFAR100_MD5 = {
    "train": "16019d7e3df5f24257cddd939b257f8d",
    "test": "f0ef6b0ae62326f3e7ffdfab6717acfc",
    "meta": "7973b15100ade9c7d40fb424638fde48",
}

STL10_MD5 = {
    "train_X.bin": "918c2871b30a85fa023e0c44e0bee87f",
    "train_y.bin": "5a34089d4802c674881badbb80307741",
    "test_X.bin": "7f263ba9f9e0b06b93213547f721ac82",
    "test_y.bin": "36f9794fa4beb8a2c72628de14fa638e",
    "unlabeled_X.bin": "5242ba1fed5e4be9e1e742405eb56ca4",
}
STL10_CLASSES = ("airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck")
STL10_SIZE_PX = 96

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def digits() -> Raw:
    """scikit-learn's digits: 1,797 images of 8 x 8 grey pixels.

    1,437 of them, drawn once and without a look at the labels, are for training. The files hold 17 levels, 0 to 16;
    they are spread over 0 to 255.
    """
    from sklearn.datasets import load_digits  # a second of import that the other data sets need not wait for

    bunch = load_digits()
    images_N1HW = torch.from_numpy(np.rint(bunch.images * (255 / 16)).astype(np.uint8))[:, None]
    names = tuple(map(str, range(len(images_N1HW))))
    whole = Split(images_N1HW, torch.from_numpy(bunch.target.astype(np.int64)), names)
    order_N = fixed_order(len(whole), purpose=1797)
    train_N, eval_N = order_N[:NUM_DIGITS_TRAIN].sort().values, order_N[NUM_DIGITS_TRAIN:].sort().values
    return Raw(picked(whole, train_N), picked(whole, eval_N), tuple(str(digit) for digit in range(10)))


def mnist(root: Path, download: bool) -> Raw:
    """MNIST from ``root``/MNIST/raw: 60,000 and 10,000 images of 28 x 28 grey pixels.

    Args:
        root: folder of all data sets.
        download: fetch missing files.

    Raises:
        DataError: a file is missing or altered, or the download failed.
    """
    from torchvision.datasets import MNIST  # seconds of import that the embedded data set need not wait for

    train, test = _opened(MNIST, root, root / "MNIST" / "raw", MNIST_MD5, download)
    splits = [Split(part.data[:, None].contiguous(), part.targets.long()) for part in (train, test)]
    return Raw(splits[0], splits[1], tuple(str(digit) for digit in range(10)))


def cifar10(root: Path, download: bool) -> Raw:
    """CIFAR-10 from ``root``/cifar-10-batches-py: 50,000 and 10,000 images of 32 x 32 color pixels.

    Args:
        root: folder of all data sets.
        download: fetch missing files.

    Returns:
        The data set, with mean and std as in SCAN.

    Raises:
        DataError: a file is missing or altered, or the download failed.
    """
    from torchvision.datasets import CIFAR10  # as above

    train, test = _opened(CIFAR10, root, root / "cifar-10-batches-py", CIFAR10_MD5, download)
    splits = [Split(_channels_first(part.data), torch.tensor(part.targets)) for part in (train, test)]
    mean, std = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
    return Raw(splits[0], splits[1], tuple(train.classes), mean, std)


def cifar100(root: Path, download: bool, *, grouped: bool = False) -> Raw:
    """CIFAR-100 from ``root``/cifar-100-python: 50,000 and 10,000 images of 32 x 32 color pixels.

    Args:
        root: folder of all data sets.
        download: fetch missing files.
        grouped: labels are the 20 super-classes (CIFAR100-20) instead of the 100 classes.

    Returns:
        The data set, with mean and std as in SCAN.

    Raises:
        DataError: a file is missing or altered, or the download failed.
    """
    from torchvision.datasets import CIFAR100  # as above

    train, test = _opened(CIFAR100, root, root / "cifar-100-python", CIFAR100_MD5, download)
    splits = [Split(_channels_first(part.data), torch.tensor(part.targets)) for part in (train, test)]
    mean, std = (0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)
    if not grouped:
        return Raw(splits[0], splits[1], superclasses.CLASS_NAMES, mean, std, superclasses.GROUP_OF_CLASS)
    group_of_class_Y = torch.tensor(superclasses.GROUP_OF_CLASS)
    splits = [Split(part.images_NCHW, group_of_class_Y[part.labels_N]) for part in splits]
    return Raw(splits[0], splits[1], superclasses.GROUP_NAMES, mean, std)


def stl10(root: Path, download: bool, *, union: bool, unlabeled: bool) -> Raw:
    """5,000 and 8,000 images of 96 x 96 color pixels, from ``root``/stl10_binary. Mean and std of ImageNet, as in SCAN.

    Args:
        union: the parts will be joined; all images lie in memory once, in the order in which they will be used.
        unlabeled: whether to read the 100,000 images without labels too.

    Raises:
        DataError: a file is missing or altered, or the download failed.
    """
    folder = root / "stl10_binary"
    md5 = {name: md5 for name, md5 in STL10_MD5.items() if unlabeled or name != "unlabeled_X.bin"}
    if download and _missing(folder, md5):
        from torchvision.datasets import STL10  # as above

        _download(STL10, root, folder, split="train")
    _check("STL10", folder, md5)
    order = [*(("train", "test") if union else ("test", "train")), *(("unlabeled",) if unlabeled else ())]
    images = dict(zip(order, _read_stl10([folder / f"{name}_X.bin" for name in order]), strict=True))
    splits = {}
    for name in order:
        labels_N = torch.full((len(images[name]),), -1)
        if name != "unlabeled":
            # Classes are counted from 1 in the files.
            labels_N = torch.from_numpy(np.fromfile(folder / f"{name}_y.bin", dtype=np.uint8)).long() - 1
        splits[name] = Split(images[name], labels_N)
    return Raw(
        splits["train"],
        splits["test"],
        STL10_CLASSES,
        IMAGENET_MEAN,
        IMAGENET_STD,
        unlabeled=splits.get("unlabeled"),
    )


def _read_stl10(paths: list[Path]) -> list[Tensor]:
    """The images of each file, all in one piece of memory, one file after the other."""
    shape = (3, STL10_SIZE_PX, STL10_SIZE_PX)
    counts = [path.stat().st_size // int(np.prod(shape)) for path in paths]
    whole_NCHW = torch.empty((sum(counts), *shape), dtype=torch.uint8)
    parts = list(whole_NCHW.split(counts))
    for path, images_NCHW in zip(paths, parts, strict=True):
        # The files run down the columns.
        images_NCHW.copy_(torch.from_numpy(np.memmap(path, np.uint8, "c")).view(-1, *shape).transpose(2, 3))
    return parts


def _channels_first(images_NHWC: "np.ndarray[Any, np.dtype[np.uint8]]") -> Tensor:
    return torch.from_numpy(images_NHWC).permute(0, 3, 1, 2).contiguous()


def _opened(kind: Any, root: Path, folder: Path, md5: Mapping[str, str], download: bool) -> tuple[Any, Any]:
    """torchvision's training and test part of a data set whose files are all there and all as published."""
    if download and _missing(folder, md5):
        _download(kind, root, folder, train=True)
    _check(kind.__name__, folder, md5)
    _refuse_other_sources(folder)
    return kind(root, train=True, download=False), kind(root, train=False, download=False)


def _missing(folder: Path, names: Iterable[str]) -> list[str]:
    return [name for name in names if not (folder / name).is_file()]


def _download(kind: Any, root: Path, folder: Path, **part: Any) -> None:
    try:
        kind(root, download=True, **part)
    except (OSError, RuntimeError) as error:
        raise DataError(
            f"{kind.__name__} could not be downloaded into {root.resolve()}: {error}. Where there is no network,"
            f" put its files into {folder} on another machine and copy the folder."
        ) from error


def _check(name: str, folder: Path, md5: Mapping[str, str]) -> None:
    """Refuse files that are missing or not as published."""
    missing = _missing(folder, md5)
    if missing:
        raise DataError(
            f"{folder / missing[0]} is missing: {name} needs {', '.join(md5)} in {folder.resolve()}, and"
            f" {len(missing)} of these {len(md5)} files are not there. Set download: true in the study's dataset, or"
            " set root to the folder that holds them."
        )
    for file, expected in md5.items():
        check_md5(folder / file, expected)


def _refuse_other_sources(folder: Path) -> None:
    # torchvision prefers these files, which older versions of it wrote and nobody published a checksum for.
    legacy = folder.parent / "processed"
    if (legacy / "training.pt").exists() or (legacy / "test.pt").exists():
        raise DataError(f"{legacy} would be read instead of the checked files in {folder}. Delete {legacy}.")
