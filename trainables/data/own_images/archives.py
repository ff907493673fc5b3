"""A zip or tar of images, unpacked once on each machine into a folder that all processes of this user share.

An archive comes from strangers: names that lead out of the folder, links and devices are refused, and so is one that
grows beyond what images do (a decompression bomb).
"""

import hashlib
import lzma
import os
import shutil
import stat
import tarfile
import tempfile
import time
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from .. import shared_folder
from ..loaded import DataError
from . import files

SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
LARGEST_GROWTH = 200
"""Unpacked bytes for each byte of the archive. Image files hardly shrink, plain pixels some 20 times, bombs 1,000."""

ALWAYS_ALLOWED_BYTES = 100 * 2**20
SHARE_OF_DISK = 0.5
UNUSED_S = 7 * 24 * 3600.0
"""A folder that nobody has asked for so long is removed by whoever comes next."""

_CHUNK = 2**20
_BROKEN = (
    *(zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError),
    *(EOFError, OSError, NotImplementedError, RuntimeError, ValueError),
)


def is_archive(path: Path) -> bool:
    """Whether a path is that of an archive by its suffix."""
    return path.name.lower().endswith(SUFFIXES) and not path.is_dir()


def unpacked(archive: Path) -> Path:
    """The folder with an archive's images, unpacked if it is not there yet.

    Returns:
        The folder that all files lie in: an archive often holds one folder with everything.

    Raises:
        DataError: it is missing, damaged, encrypted, leads out of its folder, holds links, or is too large.
    """
    if not archive.is_file():
        raise DataError(f"{archive.resolve()} is not a file. Set root to an archive or a folder of images.")
    place = _unpacking_folder() / _digest(archive)
    if not place.is_dir():
        _remove_unused(place.parent)
        made = Path(tempfile.mkdtemp(dir=place.parent, prefix="unpacking-"))
        try:
            _unpack(archive, made)
            made.rename(place)
        except OSError as error:
            if not place.is_dir():  # another process was faster
                raise DataError(f"{archive} cannot be unpacked into {place.parent} ({error}).") from error
        finally:
            shutil.rmtree(made, ignore_errors=True)
    os.utime(place)
    return _innermost(place)


def _unpacking_folder() -> Path:
    try:
        return shared_folder.of_user("archives")
    except PermissionError as error:
        raise DataError(f"{error}. Remove it, or set TMPDIR.") from error


def _innermost(place: Path) -> Path:
    inside = files.subfolders(place)
    while len(inside) == 1 and not files.directly(place):
        below = files.subfolders(place / inside[0])
        place = place / inside[0]
        inside = below
    return place


def _digest(archive: Path) -> str:
    known = archive.stat()
    text = f"{archive.resolve()}\0{known.st_size} {known.st_mtime_ns}"
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:32]


def _remove_unused(folder: Path) -> None:
    for other in folder.iterdir():
        if time.time() - other.stat().st_mtime > UNUSED_S:
            shutil.rmtree(other, ignore_errors=True)


def _unpack(archive: Path, folder: Path) -> None:
    room = min(
        max(ALWAYS_ALLOWED_BYTES, LARGEST_GROWTH * archive.stat().st_size),
        int(shutil.disk_usage(folder).free * SHARE_OF_DISK),
    )
    members = _of_zip(archive) if archive.name.lower().endswith(".zip") else _of_tar(archive)
    try:
        for name, content in members:
            if any(files.is_hidden(part) for part in PurePosixPath(name).parts):
                continue
            place = folder / name
            place.parent.mkdir(parents=True, exist_ok=True)
            with place.open("xb") as file:
                while chunk := content.read(_CHUNK):
                    room -= len(chunk)
                    if room < 0:
                        raise DataError(
                            f"{archive} grows to more than {LARGEST_GROWTH} times its size, or than half of the free"
                            f" disk under {folder.parent}. Unpack it yourself, and set root to the folder."
                        )
                    file.write(chunk)
    except _BROKEN as error:
        if isinstance(error, DataError):
            raise
        raise DataError(
            f"{archive} cannot be unpacked ({error}). It was cut short, altered or encrypted: copy it again, or unpack"
            " it yourself and set root to the folder."
        ) from error


def _of_zip(archive: Path) -> Iterator[tuple[str, IO[bytes]]]:
    with zipfile.ZipFile(archive) as opened:
        for member in opened.infolist():
            mode = member.external_attr >> 16
            _check_name(archive, member.filename, is_link=stat.S_ISLNK(mode))
            if not member.is_dir():
                with opened.open(member) as content:
                    yield member.filename, content


def _of_tar(archive: Path) -> Iterator[tuple[str, IO[bytes]]]:
    with tarfile.open(archive) as opened:
        for member in opened:
            _check_name(archive, member.name, is_link=not member.isdir() and not member.isfile())
            content = opened.extractfile(member) if member.isfile() else None
            if content is not None:
                yield member.name, content


def _check_name(archive: Path, name: str, *, is_link: bool) -> None:
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or is_link or "\0" in name:
        what = "is a link or a device" if is_link else "leads out of the archive's folder"
        raise DataError(f"{archive} holds {name!r}, which {what}. Unpack it yourself, and set root to the folder.")
