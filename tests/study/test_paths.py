"""Paths from a page that are none: refused in bounded time, in one sentence."""

import os
import threading
from collections.abc import Callable
from pathlib import Path
from platform.study.errors import StudyErrors
from platform.study.study import load_study

import pytest

from trainables.data import folders
from trainables.data.loaded import DataError
from trainables.nets import checkpoints
from trainables.nets.checkpoints import CheckpointError

NUL = {
    "dataset.root": 'method: kmeans\ndataset: {name: folder, root: "a\\0b"}\n',
    "dataset.classes": 'method: kmeans\ndataset: {name: imagenet, root: x, classes: "a\\0b"}\n',
    "dataset.labels": 'method: kmeans\ndataset: {name: folder, root: x, labels: "a\\0b"}\n',
    "a checkpoint": 'method: kmeans\npretext: {checkpoint: "a\\0b"}\n',
    "a probe's images": 'method: swav\nprobes: [knn_probe]\nprobe_dataset: {name: folder, root: "a\\0b"}\n',
}


NAMES = ["stages", "Stages", "artifacts", "comparisons", "smoke", "ledger.db", "ledger.db-wal", "ledger.db-journal"]
NAMES += ["mlflow.db", "MLflow.DB-shm", "optuna.db", "optuna.db.damaged"]


@pytest.mark.parametrize("key", NUL)
def test_a_nul_is_refused_with_its_place(tmp_path: Path, key: str) -> None:
    page = tmp_path / "page.yaml"
    page.write_text(NUL[key])
    with pytest.raises(StudyErrors, match=r"no name and no path can hold a NUL, but this is 'a\\x00b'\. Take it out\."):
        load_study(page, [])


@pytest.mark.parametrize("name", NAMES)
def test_a_study_is_not_named_like_a_file_or_folder_of_the_storage(tmp_path: Path, name: str) -> None:
    page = tmp_path / "page.yaml"
    page.write_text(f"name: {name}\nmethod: kmeans\n")
    with pytest.raises(StudyErrors, match="names a file or folder of the storage itself"):
        load_study(page, [])


@pytest.mark.parametrize("name", ["stage", "ledger", "optuna.database", "stages2"])
def test_a_name_that_only_resembles_one_is_taken(tmp_path: Path, name: str) -> None:
    page = tmp_path / "page.yaml"
    page.write_text(f"name: {name}\nmethod: spc\n")
    assert load_study(page, []).name == name


def in_time(call: Callable[[], object]) -> str:
    """What a call that has to end by itself was refused with."""
    refused: list[str] = []

    def run() -> None:
        try:
            call()
        except (CheckpointError, DataError) as error:
            refused.append(str(error))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(20)
    assert not thread.is_alive(), "it waits"
    assert len(refused) == 1
    return refused[0]


@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "nowhere", "link to itself"])
def test_a_checkpoint_that_is_no_file_is_refused_in_bounded_time(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "moco.pt"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "folder":
        path.mkdir()
    elif kind == "link to itself":
        path.symlink_to("moco.pt")
    assert "the checkpoint cannot be read" in in_time(lambda: checkpoints.digest(path))


@pytest.mark.parametrize("kind", ["pipe", "device", "huge"])
def test_a_list_of_classes_that_is_none_is_refused_in_bounded_time(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "classes.txt"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        with path.open("wb") as file:
            file.truncate(1 << 30)  # no block of the disk is taken
    said = in_time(lambda: folders.chosen(["a", "b"], str(path), tmp_path))
    assert "is not a file" in said or "is larger than any list of classes" in said
