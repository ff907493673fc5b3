"""A disk without room: what was saved stays, what was half written goes, and it goes on once there is room.

On a real file system of a few hundred KiB, which only root may mount. Stock parts leave their partial files behind.
"""

import errno
import subprocess
from collections.abc import Iterator
from pathlib import Path
from platform.ledger.ledger import Ledger
from platform.ledger.schema import LedgerFull

import numpy as np
import pytest
import torch

from trainables.interfaces import Result
from trainables.runner.messages import EpochRecord
from trainables.store.artifacts import Store
from trainables.store.progress import ProgressFile

SIZE_KIB = 600


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={SIZE_KIB}k", "tmpfs", str(tmp_path)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mounting a small disk needs root")
    yield tmp_path
    subprocess.run(["umount", "-l", str(tmp_path)], check=True)


def result(num_numbers: int) -> Result:
    return Result(weights={}, arrays={"rows": np.ones(num_numbers, dtype=np.float32)}, facts={}, metrics={})


def put(store: Store, name: str, num_numbers: int) -> None:
    store.put(name, result(num_numbers), {"stage": "scan"}, [])


def test_a_result_that_has_no_room_leaves_nothing_and_fits_later(small_disk: Path) -> None:
    store = Store(small_disk)
    put(store, "scan-0", 10)
    filler = small_disk / "filler"
    filler.write_bytes(bytes(300 * 1024))
    with pytest.raises(OSError, match="No space left on device") as full:
        put(store, "scan-1", 100_000)
    assert full.value.errno == errno.ENOSPC
    assert "scan-1" not in store
    assert list((store.root / ".new").iterdir()) == []
    assert Store(small_disk).get("scan-0") is not None
    filler.unlink()
    put(store, "scan-1", 100_000)
    assert Store(small_disk).get("scan-1") is not None


def test_a_save_that_has_no_room_leaves_the_one_before_it(small_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainables.store.progress._SAVE_SHARE", float("inf"))
    store = Store(small_disk)
    progress = ProgressFile(store, "scan-0")
    progress.save(lambda: {"epoch": 1}, [{"epoch": 1.0}])
    with pytest.raises(OSError, match="No space left on device"):
        progress.save(lambda: {"epoch": 2, "weight": torch.ones(1_000_000)}, [{"epoch": 2.0}])
    saved = ProgressFile(store, "scan-0").load()
    assert saved is not None and saved.state["epoch"] == 1
    progress.save(lambda: {"epoch": 2}, [{"epoch": 2.0}])
    saved = ProgressFile(store, "scan-0").load()
    assert saved is not None and saved.state["epoch"] == 2


def test_a_ledger_that_has_no_room_keeps_what_it_acknowledged(small_disk: Path) -> None:
    ledger = Ledger(small_disk / "ledger.db")
    launch = ledger.open_launch("spc", {}, {}, lookahead=1).id
    ledger.add_trials(launch, [("a", {"kind": "trial", "seed": 0})], configuration=0)
    ledger.finish(launch, "a", {"loss": 0.5}, [], 1.0)
    rows = [EpochRecord("spc", n, 9999, {"loss": 0.1}) for n in range(9999)]
    with pytest.raises(LedgerFull, match=r"ledger\.db cannot be written \(.*\); make room and start again"):
        ledger.add_epochs(launch, "a", rows)
    ledger.close()
    subprocess.run(["mount", "-o", "remount,size=20m", str(small_disk)], check=True)
    again = Ledger(small_disk / "ledger.db")
    (trial,) = again.trials(again.open_launch("spc", {}, {}, lookahead=1).id)
    assert (trial.state, trial.metrics) == ("DONE", {"loss": 0.5})
    again.add_epochs(launch, "a", rows)
    assert len(again.epochs(launch)) == 9999
