"""A folder of somebody's own images in whatever layout: which files train, which are judged, with which labels.

    <root>/*.png                        no labels
    <root>/<class>/.../*.png            class folders
    <root>/metadata.csv or .jsonl       Hugging Face's imagefolder
    <root>/train/..., <root>/val/...    parts, each of these

``labels`` decides where the layout alone does not: "folders", "none", or a table. Whatever is left out is counted.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from ..folders import TRAIN_SHARE, Part, Tree, chosen, nothing
from ..loaded import DataError
from ..splits import divided
from . import files, tables

EVAL_FOLDERS = ("val", "valid", "validation", "test", "eval")
"""Names of the folder with the images for evaluation; the first that exists is judged, under union all of them."""

FOLDERS, NONE = WORDS = ("folders", "none")
"""Values of ``labels`` that are no table."""

_LAYOUTS = (
    "Set root to a folder of images, with class folders or without, with the parts train and val or without, to a zip"
    " or tar of one, or to a .npz or .npy file of images"
)


@dataclass(frozen=True)
class _Found:
    """The images of one part. labels: of each; empty where unknown. left_out: as in ``Tree``."""

    paths: tuple[str, ...]
    labels: tuple[str, ...]
    classes: tuple[str, ...]
    left_out: tuple[str, ...] = ()


def folder(root: Path, union: bool, classes: str = "", labels: str = "") -> Tree:
    """Find the images of a folder.

    Args:
        root: see the module's docstring.
        union: the parts will be joined: one alone is enough, and all of them are read.
        classes: a text file with the names of the class folders to keep, one in a line; empty keeps all.
        labels: "folders": of the class folders; "none": no labels, all images at any depth; a table (CSV) with the
            columns file, label and perhaps split; empty: by metadata.csv or class folders where there are some.

    Returns:
        Images without parts are divided 80 to 20, class by class, always in the same way.

    Raises:
        DataError: a folder is missing or empty, the layout has two meanings, the parts have different classes, or as
            ``tables.rows``.
    """
    if not root.is_dir():
        raise DataError(f"{root.resolve()} is not a folder. {_LAYOUTS}; there is nothing to download for name: folder.")
    if labels not in ("", *WORDS):
        return _tabled(root, Path(labels), union)
    parts = [name for name in EVAL_FOLDERS if (root / name).is_dir()]
    if not (root / "train").is_dir():
        if parts and set(files.subfolders(root)) <= set(EVAL_FOLDERS) and labels != NONE:
            raise DataError(
                f"{root.resolve()} has {' and '.join(parts)}, but no folder train beside it. Add one, or write labels:"
                " none to take all images without labels."
            )
        found = _part(root, labels, classes)
        return _divided(found, union, root)
    if not parts and not union:
        raise DataError(
            f"{root.resolve()} has a folder train but none of {', '.join(EVAL_FOLDERS)} beside it. Add one, or set"
            " protocol: union to train and evaluate on the same images."
        )
    used = parts if union else parts[:1]
    train, *judged = (_part(root / name, labels, classes) for name in ("train", *used))
    names = _common_classes(root, train, dict(zip(used, judged, strict=True)))
    left_out = [sentence for each in (train, *judged) for sentence in each.left_out]
    left_out += _unused(root, ("train", *used), parts)
    evaluation = _Found(
        tuple(path for each in judged for path in each.paths),
        tuple(label for each in judged for label in each.labels),
        names,
    )
    return Tree(_numbered(train, names), _numbered(evaluation, names), names, tuple(left_out))


def _part(folder: Path, labels: str, classes: str) -> _Found:
    """The images of one part, labeled as its own layout or ``labels`` says."""
    metadata = tables.metadata_of(folder) if labels == "" else None
    if metadata is not None:
        return _by_metadata(folder, metadata)
    direct = files.images(files.directly(folder))
    above = frozenset({os.path.realpath(folder)})
    own = {name: list(files.below(str(folder / name), above)) for name in files.subfolders(folder)}
    with_images = {name: files.images(paths) for name, paths in own.items()}
    num_with_images = sum(map(bool, with_images.values()))
    if labels == "" and direct and num_with_images:
        inside = sum(map(len, with_images.values()))
        raise DataError(
            f"{folder} holds {len(direct):,} images and beside them folders with {inside:,} more ({', '.join(own)})."
            " Write labels: none to take all of them without labels, or labels: folders to take those in the folders,"
            " labeled by them."
        )
    everything = [*files.directly(folder), *(path for paths in own.values() for path in paths)]
    is_by_folders = labels == FOLDERS or labels == "" and len(own) > 1 and num_with_images > 0
    if not is_by_folders:
        if classes:
            raise DataError(f"classes names class folders, but {folder} has none, or labels: none passes them over.")
        return _without_labels(folder, everything)
    return _by_folders(folder, with_images, everything, direct, classes)


def _without_labels(folder: Path, everything: Sequence[str]) -> _Found:
    paths = files.images(everything)
    if not paths:
        raise DataError(_no_image(folder, everything))
    return _Found(tuple(paths), ("",) * len(paths), (), _others(everything))


def _by_folders(
    folder: Path, with_images: dict[str, list[str]], everything: Sequence[str], direct: Sequence[str], classes: str
) -> _Found:
    if len(with_images) < 2:
        raise DataError(
            f"{folder} must hold a folder for each of at least two classes, but holds {len(with_images)}"
            f" ({', '.join(with_images) or 'none'}). Put the images into folders named after their classes, or write"
            " labels: none."
        )
    names = chosen(tuple(with_images), classes, folder)
    empty = [name for name in names if not with_images[name]]
    if empty:
        raise DataError(
            "\n".join(
                f"{folder / name} holds no image ({', '.join(files.SUFFIXES)}). Add images, remove the folder, or write"
                " labels: none."
                for name in empty
            )
        )
    left_out = list(_others(everything))
    if direct:
        left_out.append(f"{_images(len(direct))} beside the class folders of {folder.name} left out.")
    unlisted = sum(len(paths) for name, paths in with_images.items() if name not in names)
    if unlisted:
        left_out.append(f"{_images(unlisted)} of classes that are not listed left out.")
    paths = [(path, name) for name in names for path in with_images[name]]
    return _Found(tuple(path for path, _ in paths), tuple(name for _, name in paths), names, tuple(left_out))


def _by_metadata(folder: Path, metadata: Path) -> _Found:
    rows = tables.rows(metadata, needs_labels=False)
    paths = _existing(folder, metadata, rows)
    labels = tuple(row.label for row in rows)
    everything = [path for path in files.below(str(folder)) if Path(path).name not in tables.METADATA]
    left_out = [*_others(everything), *_unnamed(metadata, paths, everything)]
    return _Found(tuple(paths), labels, tuple(sorted(set(labels) - {""})), tuple(left_out))


def _existing(root: Path, table: Path, rows: Sequence[tables.Row]) -> list[str]:
    """The path of each row's file.

    Raises:
        DataError: a file is not there.
    """
    paths = []
    absent = []
    for row in rows:
        path = root / row.file
        if not path.is_file() and (root / row.file.strip()).is_file():
            path = root / row.file.strip()
        if not path.is_file():
            absent.append(row.file)
        paths.append(str(path))
    if absent:
        raise DataError(
            f"{table} names {absent[0]!r}, which is not in {root.resolve()} ({len(absent)} of {len(rows)} are not)."
            f" The column file holds paths under {'root' if table.name not in tables.METADATA else 'its folder'}."
        )
    return paths


def _tabled(root: Path, table: Path, union: bool) -> Tree:
    """The images that a table names; its column split tells train from the parts for evaluation where there is one."""
    rows = tables.rows(table)
    names = tuple(sorted({row.label for row in rows} - {""}))
    if len(names) < 2:
        raise DataError(
            f"{table} must have at least two different labels, but has {len(names)}. Write labels: none to go without."
        )
    paths = _existing(root, table, rows)
    everything = [path for path in files.below(str(root)) if Path(path).resolve() != table.resolve()]
    left_out = (*_others(everything), *_unnamed(table, paths, everything))
    whole = _Found(tuple(paths), tuple(row.label for row in rows), names, left_out)
    if not rows[0].split:
        return _divided(whole, union, table)
    numbered = _numbered(whole, names)
    train_N = torch.tensor([row.split == "train" for row in rows])
    return Tree(
        numbered.picked(train_N.nonzero()[:, 0]), numbered.picked((~train_N).nonzero()[:, 0]), names, whole.left_out
    )


def _common_classes(root: Path, train: _Found, judged: dict[str, _Found]) -> tuple[str, ...]:
    """The classes of all parts; class folders must be the same in those parts that have some."""
    names = train.classes
    for part, found in judged.items():
        if names and found.classes and found.classes != names and "" not in (*train.labels, *found.labels):
            differ = sorted(set(found.classes) ^ set(names))
            raise DataError(
                f"{root / part} and {root / 'train'} must hold the same classes, but {', '.join(map(repr, differ))} is"
                " in only one of them. Add the missing class folders, or remove the others."
            )
    return tuple(sorted({*names, *(name for found in judged.values() for name in found.classes)}))


def _unused(root: Path, used: Sequence[str], parts: Sequence[str]) -> list[str]:
    """What lies beside the parts that are read."""
    found = []
    for name in files.subfolders(root):
        paths = files.images(files.below(str(root / name))) if name not in used else []
        if paths:
            what = "another part for evaluation" if name in parts else "no part's name"
            found.append(f"{_images(len(paths))} in {name} left out: it is {what}, and {' and '.join(used)} are read.")
    beside = files.directly(root)
    if files.images(beside):
        found.append(f"{_images(len(files.images(beside)))} beside the folders {' and '.join(used)} left out.")
    return found + list(_others(beside))


def _unnamed(table: Path, paths: Sequence[str], everything: Sequence[str]) -> list[str]:
    """What lies in the folder and is not in the table."""
    named = {str(Path(path).resolve()) for path in paths}
    unnamed = [path for path in files.images(everything) if str(Path(path).resolve()) not in named]
    return [f"{_images(len(unnamed))} that {table.name} does not name left out."] if unnamed else []


def _others(everything: Sequence[str]) -> tuple[str, ...]:
    return tuple(files.others(everything))


def _images(num: int) -> str:
    return "1 image was" if num == 1 else f"{num:,} images were"


def _no_image(folder: Path, everything: Sequence[str]) -> str:
    beside = " ".join(files.others(everything))
    return f"{folder} holds no image ({', '.join(files.SUFFIXES)}). Add images.{' ' + beside if beside else ''}"


def _numbered(found: _Found, names: Sequence[str]) -> Part:
    places = {name: place for place, name in enumerate(names)}
    return Part(found.paths, torch.tensor([places.get(label, -1) for label in found.labels], dtype=torch.int64))


def _divided(found: _Found, union: bool, place: Path) -> Tree:
    whole = _numbered(found, found.classes)
    if union:
        return Tree(whole, nothing(), found.classes, found.left_out)
    for label in whole.labels_N.unique().tolist():
        count = int((whole.labels_N == label).sum())
        if count < 2:
            which = f"{place / found.classes[label]}" if label >= 0 else f"{place}"
            raise DataError(
                f"{which} must hold at least two images, one to train on and one to evaluate on, but holds"
                f" {count}. Add images, or set protocol: union."
            )
    train_N, eval_N = divided(whole.labels_N, TRAIN_SHARE)
    return Tree(whole.picked(train_N), whole.picked(eval_N), found.classes, found.left_out)
