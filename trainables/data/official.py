"""The data sets with published files: scikit-learn's digits, MNIST and CIFAR-10.

Files are compared with their published checksums before anything opens them: CIFAR-10 comes as pickles, and an altered
pickle can run any code.
Axes: N images, C channels, H height, W width.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..contract import Split
from .raw import DataError, Raw, check_md5, fixed_order, picked

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


def digits() -> Raw:
    """1,797 images of 8 x 8 grey pixels; 1,437 of them, drawn once and without a look at the labels, are for training.

    The files hold 17 levels, 0 to 16; they are spread over 0 to 255.
    """
    from sklearn.datasets import load_digits  # a second of import that the other data sets need not wait for

    bunch = load_digits()
    images_N1HW = torch.from_numpy(np.rint(bunch.images * (255 / 16)).astype(np.uint8))[:, None]
    whole = Split(images_N1HW, torch.from_numpy(bunch.target.astype(np.int64)))
    order_N = fixed_order(len(whole), purpose=1797)
    train_N, eval_N = order_N[:NUM_DIGITS_TRAIN].sort().values, order_N[NUM_DIGITS_TRAIN:].sort().values
    return Raw(picked(whole, train_N), picked(whole, eval_N), tuple(str(digit) for digit in range(10)))


def mnist(root: Path, download: bool) -> Raw:
    """60,000 and 10,000 images of 28 x 28 grey pixels, from ``root``/MNIST/raw.

    Raises:
        DataError: a file is missing or altered, or the download failed.
    """
    from torchvision.datasets import MNIST  # seconds of import that the embedded data set need not wait for

    train, test = _opened(MNIST, root, root / "MNIST" / "raw", MNIST_MD5, download)
    splits = [Split(part.data[:, None].contiguous(), part.targets.long()) for part in (train, test)]
    return Raw(splits[0], splits[1], tuple(str(digit) for digit in range(10)))


def cifar10(root: Path, download: bool) -> Raw:
    """50,000 and 10,000 images of 32 x 32 color pixels, from ``root``/cifar-10-batches-py. Mean and std as in SCAN.

    Raises:
        DataError: a file is missing or altered, or the download failed.
    """
    from torchvision.datasets import CIFAR10  # as above

    train, test = _opened(CIFAR10, root, root / "cifar-10-batches-py", CIFAR10_MD5, download)
    splits = [Split(_channels_first(part.data), torch.tensor(part.targets)) for part in (train, test)]
    mean, std = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
    return Raw(splits[0], splits[1], tuple(train.classes), mean, std)


def _channels_first(images_NHWC: "np.ndarray[Any, np.dtype[np.uint8]]") -> Tensor:
    return torch.from_numpy(images_NHWC).permute(0, 3, 1, 2).contiguous()


def _opened(kind: Any, root: Path, folder: Path, md5: Mapping[str, str], download: bool) -> tuple[Any, Any]:
    """torchvision's training and test part of a data set whose files are all there and all as published."""
    missing = [name for name in md5 if not (folder / name).is_file()]
    if missing and download:
        try:
            kind(root, train=True, download=True)
        except (OSError, RuntimeError) as error:
            raise DataError(
                f"{kind.__name__} could not be downloaded into {root.resolve()}: {error}. Where there is no network,"
                f" put its files into {folder} on another machine and copy the folder."
            ) from error
    missing = [name for name in md5 if not (folder / name).is_file()]
    if missing:
        raise DataError(
            f"{folder / missing[0]} is missing: {kind.__name__} needs {', '.join(md5)} in {folder.resolve()}, and"
            f" {len(missing)} of these {len(md5)} files are not there. Set download: true in the study's dataset, or"
            " set root to the folder that holds them."
        )
    for name, expected in md5.items():
        check_md5(folder / name, expected)
    _refuse_other_sources(folder)
    return kind(root, train=True, download=False), kind(root, train=False, download=False)


def _refuse_other_sources(folder: Path) -> None:
    # torchvision prefers these files, which older versions of it wrote and nobody published a checksum for.
    legacy = folder.parent / "processed"
    if (legacy / "training.pt").exists() or (legacy / "test.pt").exists():
        raise DataError(f"{legacy} would be read instead of the checked files in {folder}. Delete {legacy}.")
