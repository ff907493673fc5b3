"""What a loader hands over: the images of a data set as its files have them, and the error for files that are not so.

Axes: N images, C channels, H height, W width.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..interfaces import Split

MAX_FAULTS_SHOWN = 10


class DataError(ValueError):
    """A data set that cannot be used: names the file or folder, the rule it breaks and the way out."""


def shortened(faults: Sequence[str]) -> str:
    """The first faults, one in a line, and how many there are beyond them."""
    more = f"\n... and {len(faults) - MAX_FAULTS_SHOWN} more." if len(faults) > MAX_FAULTS_SHOWN else ""
    return "\n".join(faults[:MAX_FAULTS_SHOWN]) + more


@dataclass(frozen=True)
class Raw:
    """A data set before protocol, limits and resizing.

    train, eval: uint8 images and int64 labels. mean, std: published values per channel; empty where there are none.
    class_groups, unlabeled: as in ImageData.
    """

    train: Split
    eval: Split
    class_names: tuple[str, ...]
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    class_groups: tuple[int, ...] = ()
    unlabeled: Split | None = None


def fixed_order(num: int, purpose: int) -> Tensor:
    """The same random order of 0 .. num - 1 always and everywhere; ``purpose`` tells one use from another."""
    return torch.randperm(num, generator=torch.Generator().manual_seed(purpose))


def check_md5(path: Path, md5: str) -> None:
    """Refuse a file that is not byte for byte the published one.

    Raises:
        DataError: the checksum differs.
    """
    with path.open("rb") as file:
        found = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    if found != md5:
        raise DataError(
            f"{path} is not the published file: its md5 must be {md5}, but is {found} ({path.stat().st_size} bytes)."
            " It was cut short or altered; delete it and fetch it again (download: true does so)."
        )
