"""Which files below a folder are images; nothing is decoded here.

Folders are walked to any depth and links are followed. What nobody means as an image (hidden files, what systems leave
behind) is passed over without a word; every other file that is no image is counted, so that a report can say so.
"""

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from ..loaded import DataError

SUFFIXES = (
    *(".bmp", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg"),
    *(".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp"),
)
"""Of files that are read, in any case."""

UNREAD_SUFFIXES = (
    *(".arw", ".avif", ".cr2", ".dcm", ".dng", ".exr", ".hdr", ".heic", ".heif", ".ico", ".jp2", ".jxl"),
    *(".nef", ".psd", ".raw", ".svg"),
)
"""Of images that are not read; their number is said with the way out."""

_LEFT_BY_SYSTEMS = ("__macosx", "thumbs.db", "desktop.ini")


def is_hidden(name: str) -> bool:
    """Whether a file or folder of this name is none that a user means: ".git", "._000.png", "__MACOSX", "Thumbs.db"."""
    return name.startswith(".") or name.lower() in _LEFT_BY_SYSTEMS


def is_image(path: str) -> bool:
    """Whether a file is an image by its suffix."""
    return os.path.splitext(path)[1].lower() in SUFFIXES


def below(folder: str, above: frozenset[str] = frozenset()) -> Iterator[str]:
    """Give every file below a folder that is not hidden, sorted by name within each folder.

    Args:
        above: real paths of the folders that lead here; a link back to one of them is not followed.

    Raises:
        DataError: a folder cannot be opened.
    """
    real = os.path.realpath(folder)
    if real in above:
        return
    for entry in _entries(folder):
        if entry.is_dir():
            yield from below(entry.path, above | {real})
        else:
            yield entry.path


def directly(folder: Path) -> list[str]:
    """The files of a folder itself that are not hidden."""
    return [entry.path for entry in _entries(str(folder)) if not entry.is_dir()]


def subfolders(folder: Path) -> list[str]:
    """Names of the folders of a folder that are not hidden, sorted."""
    return [entry.name for entry in _entries(str(folder)) if entry.is_dir()]


def images(paths: Iterable[str]) -> list[str]:
    """The images among some files, sorted by path."""
    return sorted(filter(is_image, paths))


def others(paths: Iterable[str]) -> list[str]:
    """Say in sentences how many of some files are no images, and how many are images of kinds that are not read."""
    suffixes = Counter(os.path.splitext(path)[1].lower() for path in paths if not is_image(path))
    unread = {suffix: num for suffix, num in suffixes.items() if suffix in UNREAD_SUFFIXES}
    rest = {suffix or "no suffix": num for suffix, num in suffixes.items() if suffix not in UNREAD_SUFFIXES}
    found = []
    if unread:
        found.append(
            f"{_files(unread)} left out, images of kinds that are not read ({_listed(unread)}). Convert them to PNG or"
            " JPEG to use them."
        )
    if rest:
        found.append(f"{_files(rest)} left out that {_are(rest)} by {_its(rest)} name no image ({_listed(rest)}).")
    return found


def _entries(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted((entry for entry in entries if not is_hidden(entry.name)), key=lambda entry: entry.name)
    except OSError as error:
        raise DataError(f"{folder} cannot be opened ({error.strerror}). Make it readable, or move it away.") from error


def _files(counts: dict[str, int]) -> str:
    num = sum(counts.values())
    return "1 file was" if num == 1 else f"{num:,} files were"


def _are(counts: dict[str, int]) -> str:
    return "is" if sum(counts.values()) == 1 else "are"


def _its(counts: dict[str, int]) -> str:
    return "its" if sum(counts.values()) == 1 else "their"


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{suffix}: {num:,}" for suffix, num in sorted(counts.items()))
