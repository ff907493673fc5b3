"""Anybody's own images: every layout, name and file format that users have, each made here and read or refused."""

import io
import json
import os
import re
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from trainables.data.datasets import Spec, load
from trainables.data.loaded import DataError
from trainables.interfaces import ImageData

ALL = {"labels": "none", "protocol": "union"}


def levels(number: int, size: tuple[int, int] = (8, 8)) -> np.ndarray:
    """(height, width, 3): a ramp to the right that begins at ``number``."""
    height, width = size
    ramp_W = (np.arange(width) * 10 + number).astype(np.uint8)
    return np.tile(ramp_W[None, :, None], (height, 1, 3))


def picture(path: Path, number: int = 0, size: tuple[int, int] = (8, 8)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(levels(number, size)).save(path)
    return path


def read(root: Path, **changes: object) -> ImageData:
    return load(Spec(name="folder", root=str(root), **changes))  # type: ignore[arg-type]


def names(data: ImageData) -> set[str]:
    return {*data.train.names, *data.eval.names}


def many(root: Path, paths: list[str]) -> Path:
    for number, path in enumerate(paths):
        picture(root / path, number)
    return root


CLASSES = [f"{name}/{number}.png" for name in ("ant", "bee") for number in range(3)]
PARTS = [f"{part}/{path}" for part in ("train", "val") for path in CLASSES]


@pytest.mark.parametrize(
    ("paths", "changes", "num_classes"),
    [
        ([f"{number}.png" for number in range(6)], {}, 0),
        ([f"all/{number}.png" for number in range(6)], {}, 0),
        ([f"all/2021/{number}.png" for number in range(6)], {}, 0),
        (CLASSES, {}, 2),
        ([f"{path[:3]}/images/{path[4:]}" for path in CLASSES], {}, 2),
        ([f"{path[:3]}/deep/er/{path[4:]}" for path in CLASSES], {"labels": "folders"}, 2),
        (CLASSES, {"labels": "none"}, 0),
        ([*CLASSES, "beside.png"], {"labels": "none"}, 0),
        (PARTS, {}, 2),
        (PARTS, {"labels": "none"}, 0),
        ([f"{part}/{number}.png" for part in ("train", "test") for number in range(4)], {}, 0),
        ([f"train/{path}" for path in CLASSES], {"protocol": "union"}, 2),
        ([f"{part}/{path}" for part in ("train", "valid") for path in CLASSES], {}, 2),
        ([f"{part}/{path}" for part in ("train", "validation") for path in CLASSES], {}, 2),
        ([f"{part}/{path}" for part in ("train", "val", "test") for path in CLASSES], {"protocol": "union"}, 2),
        ([f"train/{path}" for path in CLASSES] + ["test/0.png", "test/1.png"], {}, 2),
        (["A b/1 2.png", "A b/2.png", "猫/1.png", "猫/ü.png"], {}, 2),
    ],
    ids=str,
)
def test_a_layout_is_read_whole(tmp_path: Path, paths: list[str], changes: dict[str, object], num_classes: int) -> None:
    data = read(many(tmp_path, paths), **changes)
    assert names(data) == set(paths) and data.shape.num_classes == num_classes
    assert not [sentence for sentence in data.remarks if "left out" in sentence]


def test_labels_of_folders_are_those_of_the_first_folder_below_the_part(tmp_path: Path) -> None:
    data = read(many(tmp_path, ["ant/a/1.png", "ant/2.png", "bee/b/c/3.png", "bee/4.png"]), protocol="union")
    assert dict(zip(data.train.names, data.train.labels_N.tolist(), strict=True)) == {
        "ant/2.png": 0,
        "ant/a/1.png": 0,
        "bee/4.png": 1,
        "bee/b/c/3.png": 1,
    }


@pytest.mark.parametrize(
    "name",
    ["a.JPG", "b.JPEG", "c.Png", "d.webp", "e.tif", "f.TIFF", "g.bmp", "h.gif", "i.ppm", "j.pgm", "k.jfif", "l.jpe"],
)
def test_a_format_is_read(tmp_path: Path, name: str) -> None:
    picture(tmp_path / "0.png", 3)
    kind = {".jpg": "JPEG", ".jfif": "JPEG", ".jpe": "JPEG", ".tif": "TIFF", ".pgm": "PPM"}
    suffix = Path(name).suffix.lower()
    image = Image.fromarray(levels(3))
    (image.convert("L") if suffix == ".pgm" else image).save(
        tmp_path / name, format=kind.get(suffix, suffix[1:].replace("ppm", "PPM").upper()), quality=100
    )
    data = read(tmp_path, **ALL)
    assert names(data) == {"0.png", name}
    exact_CHW, found_CHW = data.train.images_NCHW[:].int()
    assert (exact_CHW - found_CHW).abs().max() <= 12


def saved(path: Path, image: Image.Image, **options: object) -> None:
    image.save(path, **options)  # type: ignore[arg-type]


def _cmyk(path: Path) -> None:
    saved(path.with_suffix(".jpg"), Image.fromarray(levels(0)).convert("CMYK"), quality=100)


def _palette(path: Path) -> None:
    saved(path, Image.fromarray(levels(0)).quantize(64))


def _one_bit(path: Path) -> None:
    saved(path, Image.fromarray(levels(0)).convert("L").point(lambda level: 255 * (level > 35)).convert("1"))


def _gray16(path: Path) -> None:
    saved(path, Image.fromarray(levels(0)[..., 0].astype(np.uint16) * 257))


def _gray16_tiff(path: Path) -> None:
    saved(path.with_suffix(".tif"), Image.fromarray(levels(0)[..., 0].astype(np.uint16) * 257))


def _opaque(path: Path) -> None:
    saved(path, Image.fromarray(levels(0)).convert("RGBA"))


def _animated(path: Path) -> None:
    frames = [Image.fromarray(levels(0)), Image.fromarray(255 - levels(0))]
    saved(path.with_suffix(".gif"), frames[0], save_all=True, append_images=frames[1:])


def _pages(path: Path) -> None:
    saved(
        path.with_suffix(".tiff"), Image.fromarray(levels(0)), save_all=True, append_images=[Image.new("RGB", (4, 4))]
    )


@pytest.mark.parametrize(
    ("make", "tolerance"),
    [(_cmyk, 8), (_palette, 3), (_gray16, 0), (_gray16_tiff, 0), (_opaque, 0), (_animated, 3), (_pages, 0)],
)
def test_pixels_of_a_kind_of_file_are_the_pictures(
    tmp_path: Path, make: Callable[[Path], None], tolerance: int
) -> None:
    make(tmp_path / "0.png")
    picture(tmp_path / "1.png")
    own_CHW, exact_CHW = read(tmp_path, **ALL).train.images_NCHW[:].int()
    assert (own_CHW - exact_CHW).abs().max() <= tolerance


def test_a_bitmap_of_one_bit_is_black_and_white(tmp_path: Path) -> None:
    _one_bit(picture(tmp_path / "0.png"))
    picture(tmp_path / "1.png")
    assert set(read(tmp_path, **ALL).train.images_NCHW[0].unique().tolist()) == {0, 255}


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photo_is_turned_as_its_exif_says(tmp_path: Path, orientation: int) -> None:
    # What EXIF 2.3 says of each orientation, applied to the pixels by hand.
    undo: dict[int, Callable[[np.ndarray], np.ndarray]] = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.swapaxes(0, 1),
        6: lambda a: np.rot90(a, 3),
        7: lambda a: np.rot90(a.swapaxes(0, 1), 2),
        8: lambda a: np.rot90(a, 1),
    }
    stored = levels(0)
    stored[0] = 255  # no symmetry left
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(stored).save(tmp_path / "0.png", exif=exif)
    picture(tmp_path / "1.png")
    own_HWC = read(tmp_path, **ALL).train.images_NCHW[0].permute(1, 2, 0).numpy()
    np.testing.assert_array_equal(own_HWC, undo[orientation](stored))


def test_transparent_parts_are_white(tmp_path: Path) -> None:
    rgba = np.zeros((8, 8, 4), np.uint8)
    rgba[:4, :, 3] = 255  # black above, transparent black below
    Image.fromarray(rgba).save(tmp_path / "0.png")
    picture(tmp_path / "1.png")
    own_CHW = read(tmp_path, **ALL).train.images_NCHW[0]
    assert own_CHW[:, :4].max() == 0 and own_CHW[:, 4:].min() == 255


def _wide(fit: str) -> np.ndarray:
    """What becomes of a picture 8 px high and 16 wide whose left half is black and whose right half is white."""
    expected = np.zeros((8, 8), int)
    if fit in ("crop", "stretch"):
        expected[:, 4:] = 255
    else:
        expected[2:6, 4:] = 255
    return expected


@pytest.mark.parametrize("fit", ["crop", "stretch", "pad"])
@pytest.mark.parametrize("kind", ["files", "streamed", "array"])
def test_an_image_that_is_no_square_fits(tmp_path: Path, fit: str, kind: str) -> None:
    wide = np.zeros((8, 16, 3), np.uint8)
    wide[:, 8:] = 255
    root = tmp_path / "images"
    root.mkdir()
    if kind == "array":
        root = tmp_path / "images.npy"
        np.save(root, np.stack([wide, wide]))
    else:
        for number in range(2):
            Image.fromarray(wide).save(root / f"{number}.png")
    stream = {"stream": "always"} if kind == "streamed" else {}
    found_HW = read(root, **ALL, fit=fit, image_size=8, **stream).train.images_NCHW[0:1][0, 0].int().numpy()
    assert np.abs(found_HW - _wide(fit))[:, [0, 1, 2, 5, 6, 7]].max() <= 64
    assert found_HW[4, 0] == 0 and found_HW[4, 7] == 255


def test_images_of_other_shapes_without_a_size_are_refused_with_both_settings(tmp_path: Path) -> None:
    picture(tmp_path / "0.png", size=(8, 16))
    picture(tmp_path / "1.png", size=(8, 8))
    with pytest.raises(DataError, match=r"(?s)Set image_size .* fit says how"):
        read(tmp_path, **ALL)


@pytest.mark.parametrize(
    "path",
    [".git/0.png", "._0.png", ".hidden.png", "__MACOSX/0.png", ".ipynb_checkpoints/0.png", "Thumbs.db", "desktop.ini"],
)
def test_what_systems_leave_behind_is_passed_over(tmp_path: Path, path: str) -> None:
    many(tmp_path, CLASSES)
    (tmp_path / path).parent.mkdir(exist_ok=True)
    (tmp_path / path).write_bytes(b"nothing")
    data = read(tmp_path)
    assert names(data) == set(CLASSES) and data.class_names == ("ant", "bee") and data.remarks == ()


def test_links_to_files_and_folders_are_followed_and_a_circle_is_not(tmp_path: Path) -> None:
    many(tmp_path / "elsewhere", ["1.png", "2.png"])
    many(tmp_path / "images", ["0.png"])
    (tmp_path / "images" / "link.png").symlink_to(tmp_path / "elsewhere" / "1.png")
    (tmp_path / "images" / "folder").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "images" / "circle").symlink_to(tmp_path / "images")
    data = read(tmp_path / "images", **ALL)
    assert names(data) == {"0.png", "link.png", "folder/1.png", "folder/2.png"}


@pytest.mark.parametrize("stream", ["never", "always"])
def test_names_that_are_no_utf8_are_read(tmp_path: Path, stream: str) -> None:
    for folder in (b"ant", b"caf\xe9"):
        os.makedirs(os.path.join(os.fsencode(tmp_path), folder))
        for number in range(2):
            content = picture(tmp_path.parent / "one.png", number).read_bytes()
            with open(os.path.join(os.fsencode(tmp_path), folder, b"\xff%d.png" % number), "wb") as file:
                file.write(content)
    spec = Spec(name="folder", root=str(tmp_path), protocol="union", image_size=8, stream=stream)
    data = load(spec, torch.device("cpu"))
    assert data.class_names == ("ant", "caf?") and len(data.train) == 4
    assert data.train.images_NCHW[:][:, 0, 0, 0].tolist() == [0, 1, 0, 1]
    assert all((Path(data.root) / name).is_file() for name in data.train.names)


@pytest.mark.parametrize(
    ("paths", "changes", "words"),
    [
        ([*CLASSES, "beside.png"], {"labels": "folders"}, "1 image was beside the class folders of"),
        ([*PARTS, *(f"test/{path}" for path in CLASSES)], {}, "6 images were in test left out: it is another part"),
        (
            [*PARTS, "other/0.png"],
            {},
            "1 image was in other left out: it is no part's name, and train and val are read",
        ),
        ([*PARTS, "0.png"], {}, "1 image was beside the folders train and val left out"),
        ([*CLASSES, "ant/0.heic", "bee/1.heic"], {}, r"2 files were left out, .* not read \(.heic: 2\). Convert them"),
        ([*CLASSES, "ant/notes.txt"], {}, r"1 file was left out that is by its name no image \(.txt: 1\)"),
        ([*CLASSES, "ant/README"], {}, r"1 file was left out .* \(no suffix: 1\)"),
    ],
)
def test_what_is_left_out_is_said(tmp_path: Path, paths: list[str], changes: dict[str, object], words: str) -> None:
    for path in paths:
        if path.endswith(".png"):
            picture(tmp_path / path)
        else:
            (tmp_path / path).write_bytes(b"?")
    data = read(tmp_path, **changes)
    (sentence,) = data.remarks
    assert re.search(words, sentence)


@pytest.mark.parametrize(
    ("paths", "changes", "words"),
    [
        (
            [*CLASSES, "0.png"],
            {},
            "holds 1 images and beside them folders with 6 more .* Write labels: none to take all",
        ),
        (["val/0.png", "test/0.png"], {}, "has val and test, but no folder train beside it"),
        (["train/0.png"], {}, "has a folder train but none of val, valid, validation, test, eval beside it"),
        (["ant/0.png", "ant/1.png"], {"labels": "folders"}, "must hold a folder for each of at least two classes"),
        ([*CLASSES, "cat/"], {}, "cat holds no image .*remove the folder, or write labels: none"),
        ([*CLASSES, "cat/notes.txt"], {}, "cat holds no image"),
        (["0.heic", "1.heic"], {}, r"holds no image .* 2 files were left out, images of kinds that are not read"),
        ([*PARTS, "train/cat/0.png"], {}, "must hold the same classes, but 'cat' is in only one of them"),
        (["0.png"], {}, "must hold at least two images"),
        ([], {}, "holds no image"),
        ([], {"labels": "here.csv"}, "here.csv is not a file. It is a CSV table"),
    ],
    ids=str,
)
def test_a_layout_with_two_meanings_or_none_is_refused_with_the_way_out(
    tmp_path: Path, paths: list[str], changes: dict[str, object], words: str
) -> None:
    for path in paths:
        if path.endswith(".png"):
            picture(tmp_path / path)
        elif path.endswith("/"):
            (tmp_path / path).mkdir()
        else:
            (tmp_path / path).parent.mkdir(exist_ok=True)
            (tmp_path / path).write_bytes(b"?")
    with pytest.raises(DataError, match=words):
        read(tmp_path, **changes)


def _bomb() -> bytes:
    """A PNG that says it has 20,000 x 20,000 pixels, and holds next to nothing."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", 20000, 20000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(100)))


def _png(mode: str = "RGB") -> bytes:
    file = io.BytesIO()
    Image.fromarray(levels(0)).convert(mode).save(file, "PNG")
    return file.getvalue()


def _jpeg() -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(file, "JPEG")
    return file.getvalue()


def _float_tiff() -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.zeros((8, 8), np.float32)).save(file, "TIFF")
    return file.getvalue()


BAD = {
    "empty.png": (b"", "is empty"),
    "byte.png": (b"\x89", "is no readable image"),
    "page.png": (b"<html></html>", "is no readable image"),
    "cut.png": (_png()[:50], "is no readable image"),
    "cut.jpg": (_jpeg()[:700], "is no readable image"),
    "crc.png": (_png().replace(b"IDAT", b"IDAU"), "is no readable image"),
    "bomb.png": (_bomb(), "has more pixels than an image of this kind should"),
    "float.tif": (_float_tiff(), "more than 16 bits per channel"),
    "gone.png": (None, "is no readable image"),
}


@pytest.fixture
def damaged(tmp_path: Path) -> Path:
    """A folder with four good files and every bad one."""
    many(tmp_path, [f"{number}.png" for number in range(4)])
    for name, (content, _) in BAD.items():
        if content is None:
            (tmp_path / name).symlink_to(tmp_path / "nowhere.png")
        else:
            (tmp_path / name).write_bytes(content)
    return tmp_path


def test_files_that_cannot_be_read_are_listed_all_at_once_with_the_way_past(damaged: Path) -> None:
    with pytest.raises(DataError) as refused:
        read(damaged, **ALL, image_size=8)
    lines = str(refused.value).splitlines()
    for name, (_, words) in BAD.items():
        (line,) = [each for each in lines if each.startswith(str(damaged / name))]
        assert words in line
    assert "skip_unreadable: true" in lines[-1] and len(lines) == len(BAD) + 1


@pytest.mark.parametrize("stream", ["never", "always"])
@pytest.mark.parametrize("image_size", [0, 8])
def test_files_that_cannot_be_read_are_skipped_where_the_page_says_so(
    damaged: Path, stream: str, image_size: int
) -> None:
    if stream == "always" and not image_size:
        pytest.skip("streaming needs a size")
    spec = Spec(
        name="folder", root=str(damaged), labels="none", protocol="union", image_size=image_size, stream=stream,
        skip_unreadable=True,
    )  # fmt: skip
    data = load(spec, torch.device("cpu"))
    assert names(data) == {f"{number}.png" for number in range(4)}
    assert data.train.images_NCHW[:][:, 0, 0, 0].tolist() == [0, 1, 2, 3]
    assert any(
        sentence.startswith(f"{len(BAD)} files were left out that cannot be read as images (skip_unreadable): ")
        for sentence in data.remarks
    )


def test_empty_files_of_a_streamed_set_are_found_before_it_is_used(tmp_path: Path) -> None:
    many(tmp_path, CLASSES)
    for path in CLASSES[:2]:
        (tmp_path / path).write_bytes(b"")
    with pytest.raises(DataError, match=r"(?s)ant/0.png is empty.*ant/1.png is empty.*skip_unreadable: true"):
        read(tmp_path, image_size=8, stream="always")


def test_skipping_where_all_can_be_read_changes_nothing(tmp_path: Path) -> None:
    many(tmp_path, CLASSES)
    plain, skipping = read(tmp_path), read(tmp_path, skip_unreadable=True)
    assert plain.fingerprint == skipping.fingerprint and plain.train.names == skipping.train.names


@pytest.mark.parametrize("lines", [True, False], ids=["jsonl", "csv"])
@pytest.mark.parametrize("labeled", [True, False])
def test_hugging_faces_imagefolder_is_read(tmp_path: Path, lines: bool, labeled: bool) -> None:
    for part in ("train", "test"):
        many(tmp_path / part, [f"{number}.png" for number in range(4)])
        rows = [{"file_name": f"{number}.png"} | ({"label": number % 2} if labeled else {}) for number in range(4)]
        if lines:
            (tmp_path / part / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
        else:
            text = "\n".join(",".join(map(str, row.values())) for row in rows)
            (tmp_path / part / "metadata.csv").write_text(",".join(rows[0]) + "\n" + text)
    data = read(tmp_path)
    assert names(data) == {f"{part}/{number}.png" for part in ("train", "test") for number in range(4)}
    assert data.class_names == (("0", "1") if labeled else ())
    assert data.eval.labels_N.tolist() == ([0, 1, 0, 1] if labeled else [-1] * 4)


def test_an_image_that_metadata_does_not_name_is_said(tmp_path: Path) -> None:
    many(tmp_path, ["0.png", "1.png", "2.png"])
    (tmp_path / "metadata.csv").write_text("file_name\n0.png\n1.png\n")
    assert read(tmp_path).remarks[1:] == ("1 image was that metadata.csv does not name left out.",)


def test_a_fingerprint_knows_the_content_and_the_order_and_not_the_place(tmp_path: Path) -> None:
    first = read(many(tmp_path / "a", ["x/0.png", "x/1.png", "y/0.png"]), **ALL).fingerprint
    assert read(many(tmp_path / "b", ["x/0.png", "x/1.png", "y/0.png"]), **ALL).fingerprint == first
    assert read(many(tmp_path / "c", ["x/1.png", "x/0.png", "y/0.png"]), **ALL).fingerprint != first
