"""The images of any folder, read as those that a model was trained on; decoded when they are asked for.

Axes: N images, B batch, C channels, H height, W width.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from ..data.decoding.decoder import How
from ..data.decoding.workers import Decoders, FileImages
from ..data.loaded import DataError, shortened
from ..data.own_images import archives, files
from ..interfaces import Split
from .model_input import ModelInput


@dataclass(frozen=True)
class GrayImages:
    """Images of one channel, of files whose three channels are equal; see ``interfaces.Images``.

    Asking for rows raises a DataError that names the files in color among them.
    """

    files: FileImages
    ndim: int = 4
    dtype: torch.dtype = torch.uint8

    def __len__(self) -> int:
        return len(self.files)

    @property
    def shape(self) -> torch.Size:
        return torch.Size((len(self), 1, *self.files.shape[2:]))

    @property
    def device(self) -> torch.device:
        return self.files.device

    def __getitem__(self, rows: Any, /) -> Tensor:
        images_BCHW = self.files[rows]
        in_color_B = (images_BCHW != images_BCHW[:, :1]).flatten(1).any(1)
        if bool(in_color_B.any()):
            paths = self.files.paths[rows] if isinstance(rows, slice) else [self.files.paths[row] for row in rows]
            colored = [path for path, is_colored in zip(paths, in_color_B.tolist(), strict=True) if is_colored]
            raise DataError(
                f"{colored[0]} is in color, but the model takes images of one channel ({len(colored)} of"
                f" {len(paths)} images looked at are). Convert them to gray, or take a model of color images."
            )
        return images_BCHW[:, :1].contiguous()

    def to(self, device: torch.device, /) -> "GrayImages":
        return GrayImages(self.files.to(device))


def read(root: Path, wanted: ModelInput, *, resize: bool = False) -> Split:
    """Find the images of a folder, nested to any depth; names are relative to it, labels are not looked for.

    Args:
        root: the folder, or a zip or tar of one.
        wanted: what the model takes.
        resize: bring images of another size to that of the model, though it was trained on images of one size.

    Returns:
        Images by name, in their files.

    Raises:
        DataError: as ``opened`` and ``names``; the model takes no image files; images of another size where they may
            not be resized. Files that cannot be decoded are named when they are asked for.
    """
    root = opened(root)
    if wanted.is_features or wanted.num_channels not in (1, 3):
        kind = "rows of features" if wanted.is_features else "images"
        raise DataError(
            f"The model takes {kind} with {wanted.num_channels} channels, but image files have 1 or 3. Take a study on"
            " images, or give its features to the model in Python."
        )
    found = names(root)
    paths = [os.path.join(root, name) for name in found]
    if not (wanted.resized or resize):
        _refuse_other_sizes(paths, wanted.size_px)
    images = FileImages(paths, Decoders(wanted.size_px, how=How(wanted.fit, wanted.as_shown, wanted.is_bicubic)))
    labels_N = torch.full((len(found),), -1, dtype=torch.int64)
    return Split(GrayImages(images) if wanted.num_channels == 1 else images, labels_N, found)


def opened(root: Path) -> Path:
    """The folder of the images: of a zip or tar of images, the one that it is unpacked into.

    Raises:
        DataError: there is no such folder or archive, or the archive cannot be unpacked.
    """
    if archives.is_archive(root):
        return archives.unpacked(root)
    if not root.is_dir():
        raise DataError(f"{root.absolute()} is not a folder. Name the folder that holds the images, or a zip of them.")
    return root


def names(root: Path) -> tuple[str, ...]:
    """The image files of a folder at any depth, relative to it, sorted; see ``own_images.files``.

    Raises:
        DataError: there are none.
    """
    found = files.images(files.below(str(root)))
    if not found:
        raise DataError(
            f"{root.absolute()} holds no image, nor does a folder in it; images end in {', '.join(files.SUFFIXES)}."
        )
    folder = os.path.join(root, "")
    return tuple(path.removeprefix(folder) for path in found)


def _refuse_other_sizes(paths: Sequence[str], size_px: int) -> None:
    errors = []
    for path in paths:
        try:
            with Image.open(path) as image:
                width, height = image.size
        except (OSError, SyntaxError, ValueError) as error:
            errors.append(f"{path} is no readable image ({error}). Copy it again, or remove it.")
            continue
        if (width, height) != (size_px, size_px):
            errors.append(
                f"{path} has {width} x {height} px, but the model was trained on images of {size_px} x {size_px} px"
                " that were not resized. Give images of that size, or add --resize."
            )
    if errors:
        raise DataError(shortened(errors))
