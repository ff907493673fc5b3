"""Images in a zip or tar: read as from a folder, and refused where the archive could do harm."""

import io
import os
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.data.test_own_images import many, names, picture, read
from trainables.data.loaded import DataError
from trainables.data.own_images import archives

PATHS = [f"{name}/{number}.png" for name in ("ant", "bee") for number in range(3)]


@pytest.fixture(autouse=True)
def _own_tmpdir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))


def packed(tmp_path: Path, suffix: str, inside: str = "") -> Path:
    """An archive of a folder with two classes and what macOS adds."""
    source = many(tmp_path / "source", [*PATHS, "__MACOSX/._0.png"])
    archive = tmp_path / f"images{suffix}"
    if suffix == ".zip":
        with zipfile.ZipFile(archive, "w") as opened:
            for path in [*PATHS, "__MACOSX/._0.png"]:
                opened.write(source / path, inside + path)
        return archive
    kind = {".tar": "w", ".tar.gz": "w:gz", ".tgz": "w:gz", ".tar.bz2": "w:bz2", ".tar.xz": "w:xz"}[suffix]
    with tarfile.open(archive, kind) as opened:  # type: ignore[call-overload]
        opened.add(source, inside or ".")
    return archive


@pytest.mark.parametrize("suffix", archives.SUFFIXES)
@pytest.mark.parametrize("inside", ["", "my pictures/"])
def test_an_archive_is_read_as_the_folder_it_was_made_of(tmp_path: Path, suffix: str, inside: str) -> None:
    data = read(packed(tmp_path, suffix, inside))
    assert names(data) == set(PATHS) and data.class_names == ("ant", "bee")
    assert data.fingerprint == read(tmp_path / "source").fingerprint
    assert all((Path(data.root) / name).is_file() for name in data.train.names)


def test_an_archive_is_unpacked_once_and_again_when_it_changed(tmp_path: Path) -> None:
    archive = packed(tmp_path, ".zip")
    first = read(archive)
    assert read(archive).root == first.root
    picture(tmp_path / "source" / "more.png", 9)
    with zipfile.ZipFile(archive, "a") as opened:
        opened.write(tmp_path / "source" / "more.png", "bee/9.png")
    assert "bee/9.png" in names(read(archive))


def _zip(path: Path, name: str, mode: int = 0o644) -> None:
    with zipfile.ZipFile(path, "w") as opened:
        member = zipfile.ZipInfo(name)
        member.external_attr = mode << 16
        opened.writestr(member, b"text")


def _tar(path: Path, name: str, kind: bytes = tarfile.REGTYPE) -> None:
    with tarfile.open(path, "w") as opened:
        member = tarfile.TarInfo(name)
        member.type, member.linkname = kind, "/etc/passwd" if kind != tarfile.REGTYPE else ""
        opened.addfile(member, io.BytesIO())


@pytest.mark.parametrize(
    ("suffix", "make"),
    [
        (".zip", lambda path: _zip(path, "../out.png")),
        (".zip", lambda path: _zip(path, "/out.png")),
        (".zip", lambda path: _zip(path, "a/..\\..\\out.png")),
        (".zip", lambda path: _zip(path, "link.png", stat.S_IFLNK | 0o777)),
        (".tar", lambda path: _tar(path, "../out.png")),
        (".tar", lambda path: _tar(path, "/out.png")),
        (".tar", lambda path: _tar(path, "link.png", tarfile.SYMTYPE)),
        (".tar", lambda path: _tar(path, "link.png", tarfile.LNKTYPE)),
        (".tar", lambda path: _tar(path, "pipe.png", tarfile.FIFOTYPE)),
    ],
)
def test_an_archive_that_leads_elsewhere_is_refused_and_leaves_nothing(
    tmp_path: Path, suffix: str, make: Callable[[Path], None]
) -> None:
    archive = tmp_path / f"images{suffix}"
    make(archive)
    before = sorted(os.listdir(tmp_path))
    with pytest.raises(
        DataError, match=r"(leads out of the archive's folder|is a link or a device). Unpack it yourself"
    ):
        read(archive, labels="none")
    assert sorted(os.listdir(tmp_path)) == before
    assert not [each for folder in (tmp_path / "tmp").iterdir() for each in folder.iterdir()]


@pytest.mark.parametrize("suffix", [".zip", ".tar.gz"])
def test_a_bomb_is_refused_before_it_fills_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    monkeypatch.setattr(archives, "ALWAYS_ALLOWED_BYTES", 1000)
    archive, zeros = tmp_path / f"images{suffix}", bytes(4 * 2**20)
    if suffix == ".zip":
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as opened:
            opened.writestr("0.bmp", zeros)
    else:
        with tarfile.open(archive, "w:gz") as packed_up:
            member = tarfile.TarInfo("0.bmp")
            member.size = len(zeros)
            packed_up.addfile(member, io.BytesIO(zeros))
    with pytest.raises(DataError, match="grows to more than 200 times its size"):
        read(archive, labels="none")
    assert not [each for folder in (tmp_path / "tmp").iterdir() for each in folder.iterdir()]


@pytest.mark.parametrize("suffix", archives.SUFFIXES)
@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_an_archive_that_was_cut_short_is_refused_in_a_sentence(tmp_path: Path, suffix: str, share: float) -> None:
    archive = packed(tmp_path, suffix)
    content = archive.read_bytes()
    archive.write_bytes(content[: int(share * len(content))])
    try:
        data = read(archive)
    except DataError as refused:
        assert "cannot be unpacked" in str(refused) or "holds no image" in str(refused) or "cut short" in str(refused)
    else:
        # A plain tar that is cut between two files cannot be told from a whole one.
        assert suffix == ".tar" and len(data.train) < len(PATHS)


def test_an_archive_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"images.zip is not a file. Set root to an archive or a folder"):
        read(tmp_path / "images.zip")
