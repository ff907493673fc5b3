"""Decoded images kept in a file of this machine, so that later epochs, other trials and other studies only read them.

A set that streams is read once per epoch and trial, and decoding is most of that. What a process has decoded is written
to one file in the temporary folder, which all processes of this user share; the system keeps it in memory as far as
there is room. It is never needed: an image that is not in it is decoded, and a disk that is full ends the keeping.

    flags:   one byte for each image, 1 once its pixels are there, padded to whole pages
    pixels:  image after image, height x width x 3 bytes

The file's name is a digest of the image files' names, sizes and times of change, of the side, and of this start of the
machine: after a crash of the system a flag could be on the disk whose pixels are not.
Axes: N images, H height, W width, C channels.
"""

import hashlib
import logging
import mmap
import os
import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from torch import Tensor

from .. import shared_folder

SHARE_OF_DISK = 0.5
"""Of the free space, what one set may take; the images beyond it are decoded each time."""

UNUSED_S = 24 * 3600.0
"""A file that nobody has opened for so long is removed by whoever comes next."""

PAGE_BYTES = 4096
_log = logging.getLogger(__name__)


class Kept:
    """The cached pixels of image files as squares of ``size_px`` pixels; see ``opened``.

    Attributes:
        fd: the open file.
        first_byte: where its pixels begin.
        image_bytes: bytes of one image. The flag of image i is byte i of the file.
    """

    def __init__(self, file: Path, paths: Sequence[str], size_px: int) -> None:
        self.fd = os.open(file, os.O_RDWR | os.O_CLOEXEC)
        self.first_byte, self.image_bytes = _flags_bytes(len(paths)), 3 * size_px * size_px
        # Fewer than all where the disk had no room for all of them when the file was made.
        num_kept = (os.fstat(self.fd).st_size - self.first_byte) // self.image_bytes
        # By the same open file: by its name another process may have put a new one.
        self._flags_N = np.frombuffer(mmap.mmap(self.fd, self.first_byte, prot=mmap.PROT_READ), dtype=np.uint8)
        self._numbers = {path: number for number, path in enumerate(paths[:num_kept])}

    def number(self, path: str) -> int:
        """The index of an image in the file; -1 if the file has no room for it."""
        return self._numbers.get(path, -1)

    def has(self, path: str) -> bool:
        """Whether the image's pixels are in the file."""
        number = self.number(path)
        return number >= 0 and bool(self._flags_N[number])

    def read(self, path: str, out_HWC: Tensor) -> None:
        """Read an image's pixels.

        Args:
            path: an image for which ``has`` is true.
            out_HWC: contiguous uint8, filled in place.

        Raises:
            OSError: the file ends too early.
        """
        begin = self.first_byte + self.number(path) * self.image_bytes
        if os.preadv(self.fd, [out_HWC.numpy().data], begin) != self.image_bytes:
            raise OSError(f"the kept pixels of {path} end too early")

    def close(self) -> None:
        """Close the file."""
        os.close(self.fd)


def opened(paths: Sequence[str], size_px: int, how: str = "") -> Kept | None:
    """Open the cache of these images, or create it.

    Args:
        paths: all image files of the data set.
        size_px: side of the decoded images.
        how: what else decides their pixels.

    Returns:
        The cache; None, with a warning, if it cannot be created.
    """
    try:
        folder = shared_folder.of_user("pixels")
        file = folder / f"{_digest(paths, size_px, how)}.pixels"
        if not file.exists():
            _remove_unused(folder)
            _make(file, len(paths), 3 * size_px * size_px)
        os.utime(file)
        return Kept(file, paths, size_px)
    except OSError as error:
        _log.warning("decoded images are not kept: %s; they are decoded again in every epoch", error)
        return None


def _digest(paths: Sequence[str], size_px: int, how: str) -> str:
    digest = hashlib.sha256(f"{size_px} {how}{_boot()}".encode())
    for path in paths:
        found = os.stat(path)
        text = f"{os.path.abspath(path)}\0{found.st_size} {found.st_mtime_ns}\n"
        digest.update(text.encode("utf-8", "surrogateescape"))  # a file name need not be UTF-8
    return digest.hexdigest()[:32]


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _make(file: Path, num_images: int, image_bytes: int) -> None:
    room = int(shutil.disk_usage(file.parent).free * SHARE_OF_DISK) // image_bytes
    with tempfile.NamedTemporaryFile(dir=file.parent, delete=False) as made:
        # Sparse: it takes what is written to it.
        made.truncate(_flags_bytes(num_images) + min(num_images, room) * image_bytes)
    # All of it or nothing, whoever else makes it at this moment; two that do may keep different files open for a while.
    os.replace(made.name, file)


def _remove_unused(folder: Path) -> None:
    for other in folder.iterdir():
        if time.time() - other.stat().st_mtime > UNUSED_S:
            # Who still has it open keeps it.
            other.unlink(missing_ok=True)


def _flags_bytes(num_images: int) -> int:
    return -(-num_images // PAGE_BYTES) * PAGE_BYTES
