"""Results leave a node's folder when it is full, the longest unused first, and are fetched again when asked for."""

import os
import shutil
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tests.store.test_object_store import Node, Objects, node, objects
from trainables.interfaces import Result
from trainables.store import eviction

__all__ = ["node", "objects"]  # fixtures

GB = 10**9
LONG_AGO_S = 10_000.0


@pytest.fixture(autouse=True)
def roomy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(eviction.VARIABLE, raising=False)
    disk(monkeypatch, free=GB)


def disk(monkeypatch: pytest.MonkeyPatch, free: int, total: int = 2 * GB) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(total=total, free=free, used=total - free))


def results(root: Path, *ages_s: float, size: int = 1_000_000) -> list[Path]:
    """Folders as results lie there, last used so many seconds ago."""
    made = []
    for number, age_s in enumerate(ages_s):
        folder = root / f"scan-{number}"
        (folder / "arrays").mkdir(parents=True)
        (folder / "arrays" / "a.npy").write_bytes(b"x" * size)
        os.utime(folder, (time.time() - age_s,) * 2)
        made.append(folder)
    return made


def test_nothing_goes_while_there_is_room(tmp_path: Path) -> None:
    results(tmp_path, LONG_AGO_S)
    assert eviction.make_room(tmp_path) == []


def test_the_longest_unused_go_first_and_no_more_than_have_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(eviction.VARIABLE, "0.0025")  # of four MB
    results(tmp_path, 1 * LONG_AGO_S, 4 * LONG_AGO_S, 2 * LONG_AGO_S, 3 * LONG_AGO_S)
    assert eviction.make_room(tmp_path) == ["scan-1", "scan-3"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["scan-0", "scan-2"]
    assert eviction.make_room(tmp_path) == []


def test_a_disk_keeps_a_tenth_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk(monkeypatch, free=GB // 5 - 1_500_000)  # a tenth of two GB, less one and a half results
    results(tmp_path, 3 * LONG_AGO_S, 2 * LONG_AGO_S, LONG_AGO_S)
    assert eviction.make_room(tmp_path) == ["scan-0", "scan-1"]


def test_what_was_used_a_moment_ago_stays_whatever_the_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(eviction.VARIABLE, "0.0001")
    old, young = results(tmp_path, LONG_AGO_S, 1.0)
    assert eviction.make_room(tmp_path) == [old.name]
    assert young.exists()


def test_what_is_no_result_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(eviction.VARIABLE, "0.0001")
    for name in (".progress", ".flight", ".new"):
        (tmp_path / name).mkdir()
        os.utime(tmp_path / name, (1.0, 1.0))
    assert eviction.make_room(tmp_path) == []
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.parametrize("text", ["much", "0", "-1", "inf", "nan"])
def test_a_bound_that_is_none_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv(eviction.VARIABLE, text)
    with pytest.raises(ValueError, match="CLUSTERSWEEP_LOCAL_GB must be a number of GB above 0, but is"):
        eviction.make_room(tmp_path)


def large(value: float) -> Result:
    return Result(weights={"head": {"weight": torch.full((1, 1), value)}}, arrays={"a": np.full(250_000, value, "f4")})


def test_a_store_makes_room_and_fetches_again_what_it_needs(
    objects: Objects, node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(eviction.VARIABLE, "0.0025")  # two results of a MB
    monkeypatch.setattr(eviction, "IN_USE_S", 0.0)
    first = node("first")
    mapped = None
    for number in range(4):
        first.put(f"scan-{number}", large(float(number)), {"stage": "scan"}, [])
        if number == 0:
            found = node("first").get("scan-0")
            assert found is not None
            mapped = found.arrays["a"]
        time.sleep(0.01)
    here = sorted(path.name for path in first.root.iterdir() if not path.name.startswith("."))
    assert here == ["scan-2", "scan-3"]
    assert mapped is not None
    assert mapped[:3].tolist() == [0.0] * 3  # whoever has it open reads on
    again = node("first")
    assert "scan-0" in again
    found = again.get("scan-0")
    assert found is not None
    assert found.arrays["a"][:2].tolist() == [0.0, 0.0]
    here = sorted(path.name for path in first.root.iterdir() if not path.name.startswith("."))
    assert here == ["scan-0", "scan-3"]


def test_reading_a_result_keeps_it(objects: Objects, node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    first = node("first")
    for number in range(2):
        first.put(f"scan-{number}", large(float(number)), {"stage": "scan"}, [])
        os.utime(first.folder(f"scan-{number}"), (time.time() - LONG_AGO_S + number,) * 2)
    assert node("first").get("scan-0") is not None
    monkeypatch.setenv(eviction.VARIABLE, "0.0015")
    assert eviction.make_room(first.root) == ["scan-1"]


def test_a_folder_s_own_results_are_never_evicted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from trainables.store.artifacts import Store

    monkeypatch.setenv(eviction.VARIABLE, "0.0001")
    monkeypatch.setattr(eviction, "IN_USE_S", 0.0)
    store = Store(tmp_path)
    for number in range(3):
        store.put(f"scan-{number}", large(float(number)), {"stage": "scan"}, [])
    assert all(f"scan-{number}" in Store(tmp_path) for number in range(3))
