"""One image file to the pixels of a square; and the program of a process that does this for another one.

As a program this file is run by its path, so that it starts in a moment: it imports neither torch nor this package.

    python -I decoder.py RING_FD SIZE_PX FIT AS_SHOWN IS_BICUBIC [KEPT_FD FIRST_BYTE]

reads jobs from stdin, [[slot, name, place], ...] as one line of JSON each, writes the pixels of each file, or of a part
of it (see ``part_name``), into its slot of the ring, and answers a job with one line on stdout: a JSON list of its
errors, [[name, sentence], ...]. It ends with its stdin, and so with its owner, however that ends. Pixels with a place
also go to the file of kept images (see ``cache``).

Source: resizing the shorter side and keeping the middle, as ImageNet's recipes do (He et al. 2016, section 3.4).
Differs: a JPEG whose shorter side is at least twice the size wanted is reduced by a power of two inside its decoder.
Axes: H height, W width.
"""

import json
import math
import mmap
import os
import signal
import struct
import sys
import zlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps

_ORIENTATION = 0x0112
"""EXIF's tag; 1 is upright."""


class Unreadable(ValueError):
    """A file cannot be read as an image. The text names the file, the rule it breaks and the way out."""


class How(NamedTuple):
    """How a file becomes a square of RGB pixels.

    Attributes:
        fit: how an image that is no square becomes one: "crop" resizes the shorter side and keeps the middle, "stretch"
            resizes both sides, "pad" resizes the longer side and adds black bars.
        as_shown: as a viewer shows it: turned as its EXIF orientation says, and transparent parts over white. Published
            sets are read without, as their authors did.
        is_bicubic: resized by a cubic kernel instead of a linear one.
    """

    fit: str = "crop"
    as_shown: bool = False
    is_bicubic: bool = False

    def words(self) -> list[str]:
        """The same for a command line."""
        return [self.fit, str(int(self.as_shown)), str(int(self.is_bicubic))]


AS_PUBLISHED = How()
_END_OF_PATH = "\0"
_WINDOW = 4
_WIDEST = 4 / 3


def decoded(path: str, size_px: int, how: How = AS_PUBLISHED) -> Image.Image:
    """Decode one image file to RGB. Gray levels of 16 bits are scaled to 8; of an animation the first image is taken.

    Args:
        path: of the file.
        size_px: side of the square; 0 keeps the whole image as it is.

    Raises:
        Unreadable: the file is missing, empty, cut short, no image, deeper than 16 bits, or too large to be decoded.
    """
    try:
        if os.stat(path).st_size == 0:
            raise Unreadable(f"{path} is empty (0 bytes). Copy it again, or remove it.")
        with Image.open(path) as image:
            if size_px:
                # The decoder's own reduction takes the largest power of two that leaves both sides at least this long.
                image.draft("RGB", (size_px, size_px))
            image.load()
            shown = _turned(image) if how.as_shown else image
            rgb = _rgb(path, shown, image.format or "", over_white=how.as_shown)
    except Image.DecompressionBombError as error:
        raise Unreadable(
            f"{path} has more pixels than an image of this kind should ({error}). Make it smaller, or remove it."
        ) from error
    # Pillow raises SyntaxError for a broken PNG chunk, ValueError and others for a broken header.
    except (OSError, SyntaxError, ValueError, TypeError, KeyError, IndexError, struct.error, zlib.error) as error:
        if isinstance(error, Unreadable):
            raise
        raise Unreadable(
            f"{path} is no readable image ({error}). It was cut short, or is no image in spite of its name: copy it"
            " again, or remove it."
        ) from error
    if size_px and rgb.size != (size_px, size_px):
        kernel = Image.Resampling.BICUBIC if how.is_bicubic else Image.Resampling.BILINEAR
        rgb = _FITS[how.fit](rgb, size_px, kernel)
    return rgb


def _turned(image: Image.Image) -> Image.Image:
    try:
        orientation = image.getexif().get(_ORIENTATION, 1)
    except (OSError, SyntaxError, ValueError, TypeError, KeyError, IndexError, struct.error):
        return image  # the pixels are all right
    return image if orientation == 1 else ImageOps.exif_transpose(image)


def _rgb(path: str, image: Image.Image, file_format: str, *, over_white: bool) -> Image.Image:
    if image.mode == "RGB":
        return image  # convert would copy it
    if image.mode.startswith("I;16") or image.mode == "I" and file_format == "PNG":
        levels_HW = np.asarray(image).astype(np.uint32)
        # Pillow would cut every level above 255 down to it; 257 * 255 is the largest.
        return Image.fromarray(((levels_HW + 128) // 257).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        raise Unreadable(f"{path} has more than 16 bits per channel. Convert it to 8 or 16 bits.")
    if over_white and (image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info):
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    if image.mode == "P" and isinstance(image.info.get("transparency"), bytes):
        image = image.convert("RGBA")  # Pillow warns of the direct way; the colors are the same
    return image.convert("RGB")


def _middle_square(image: Image.Image, size_px: int, kernel: Image.Resampling) -> Image.Image:
    side = min(image.size)
    left, top = ((length - side) / 2 for length in image.size)
    # Pillow's filters widen when they reduce, so that every pixel of a large image counts.
    box = (left, top, left + side, top + side)
    return image.resize((size_px, size_px), kernel, box=box)


def _stretched(image: Image.Image, size_px: int, kernel: Image.Resampling) -> Image.Image:
    return image.resize((size_px, size_px), kernel)


def _padded(image: Image.Image, size_px: int, kernel: Image.Resampling) -> Image.Image:
    return ImageOps.pad(image, (size_px, size_px), kernel, color="black")


_FITS = {"crop": _middle_square, "stretch": _stretched, "pad": _padded}


def part_name(path: str, numbers: Sequence[float]) -> str:
    """The name of a part of a picture, for ``part``. numbers: 22 of a random crop, or 4 of a window.

    A random crop has ten areas (shares of the picture's), ten logarithms of width / height, and where in its room the
    crop lies, down and across, in [0, 1): the first area and ratio that fit are taken, else the largest crop in the
    middle. A window has the side in pixels to which the picture's shorter side is resized, whether the picture is
    mirrored then, and where in its room the window lies, down and across, in [0, 1].
    """
    return f"{path}{_END_OF_PATH}{json.dumps(list(numbers))}"


def part(name: str, size_px: int, how: How = AS_PUBLISHED) -> Image.Image:
    """A square of ``size_px`` out of the whole picture at its full resolution, as torchvision cuts Pillow images.

    Args:
        name: from ``part_name``; a path alone means ``decoded``.

    Raises:
        Unreadable: as ``decoded``.

    Source: torchvision RandomResizedCrop; Resize and TenCrop.
    """
    path, has_part, numbers = name.partition(_END_OF_PATH)
    if not has_part:
        return decoded(path, size_px, how)
    picture, values = decoded(path, 0, how), json.loads(numbers)
    kernel = Image.Resampling.BICUBIC if how.is_bicubic else Image.Resampling.BILINEAR
    if len(values) > _WINDOW:
        # Cut out first: the kernel must not see what lies around the crop.
        return picture.crop(_crop_box(*picture.size, values)).resize((size_px, size_px), kernel)
    side, is_mirrored, down, across = values
    short = min(picture.size)
    width, height = (int(side) if length == short else int(side * length / short) for length in picture.size)
    left, top = round(across * (width - size_px)), round(down * (height - size_px))
    resized = picture.resize((width, height), kernel)
    shown = ImageOps.mirror(resized) if is_mirrored else resized
    return shown.crop((left, top, left + size_px, top + size_px))


def _crop_box(width: int, height: int, values: Sequence[float]) -> tuple[int, int, int, int]:
    *shapes, down, across = values
    for share, log_ratio in zip(shapes[: len(shapes) // 2], shapes[len(shapes) // 2 :], strict=True):
        area, ratio = share * width * height, math.exp(log_ratio)
        wide, high = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < wide <= width and 0 < high <= height:
            left = min(int(across * (width - wide + 1)), width - wide)
            top = min(int(down * (height - high + 1)), height - high)
            return left, top, left + wide, top + high
    wide, high = min(width, round(height * _WIDEST)), min(height, round(width * _WIDEST))
    left, top = (width - wide) // 2, (height - high) // 2
    return left, top, left + wide, top + high


def main(ring_fd: int, size_px: int, how: How, kept_fd: int = -1, first_byte: int = 0) -> None:
    """Serve decoding jobs until stdin ends.

    Args:
        ring_fd: file descriptor of the shared ring of pixels.
        size_px: side of the decoded images.
        how: as in ``decoded``.
        kept_fd: file descriptor of the decode cache; -1 for none.
        first_byte: where the pixels begin in the cache.
    """
    # Ctrl-C is for the owner, which may still want what it has asked for.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    ring_SHWC = np.frombuffer(mmap.mmap(ring_fd, 0), dtype=np.uint8).reshape(-1, size_px, size_px, 3)
    for line in sys.stdin.buffer:
        errors = []
        for slot, name, place in json.loads(line):
            try:
                ring_SHWC[slot] = np.asarray(part(name, size_px, how))
            except Unreadable as error:
                errors.append([name, str(error)])
                continue
            if kept_fd >= 0 and place >= 0 and not _keep(kept_fd, first_byte, place, ring_SHWC[slot]):
                kept_fd = -1
        try:
            sys.stdout.write(json.dumps(errors) + "\n")
            sys.stdout.flush()
        except BrokenPipeError:
            return


def _keep(
    kept_fd: int, first_byte: int, place: int, image_HWC: "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]"
) -> bool:
    """The pixels first, then their flag; whether there was room."""
    try:
        if os.pwrite(kept_fd, image_HWC.data, first_byte + place * image_HWC.nbytes) < image_HWC.nbytes:
            return False
        os.pwrite(kept_fd, b"\1", place)
    except OSError:
        return False
    return True


if __name__ == "__main__":
    _ring_fd, _size_px, _fit, _as_shown, _is_bicubic, *_kept = sys.argv[1:]
    _how = How(_fit, _as_shown == "1", _is_bicubic == "1")
    main(int(_ring_fd), int(_size_px), _how, *map(int, _kept))
