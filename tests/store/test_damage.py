"""Anything in the place of anything: every place of a store x every kind of damage, and every byte of a manifest."""

import os
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from trainables.interfaces import Result
from trainables.store import damage, manifest
from trainables.store.artifacts import Store
from trainables.store.progress import ProgressFile

NAME = "scan-0"

PLACES = (
    "stages",
    "stages/.new",
    "stages/.flight",
    "stages/.progress",
    f"stages/{NAME}",
    f"stages/{NAME}/meta.json",
    f"stages/{NAME}/weights.pt",
    f"stages/{NAME}/epochs.json",
    f"stages/{NAME}/arrays",
    f"stages/{NAME}/arrays/probabilities_eval.npy",
    f"stages/{NAME}/figures",
    f"stages/{NAME}/figures/a.png",
    f"stages/.progress/{NAME}",
    f"stages/.progress/{NAME}/newest",
    f"stages/.progress/{NAME}/previous",
    f"stages/.progress/{NAME}/fresh",
    f"stages/.flight/{NAME}",
)

CASES = [
    (place, lost) for place in PLACES for lost in (False, True) if not (lost and place.startswith(f"stages/{NAME}/"))
]


def gone(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def a_file(path: Path) -> None:
    gone(path)
    path.write_bytes(b"no such thing")


def an_empty_file(path: Path) -> None:
    gone(path)
    path.write_bytes(b"")


def an_empty_folder(path: Path) -> None:
    gone(path)
    path.mkdir()


def a_full_folder(path: Path) -> None:
    an_empty_folder(path)
    (path / "some").mkdir()
    (path / "some" / "file").write_bytes(b"file")


def a_dangling_link(path: Path) -> None:
    gone(path)
    path.symlink_to("nowhere/at/all")


def a_link_to_itself(path: Path) -> None:
    gone(path)
    path.symlink_to(path.name)


def a_pipe(path: Path) -> None:
    gone(path)
    os.mkfifo(path)


DAMAGES = (gone, a_file, an_empty_file, an_empty_folder, a_full_folder, a_dangling_link, a_link_to_itself, a_pipe)


def result(value: float) -> Result:
    arrays = {"probabilities_eval": np.full((4, 2), value, dtype=np.float32)}
    return Result({"head": {"weight": torch.full((2, 3), value)}}, arrays, {}, {"loss": value})


def a_figure(folder: Path) -> None:
    (folder / "a.png").write_bytes(b"figure")


def a_store(storage: Path) -> None:
    """A finished result, and saves and a lock of the same name, as a second trial that computes it again has them."""
    store = Store(storage)
    with store.flight(NAME):
        store.put(NAME, result(1.0), {"stage": "scan"}, [{"epoch": 1, "loss": 1.0}], a_figure)
    for epoch in (1, 2):
        ProgressFile(store, NAME).save(lambda number=epoch: {"epoch": number}, [{"epoch": epoch}])  # type: ignore[misc]


def a_trial(storage: Path) -> float:
    """What a trial does with a stage: find its result, or take the lock, go on from a save, and publish."""
    store = Store(storage)
    found = store.get(NAME)
    if found is None:
        with store.flight(NAME):
            store.forget(NAME)
            if store.get(NAME) is None:
                store.discard(NAME)
                progress = ProgressFile(store, NAME)
                progress.load()
                progress.save(lambda: {"epoch": 3}, [])
                store.put(NAME, result(1.0), {"stage": "scan"}, [{"epoch": 1, "loss": 1.0}], a_figure)
        found = Store(storage).get(NAME)
    assert found is not None
    assert float(found.arrays["probabilities_eval"][0, 0]) == float(found.weights["head"]["weight"][0, 0])
    return found.metrics["loss"]


@pytest.fixture(autouse=True)
def every_epoch_is_saved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainables.store.progress._SAVE_SHARE", float("inf"))
    monkeypatch.setattr(os, "fsync", lambda _: None)  # no power cut is tested here, and a disk takes its time


@pytest.mark.parametrize("harm", DAMAGES)
@pytest.mark.parametrize(("place", "also_lost"), CASES)
def test_whatever_is_in_the_place_of_anything_the_trial_ends_with_its_result(
    tmp_path: Path, place: str, also_lost: bool, harm: Callable[[Path], None]
) -> None:
    """also_lost: the result is gone too, so that its saves, its lock and the folder of new ones are needed."""
    a_store(tmp_path)
    if also_lost:
        gone(tmp_path / "stages" / NAME)
    if not (tmp_path / place).parent.is_dir():
        (tmp_path / place).parent.mkdir(parents=True)
    harm(tmp_path / place)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        assert a_trial(tmp_path) == 1.0
    aside = list(tmp_path.rglob(f"{damage.PREFIX}*"))
    moved = [each for each in said if "was set aside as" in str(each.message)]
    # One word for each thing that was moved, which is kept; all saves go when the result is there.
    assert len(moved) == (len(aside) if not place.startswith(f"stages/.progress/{NAME}/") else len(moved)) <= 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert a_trial(tmp_path) == 1.0


@pytest.fixture
def make_unreadable(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """Makes files and folders ones that this process may not read, also where it runs as root."""
    refused: set[int] = set()
    original_open, original_access, original_exists = os.open, os.access, os.path.exists

    def is_refused(path: object) -> bool:
        parts = (Path(str(path)), *Path(str(path)).parents)
        return any(os.path.lexists(part) and part.lstat().st_ino in refused for part in parts)

    def opened(path: object, *arguments: object, **options: object) -> int:
        if not isinstance(path, int) and is_refused(path):
            raise PermissionError(13, "Permission denied", str(path))
        return original_open(path, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "open", opened)
    monkeypatch.setattr(os, "access", lambda path, mode: not is_refused(path) and original_access(path, mode))
    monkeypatch.setattr(os.path, "exists", lambda path: not is_refused(Path(path).parent) and original_exists(path))
    return lambda path: refused.add(path.lstat().st_ino)


@pytest.mark.parametrize("also_lost", [False, True])
@pytest.mark.parametrize("place", [place for place in PLACES if NAME in place])
def test_what_may_not_be_read_is_moved_aside_and_computed_again(
    tmp_path: Path, make_unreadable: Callable[[Path], None], place: str, also_lost: bool
) -> None:
    a_store(tmp_path)
    of_the_result = place.startswith(f"stages/{NAME}")
    if also_lost and not of_the_result:
        gone(tmp_path / "stages" / NAME)
    if place.endswith("fresh"):
        (tmp_path / place).write_bytes(b"")
    make_unreadable(tmp_path / place)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        assert a_trial(tmp_path) == 1.0
    moved = [each for each in said if "set aside as" in str(each.message)]
    # A lock and saves are looked at where the result has to be computed.
    assert len(moved) == int(also_lost or of_the_result)


def test_nothing_above_the_store_is_moved(tmp_path: Path) -> None:
    (tmp_path / "runs").write_bytes(b"a file of the user's")
    with pytest.raises(NotADirectoryError):
        Store(tmp_path / "runs")
    assert (tmp_path / "runs").read_bytes() == b"a file of the user's"


def test_every_byte_of_a_manifest_is_protected(tmp_path: Path) -> None:
    a_store(tmp_path)
    path = tmp_path / "stages" / NAME / manifest.FILE
    whole = path.read_bytes()
    before = manifest.read(path.parent)
    passed = 0
    for place in range(len(whole)):
        for bit in (0, 3):
            changed = bytearray(whole)
            changed[place] ^= 1 << bit
            path.write_bytes(bytes(changed))
            try:
                # Another blank between two words says the same.
                assert manifest.read(path.parent) == before
                passed += 1
            except damage.Damaged:
                continue
    assert passed < len(whole) / 10


@pytest.mark.parametrize(
    "text",
    [
        b"[]",
        b"{}",
        b"null",
        b"1e999",
        b'"text"',
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"metrics": null, "facts": {}, "sha256": {}}',
        b'{"metrics": {"loss": 0.9}, "facts": {}, "sha256": {}, "meta_sha256": 3}',
    ],
)
def test_a_manifest_that_is_none_is_set_aside_and_computed_again(tmp_path: Path, text: bytes) -> None:
    a_store(tmp_path)
    (tmp_path / "stages" / NAME / manifest.FILE).write_bytes(text)
    with pytest.warns(UserWarning, match="was set aside as"):
        assert a_trial(tmp_path) == 1.0


def test_a_number_that_was_changed_in_a_manifest_is_not_reported(tmp_path: Path) -> None:
    a_store(tmp_path)
    path = tmp_path / "stages" / NAME / manifest.FILE
    text = path.read_text()
    assert '"loss": 1.0' in text
    path.write_text(text.replace('"loss": 1.0', '"loss": 0.1'))
    with pytest.warns(UserWarning, match=r"meta\.json: its sha256 is not the one noted"):
        assert Store(tmp_path).get(NAME) is None


def test_a_file_that_the_manifest_does_not_list_is_no_part_of_the_result(tmp_path: Path) -> None:
    a_store(tmp_path)
    np.save(tmp_path / "stages" / NAME / "arrays" / "other.npy", np.ones(3))
    found = Store(tmp_path).get(NAME)
    assert found is not None and set(found.arrays) == {"probabilities_eval"}


def test_a_result_keeps_working_when_its_storage_is_moved(tmp_path: Path) -> None:
    a_store(tmp_path / "before")
    (tmp_path / "before").rename(tmp_path / "after")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert a_trial(tmp_path / "after") == 1.0
