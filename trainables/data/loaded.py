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

MAX_ERRORS_SHOWN = 10


class DataError(ValueError):
    """A data set cannot be used. The text names the file or folder, the rule it breaks and the way out."""


def shortened(sentences: Sequence[str]) -> str:
    """Join error sentences for one message.

    Args:
        sentences: at least one.

    Returns:
        The first 10 sentences, one in a line, and the number of the others.
    """
    sentences = list(map(printable, sentences))
    num_more = len(sentences) - MAX_ERRORS_SHOWN
    more = f"\n... and {num_more} more." if num_more > 0 else ""
    return "\n".join(sentences[:MAX_ERRORS_SHOWN]) + more


def printable(name: str) -> str:
    """A file's name for people: what is no UTF-8, and a surrogate in Python's file names, becomes a question mark."""
    return name.encode("utf-8", "replace").decode()


@dataclass(frozen=True)
class Raw:
    """A data set as its files have it, before protocol, limits and resizing.

    Attributes:
        train: uint8 images (N, C, H, W) and int64 labels (N,).
        eval: the same.
        mean: published mean of each channel, of pixels scaled to [0, 1]; empty where none is published.
        std: the same of the standard deviation.
        class_groups: as in ImageData.
        unlabeled: as in ImageData.
        root: as in ImageData.
        left_out: as in ImageData.
    """

    train: Split
    eval: Split
    class_names: tuple[str, ...]
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    class_groups: tuple[int, ...] = ()
    unlabeled: Split | None = None
    root: str = ""
    left_out: tuple[str, ...] = ()


def fixed_order(num: int, purpose: int) -> Tensor:
    """A random order that is the same in every run and on every machine.

    Args:
        num: number of items.
        purpose: numbers the uses of this function; each purpose has an order of its own.

    Returns:
        int64 of shape (num,), a permutation of 0 .. num - 1.
    """
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
