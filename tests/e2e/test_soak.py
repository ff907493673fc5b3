"""Two thousand trials that train nothing: what must not grow from one trial to the next does not.

``make chaos`` runs it: minutes on two cores. Each figure is of the driver's process but for the temporary folder and
the ledger's file; the last line that it prints has all of them.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from platform.study.study import load_study

import pytest

from benchmarks.trial_overhead import STUDY, ends, fill

ROOT = Path(__file__).resolve().parents[2]
NUM_TRIALS = 2000
LOOK_S = 1.0

pytestmark = [pytest.mark.slow, pytest.mark.chaos]


@dataclass(frozen=True)
class Look:
    """One moment. num_done: trials. temporary: files and folders in the sweep's TMPDIR, Ray's logs among them."""

    num_done: int
    memory_kib: int
    descriptors: int
    threads: int
    temporary: int
    ledger_bytes: int


def look(pid: int, storage: Path, scratch: Path) -> Look | None:
    """None before the ledger is there and after the driver has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
        memory = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))
        descriptors, threads = (len(os.listdir(f"/proc/{pid}/{name}")) for name in ("fd", "task"))
    except (OSError, StopIteration):
        return None
    ledger = [storage / "ledger.db", storage / "ledger.db-wal"]
    size = sum(path.stat().st_size for path in ledger if path.exists())
    temporary = sum(len(folders) + len(files) for _, folders, files in os.walk(scratch))  # whatever goes meanwhile
    return Look(len(ends(storage)), memory, descriptors, threads, temporary, size)


@pytest.fixture(scope="module")
def looks(tmp_path_factory: pytest.TempPathFactory) -> list[Look]:
    """From the second tenth of the trials to the last trial."""
    folder, scratch = tmp_path_factory.mktemp("soak"), tmp_path_factory.mktemp("t")
    file, storage = folder / "soak.yaml", folder / "runs"
    file.write_text(STUDY.format(trials=NUM_TRIALS))
    fill(load_study(file), storage)
    environment = os.environ | {"TMPDIR": str(scratch), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "platform.sweep", str(file), "--storage", str(storage)]
    seen: list[Look] = []
    with (folder / "said").open("w") as said:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=said, stderr=said)
        while process.poll() is None:
            time.sleep(LOOK_S)
            now = look(process.pid, storage, scratch)
            seen += [now] if now is not None else []
    assert process.returncode == 0, (folder / "said").read_text()[-2000:]
    assert len(ends(storage)) == NUM_TRIALS
    kept = [each for each in seen if NUM_TRIALS // 10 <= each.num_done < NUM_TRIALS]
    print(json.dumps({"second tenth": asdict(kept[0]), "last trial": asdict(kept[-1]), "looks": len(kept)}))
    return kept


def growth(looks: list[Look], of: Callable[[Look], int]) -> float:
    """Per trial, from the mean of the first tenth of the looks to that of the last."""
    part = max(1, len(looks) // 10)
    first, last = looks[:part], looks[-part:]
    mean = [sum(map(of, some)) / part for some in (first, last)]
    trials = [sum(each.num_done for each in some) / part for some in (first, last)]
    return (mean[1] - mean[0]) / (trials[1] - trials[0])


@pytest.mark.parametrize(
    ("what", "most"),
    [
        ("memory_kib", 64.0),  # the trials that the driver knows; 29 KiB were measured over 10,000
        ("descriptors", 0.01),
        ("threads", 0.01),
        ("temporary", 0.05),  # Ray's logs
        ("ledger_bytes", 8192.0),
    ],
)
def test_nothing_grows_with_the_trials_but_what_is_known_of_them(looks: list[Look], what: str, most: float) -> None:
    assert growth(looks, lambda each: int(getattr(each, what))) <= most


def test_a_trial_takes_as_much_of_the_ledger_late_as_early(looks: list[Look]) -> None:
    half = len(looks) // 2
    early, late = (growth(some, lambda each: each.ledger_bytes) for some in (looks[:half], looks[half:]))
    assert late <= 1.5 * early + 1024
