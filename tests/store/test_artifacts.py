"""Stage results on disk: addresses, publishing whole or not at all, damage, saved epochs, and one computation for all.

Processes that are killed here run ``python -c`` on the code beside the test, with the storage folder as an argument.
"""

import json
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from trainables.interfaces import Result
from trainables.store import artifacts
from trainables.store.artifacts import Store, address
from trainables.store.progress import ProgressFile

INGREDIENTS: dict[str, Any] = {
    "stage": "scan",
    "version": 1,
    "config": {"lr": 0.1, "epochs": 3},
    "inputs": {"pretext": "aaaa"},
    "fingerprint": "f",
    "seed": 0,
}


def result(value: float = 1.0) -> Result:
    return Result(
        weights={"head": {"weight": torch.full((2, 3), value)}},
        arrays={"probabilities_eval": np.full((4, 2), value, dtype=np.float32)},
        facts={"network": "small"},
        metrics={"loss": value},
    )


def put(store: Store, name: str = "scan-0", value: float = 1.0) -> None:
    store.put(name, result(value), {"stage": "scan"}, [{"epoch": 1, "loss": value}])


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


def saved(storage: Path, name: str = "scan-0") -> Result | None:
    """What another process would find."""
    return Store(storage).get(name)


# Addresses


@pytest.mark.parametrize(
    ("part", "other"),
    [
        ("stage", "spc"),
        ("version", 2),
        ("config", {"lr": 0.2, "epochs": 3}),
        ("config", {"lr": 0.1}),
        ("inputs", {"pretext": "bbbb"}),
        ("inputs", {"scan": "aaaa"}),
        ("fingerprint", "g"),
        ("seed", 1),
    ],
)
def test_each_ingredient_changes_the_address(part: str, other: Any) -> None:
    assert address(**{**INGREDIENTS, part: other}) != address(**INGREDIENTS)


def test_the_order_of_settings_does_not_change_the_address() -> None:
    turned = {**INGREDIENTS, "config": {"epochs": 3, "lr": 0.1}}
    assert address(**turned) == address(**INGREDIENTS)


def test_an_address_is_the_same_on_every_machine() -> None:
    # The literal was taken once; a change of it makes every stored result unreachable.
    assert address(**INGREDIENTS) == "6bbd05e759fafa7b"


def test_a_setting_that_is_no_number_has_no_address() -> None:
    with pytest.raises(ValueError, match="Out of range float values are not JSON compliant"):
        address(**{**INGREDIENTS, "config": {"lr": float("nan")}})


# Results


def test_a_result_comes_back_as_it_was_put(store: Store, tmp_path: Path) -> None:
    put(store, value=3.0)
    found = saved(tmp_path)
    assert found is not None
    assert torch.equal(found.weights["head"]["weight"], torch.full((2, 3), 3.0))
    assert found.arrays["probabilities_eval"].tolist() == [[3.0, 3.0]] * 4
    assert (found.facts, found.metrics) == ({"network": "small"}, {"loss": 3.0})
    assert Store(tmp_path).epochs("scan-0") == [{"epoch": 1, "loss": 3.0}]


def test_an_array_that_is_read_back_cannot_be_changed(store: Store, tmp_path: Path) -> None:
    put(store)
    found = saved(tmp_path)
    assert found is not None
    with pytest.raises(ValueError, match="read-only"):
        found.arrays["probabilities_eval"][0, 0] = 5.0


def test_a_result_that_is_not_there_is_none(store: Store) -> None:
    assert store.get("scan-1") is None
    assert "scan-1" not in store


def test_figures_travel_with_the_result(store: Store) -> None:
    def draw(folder: Path) -> None:
        (folder / "a.png").write_bytes(b"figure")

    store.put("scan-0", result(), {}, [], draw)
    assert (store.folder("scan-0") / "figures" / "a.png").read_bytes() == b"figure"
    assert "figures/a.png" in json.loads((store.folder("scan-0") / "meta.json").read_text())["sha256"]


def test_a_result_whose_figures_cannot_be_drawn_leaves_nothing_behind(store: Store) -> None:
    def draw(folder: Path) -> None:
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        store.put("scan-0", result(), {}, [], draw)
    assert "scan-0" not in store
    assert list((store.root / ".new").iterdir()) == []


def test_what_a_killed_writer_left_goes_when_its_result_is_written(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for name in ("scan-0.computed-0badcafe", "scan-0.fetched-0badcafe", "scan-1.computed-0badcafe"):
        (store.root / ".new" / name / "arrays").mkdir(parents=True)
    with store.flight("scan-0"):
        store.put("scan-0", Result(), {"stage": "scan"}, [])
    left = sorted(path.name for path in (store.root / ".new").iterdir())
    # Another process may be writing the other result, or fetching this one.
    assert left == ["scan-0.fetched-0badcafe", "scan-1.computed-0badcafe"]


def test_putting_a_result_drops_its_saved_epochs(store: Store) -> None:
    ProgressFile(store, "scan-0").save(lambda: {"epoch": 1}, [])
    put(store)
    assert ProgressFile(store, "scan-0").load() is None


def test_memory_keeps_the_last_used_results_within_its_bytes(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    # A result is 4 x 2 float32 and 2 x 3 float32: 56 bytes; two fit.
    monkeypatch.setattr(artifacts, "_MEMORY_BYTES", 120)
    put(store, "scan-0")
    put(store, "scan-1")
    kept, dropped = store.get("scan-0"), store.get("scan-1")
    assert store.get("scan-0") is kept
    put(store, "scan-2")
    assert store.get("scan-0") is kept
    assert store.get("scan-1") is not dropped


# Damage


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def remove(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize("harm", [flip_a_bit, cut, empty, remove])
@pytest.mark.parametrize("file", ["weights.pt", "arrays/probabilities_eval.npy", "epochs.json"])
def test_a_damaged_result_is_set_aside_and_missing(
    store: Store, tmp_path: Path, file: str, harm: Callable[[Path], None]
) -> None:
    put(store)
    harm(store.folder("scan-0") / file)
    with pytest.warns(UserWarning, match=r"set aside as \.damaged-scan-0-.* and computed again") as caught:
        assert saved(tmp_path) is None
    assert file.rpartition("/")[2] in str(caught[0].message)
    assert len(list(store.root.glob(".damaged-scan-0-*"))) == 1


@pytest.mark.parametrize("harm", [cut, empty])
def test_damaged_notes_set_the_result_aside(store: Store, tmp_path: Path, harm: Callable[[Path], None]) -> None:
    put(store)
    harm(store.folder("scan-0") / "meta.json")
    with pytest.warns(UserWarning, match="set aside"):
        assert saved(tmp_path) is None


def test_a_result_can_be_put_again_where_a_damaged_one_was(store: Store, tmp_path: Path) -> None:
    put(store)
    flip_a_bit(store.folder("scan-0") / "weights.pt")
    with pytest.warns(UserWarning, match="set aside"):
        other = Store(tmp_path)
        assert other.get("scan-0") is None
    put(other, value=2.0)
    again = saved(tmp_path)
    assert again is not None and again.metrics == {"loss": 2.0}


# Killed at every step of the protocol

KILLED_WHILE_PUTTING = """
import os, signal, sys
from pathlib import Path
import numpy as np, torch
from trainables.store.artifacts import Store
from trainables.interfaces import Result

die_at, seen = int(sys.argv[2]), 0

def counted(call):
    def step(*arguments, **options):
        global seen
        seen += 1
        if seen == die_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return call(*arguments, **options)
    return step

store = Store(sys.argv[1])
os.fsync, os.rename = counted(os.fsync), counted(os.rename)
Path.rename = counted(Path.rename)
weights = {"head": {"weight": torch.ones(2, 3)}}
arrays = {"a": np.ones(3, dtype=np.float32), "b": np.ones(4, dtype=np.float32)}
store.put("scan-0", Result(weights, arrays, {}, {"loss": 1.0}), {}, [])
print("steps", seen)
"""


def child(code: str, *arguments: object) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True, timeout=120, check=False
    )


# One process forks for every step: importing torch once for each of them would take half a minute.
EVERY_STEP = """
import os, signal, sys
code, folder = sys.argv[1], sys.argv[2]
import numpy, torch
import trainables.store.artifacts, trainables.interfaces
torch.set_num_threads(1)
step = 0
while True:
    step += 1
    pid = os.fork()
    if pid == 0:
        sys.argv = ["-c", os.path.join(folder, str(step)), str(step)]
        exec(code, {})
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        continue
    assert status == 0
    break
print("killed", step - 1)
"""


def test_a_writer_killed_at_any_step_leaves_the_whole_result_or_none(tmp_path: Path) -> None:
    done = child(EVERY_STEP, KILLED_WHILE_PUTTING, tmp_path)
    assert done.returncode == 0, done.stderr
    killed = int(done.stdout.split("killed")[1])
    # Files: weights, two arrays, epochs, notes; then folder, rename, folder.
    assert killed >= 8
    found = []
    for step in range(1, killed + 1):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            there = saved(tmp_path / str(step))
        found.append(there is not None)
        if there is not None:
            assert there.metrics == {"loss": 1.0} and set(there.arrays) == {"a", "b"}
    # Nothing before the rename, everything after it.
    assert found == sorted(found) and not found[0] and found[-1]


def test_the_next_writer_is_not_hindered_by_what_a_killed_one_left(tmp_path: Path) -> None:
    done = child(KILLED_WHILE_PUTTING, tmp_path, 3)
    assert done.returncode == -signal.SIGKILL
    put(Store(tmp_path))
    assert saved(tmp_path) is not None


# Saved epochs


@pytest.fixture
def always_saved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainables.store.progress._SAVE_SHARE", float("inf"))


def save(store: Store, *epochs: int) -> Path:
    progress = ProgressFile(store, "scan-0")
    for epoch in epochs:
        progress.save(lambda number=epoch: {"epoch": number, "w": torch.ones(2)}, [{"epoch": epoch}])  # type: ignore[misc]
    return store.root / ".progress" / "scan-0"


def loaded_epoch(store: Store) -> Any:
    progress = ProgressFile(store, "scan-0").load()
    return None if progress is None else progress.state["epoch"]


@pytest.mark.usefixtures("always_saved")
def test_the_newest_save_is_loaded_with_its_metrics(store: Store) -> None:
    save(store, 1, 2)
    progress = ProgressFile(store, "scan-0").load()
    assert progress is not None
    assert progress.state["epoch"] == 2
    assert list(progress.epochs) == [{"epoch": 2}]


@pytest.mark.usefixtures("always_saved")
@pytest.mark.parametrize("harm", [flip_a_bit, cut, empty])
def test_a_damaged_save_falls_back_to_the_one_before_it(store: Store, harm: Callable[[Path], None]) -> None:
    folder = save(store, 1, 2)
    harm(folder / "newest")
    with pytest.warns(UserWarning, match=r"newest is damaged \(its sha256 differs\); going back to the save before it"):
        assert loaded_epoch(store) == 1


@pytest.mark.usefixtures("always_saved")
def test_a_writer_killed_between_its_renames_loses_one_save(store: Store) -> None:
    folder = save(store, 1, 2)
    (folder / "newest").rename(folder / "previous")
    assert loaded_epoch(store) == 2


@pytest.mark.usefixtures("always_saved")
def test_two_damaged_saves_mean_the_beginning(store: Store) -> None:
    folder = save(store, 1, 2)
    flip_a_bit(folder / "newest")
    flip_a_bit(folder / "previous")
    with pytest.warns(UserWarning, match="is damaged"):
        assert loaded_epoch(store) is None


@pytest.mark.usefixtures("always_saved")
def test_saving_goes_on_after_a_damaged_save(store: Store) -> None:
    flip_a_bit(save(store, 1) / "newest")
    save(store, 2)
    assert loaded_epoch(store) == 2


def test_a_save_that_would_cost_too_much_of_the_time_is_left_out(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    # Each save takes 1 s, and may take 5 % of the time: after one, nothing is saved for 20 s.
    now = [0.0]
    monkeypatch.setattr("trainables.store.progress.time.monotonic", lambda: now[0])
    progress = ProgressFile(store, "scan-0")

    def state(epoch: int) -> dict[str, int]:
        now[0] += 1.0
        return {"epoch": epoch}

    progress.save(lambda: state(1), [])
    now[0] += 19.0
    progress.save(lambda: state(2), [])
    assert loaded_epoch(store) == 1
    now[0] += 1.5
    progress.save(lambda: state(3), [])
    assert loaded_epoch(store) == 3


# One computation for all

HOLDER = """
import sys, time
from trainables.store.artifacts import Store
with Store(sys.argv[1]).flight("scan-0"):
    print("held", flush=True)
    time.sleep(60)
"""

COMPUTES_ONCE = """
import sys, time
import numpy as np
from trainables.store.artifacts import Store
from trainables.interfaces import Result
store = Store(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
if store.get("scan-0") is None:
    with store.flight("scan-0", patience_s=0.01):
        if store.get("scan-0") is None:
            time.sleep(0.5)
            store.put("scan-0", Result(metrics={"by": float(sys.argv[2])}), {}, [])
            print("computed", flush=True)
"""


def test_of_two_processes_that_need_a_result_one_computes_it(tmp_path: Path) -> None:
    both = [
        subprocess.Popen(
            [sys.executable, "-c", COMPUTES_ONCE, str(tmp_path), str(number)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(2)
    ]
    for each in both:
        assert each.stdout is not None and each.stdout.readline() == "ready\n"
    for each in both:
        assert each.stdin is not None
        each.stdin.write("go\n")
        each.stdin.flush()
    said = sorted(each.communicate(timeout=60)[0] for each in both)
    assert said == ["", "computed\n"]
    assert [each.returncode for each in both] == [0, 0]


def test_a_killed_holder_frees_the_flight_at_once(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        holder.kill()
    began = time.monotonic()
    with Store(tmp_path).flight("scan-0"):
        assert time.monotonic() - began < 1.0


def test_other_results_are_not_held_up(tmp_path: Path, store: Store) -> None:
    with store.flight("scan-0"):
        began = time.monotonic()
        with Store(tmp_path).flight("scan-1"):
            assert time.monotonic() - began < 1.0
