"""Decoded images that are kept: the same pixels, decoded once for all processes, and never needed."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from trainables.data import datasets
from trainables.data.datasets import Spec
from trainables.data.decoding import cache, decoder
from trainables.data.decoding.workers import Decoders, FileImages

SIZE = 16
NUM = 12


@pytest.fixture(autouse=True)
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The temporary folder of this test alone."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture
def paths(tmp_path: Path) -> list[str]:
    rng = np.random.default_rng(0)
    found = []
    for number in range(NUM):
        path = tmp_path / "images" / f"{number:02}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (SIZE, SIZE, 3)).astype(np.uint8)).save(path)
        found.append(str(path))
    return found


@pytest.fixture
def keeping(paths: list[str]) -> Iterator[Decoders]:
    decoders = Decoders(SIZE, num_workers=1)
    decoders.keep(paths)
    yield decoders


def pixels(paths: list[str]) -> torch.Tensor:
    return torch.stack([torch.from_numpy(np.array(Image.open(path))).permute(2, 0, 1) for path in paths])


def files_in(scratch: Path) -> list[Path]:
    return sorted(scratch.glob("clustersweep-pixels-*/*"))


def test_another_process_reads_what_one_has_decoded(keeping: Decoders, paths: list[str]) -> None:
    assert torch.equal(keeping.take(paths), pixels(paths))
    other = Decoders(SIZE, num_workers=1)
    other.keep(paths)
    assert torch.equal(other.take(paths[::-1]), pixels(paths[::-1]))
    other.announce(paths)
    assert other._work is None, "nothing was decoded, so no process was started"


def test_kept_and_decoded_images_come_in_the_order_asked_for(keeping: Decoders, paths: list[str]) -> None:
    keeping.take(paths[3:6])
    mixed = [*paths[8:10], *paths[4:6], paths[0], paths[3], paths[3]]
    assert torch.equal(keeping.take(mixed), pixels(mixed))


def test_an_altered_image_is_decoded_again(keeping: Decoders, paths: list[str], scratch: Path) -> None:
    keeping.take(paths)
    Image.fromarray(np.full((SIZE, SIZE, 3), 7, np.uint8)).save(paths[2])
    later = Decoders(SIZE, num_workers=1)
    later.keep(paths)
    assert (later.take([paths[2]]) == 7).all()
    assert len(files_in(scratch)) == 2


def test_what_has_no_room_is_decoded_each_time(
    paths: list[str], monkeypatch: pytest.MonkeyPatch, scratch: Path
) -> None:
    free = os.statvfs(scratch).f_bavail * os.statvfs(scratch).f_frsize
    monkeypatch.setattr(cache, "SHARE_OF_DISK", 5.5 * 3 * SIZE * SIZE / free)
    decoders = Decoders(SIZE, num_workers=1)
    decoders.keep(paths)
    for _ in range(2):
        assert torch.equal(decoders.take(paths), pixels(paths))
    found = cache.opened(paths, SIZE)
    assert found is not None
    # The free space moves a little between the two looks at it.
    assert 1 <= sum(found.has(path) for path in paths) < NUM


def test_a_file_put_in_the_place_of_an_open_one_is_not_mixed_with_it(paths: list[str], scratch: Path) -> None:
    first = cache.opened(paths, SIZE)
    (file,) = files_in(scratch)
    cache._make(file, len(paths), 3 * SIZE * SIZE)
    other = Decoders(SIZE, num_workers=1)
    other.keep(paths)
    other.take(paths)
    second = cache.opened(paths, SIZE)
    assert first is not None and second is not None
    assert not any(first.has(path) for path in paths) and all(second.has(path) for path in paths)


def test_a_full_disk_ends_the_keeping_and_nothing_else() -> None:
    image_HWC = np.zeros((SIZE, SIZE, 3), np.uint8)
    with open("/dev/full", "wb", buffering=0) as full:
        assert not decoder._keep(full.fileno(), cache.PAGE_BYTES, 0, image_HWC)


def test_a_folder_that_others_can_enter_is_not_used(
    paths: list[str], scratch: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (scratch / f"clustersweep-pixels-{os.getuid()}").mkdir(mode=0o777)
    (scratch / f"clustersweep-pixels-{os.getuid()}").chmod(0o777)
    assert cache.opened(paths, SIZE) is None
    assert "only this user" in caplog.text


def test_files_that_nobody_opens_go(paths: list[str], scratch: Path) -> None:
    assert cache.opened(paths, SIZE) is not None
    (old,) = files_in(scratch)
    os.utime(old, (0, 0))
    assert cache.opened(paths[:4], SIZE) is not None
    assert len(files_in(scratch)) == 1 and files_in(scratch) != [old]


@pytest.mark.parametrize("keep", [True, False])
def test_only_a_set_that_streams_is_kept(tmp_path: Path, scratch: Path, paths: list[str], keep: bool) -> None:
    for number, path in enumerate(paths):
        target = tmp_path / "tree" / ("a" if number % 2 else "b") / Path(path).name
        target.parent.mkdir(parents=True, exist_ok=True)
        os.rename(path, target)
    data = datasets.load(
        Spec(name="folder", root=str(tmp_path / "tree"), protocol="union", image_size=SIZE, stream="always",
             keep_decoded=keep),
        torch.device("cpu"),
    )  # fmt: skip
    assert isinstance(data.train.images_NCHW, FileImages)
    assert len(files_in(scratch)) == keep
    datasets.load(
        Spec(name="folder", root=str(tmp_path / "tree"), protocol="union", image_size=SIZE), torch.device("cpu")
    )
    assert len(files_in(scratch)) == keep
