"""One's own images from a folder, an archive or a NumPy file, as ``datasets`` takes them on."""

import os
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from ...interfaces import Split
from ..decoding.decoder import How
from ..decoding.workers import Decoders, FileImages
from ..folders import Tree
from ..loaded import DataError, Raw, printable
from ..splits import fitted
from . import archives, arrays, layout

SHOWN_UNREADABLE = 3


@dataclass(frozen=True)
class Choices:
    """How the images are read. labels, classes, is_union: as in ``layout.folder``. size_px, how: as in ``decoder``.

    skip_unreadable: leave out files that cannot be decoded.
    """

    labels: str
    classes: str
    is_union: bool
    size_px: int
    how: How
    skip_unreadable: bool


def read(root: Path, choices: Choices) -> Raw:
    """Find the images; those in files stay there.

    Raises:
        DataError: as ``layout.folder``, ``archives.unpacked`` and ``arrays.images``; or images of a NumPy file are no
            squares and size_px is 0.
    """
    if arrays.is_array(root):
        return _of_array(root, choices)
    if archives.is_archive(root):
        root = archives.unpacked(root)
    tree = layout.folder(root, choices.is_union, choices.classes, choices.labels)
    decoders = Decoders(choices.size_px, how=choices.how)
    if choices.skip_unreadable:
        tree = _readable(tree, decoders, os.path.join(root, ""))
    return in_files(tree, decoders, root)


def in_files(tree: Tree, decoders: Decoders, root: Path) -> Raw:
    """The images of a tree, which are decoded when they are asked for; each has its path below ``root`` for a name."""
    folder = os.path.join(root, "")
    train, evaluation = (
        Split(FileImages(part.paths, decoders), part.labels_N, tuple(path.removeprefix(folder) for path in part.paths))
        for part in (tree.train, tree.eval)
    )
    class_names = tuple(map(printable, tree.class_names))
    return Raw(train, evaluation, class_names, root=str(root.absolute()), left_out=tree.left_out)


def _of_array(path: Path, choices: Choices) -> Raw:
    raw, left_out = arrays.images(path, choices.labels, choices.is_union)
    height, width = raw.train.images_NCHW.shape[2:]
    if height != width and not choices.size_px:
        raise DataError(
            f"Images in {path} must be squares while image_size is 0, but are {width}x{height} px. Set image_size to"
            " the side that all should have, and fit to crop, stretch or pad."
        )
    kernel = "bicubic" if choices.how.is_bicubic else "bilinear"
    parts = [fitted(part, choices.size_px, choices.how.fit, kernel) for part in (raw.train, raw.eval)]
    return replace(raw, train=parts[0], eval=parts[1], left_out=left_out)


def _readable(tree: Tree, decoders: Decoders, folder: str) -> Tree:
    """The files that can be decoded, and a sentence about the others."""
    unreadable = decoders.unreadable([*tree.train.paths, *tree.eval.paths])
    if not unreadable:
        return tree
    parts = []
    for part in (tree.train, tree.eval):
        rows = [row for row, path in enumerate(part.paths) if path not in unreadable]
        parts.append(part.picked(torch.tensor(rows, dtype=torch.int64)))
    num, shown = len(unreadable), [printable(path.removeprefix(folder)) for path in unreadable][:SHOWN_UNREADABLE]
    more = f" and {num - SHOWN_UNREADABLE:,} more" if num > SHOWN_UNREADABLE else ""
    files = "1 file was" if num == 1 else f"{num:,} files were"
    sentence = f"{files} left out that cannot be read as images (skip_unreadable): {', '.join(shown)}{more}."
    return replace(tree, train=parts[0], eval=parts[1], left_out=(*tree.left_out, sentence))
