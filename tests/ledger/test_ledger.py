"""The one file that is believed: owners, and writers that do not lose each other's rows.

Other processes run ``python -c`` on the code beside the test, from the repository's root.
"""

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from platform.ledger import process_lease
from platform.ledger.launches import StudyHeld, StudyLost
from platform.ledger.ledger import Ledger
from platform.ledger.rows import DONE, PENDING, PRUNED, Configuration
from platform.ledger.schema import LedgerBusy, LedgerDamaged, LedgerFull

import pytest

from tests.ledger.ledgers import entered, of, opened
from trainables.runner.messages import EpochRecord

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "ledger.db")


@pytest.fixture
def launch(ledger: Ledger) -> int:
    return opened(ledger)


def test_no_write_and_no_look_for_what_is_new_goes_through_all_trials(ledger: Ledger, launch: int) -> None:
    entered(ledger, launch, "a")
    asked: list[str] = []
    connection = sqlite3.connect(ledger.place)
    ledger._connection.set_trace_callback(asked.append)  # noqa: SLF001 - what it asks of SQLite is the point
    ledger.start(launch, "a")
    ledger.finish(launch, "a", {}, [], 1.0)
    ledger.trials_since(launch, 0)
    ledger.trial(launch, "a")
    of_trials = [text for text in asked if "trials" in text]
    steps = [row[3] for text in of_trials for row in connection.execute(f"EXPLAIN QUERY PLAN {text}")]
    assert len(of_trials) >= 4
    assert [step for step in steps if step.startswith("SCAN")] == []


HOLDS = """
import sys, time
from platform.ledger.ledger import Ledger
Ledger(sys.argv[1]).open_launch("spc", {"method": "spc"}, {}, lookahead=1)
print("held", flush=True)
time.sleep(60)
"""


def python(code: str, *arguments: object) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )


@pytest.fixture
def holder(tmp_path: Path, ledger: Ledger) -> Iterator["subprocess.Popen[str]"]:
    """A living driver in another process that has the study."""
    with python(HOLDS, ledger.place) as process:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_study_that_a_living_process_runs_is_refused(ledger: Ledger, holder: "subprocess.Popen[str]") -> None:
    text = (
        f"study 'spc' is being run by process {holder.pid} on {socket.gethostname()}; wait for it, stop it, or give "
        "this run another name with --set name=..."
    )
    with pytest.raises(StudyHeld, match=text):
        opened(ledger)


def test_fresh_does_not_take_a_study_from_a_living_process(ledger: Ledger, holder: "subprocess.Popen[str]") -> None:
    with pytest.raises(StudyHeld):
        opened(ledger, fresh=True)


def test_another_study_is_free_meanwhile(ledger: Ledger, holder: "subprocess.Popen[str]") -> None:
    assert opened(ledger, "scan") > 0


def test_a_killed_holder_frees_its_study_at_once(ledger: Ledger, holder: "subprocess.Popen[str]") -> None:
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert opened(ledger) > 0


def test_a_pid_that_was_given_to_another_process_does_not_hold_the_study(ledger: Ledger, launch: int) -> None:
    process_lease = {"host": socket.gethostname(), "pid": os.getppid(), "born": "1"}
    with sqlite3.connect(ledger.place) as connection:
        connection.execute("UPDATE launches SET owner = ?", (json.dumps(process_lease),))
    assert opened(ledger) > 0


def owned_elsewhere(ledger: Ledger, launch: int, heartbeat: float) -> None:
    process_lease = {"host": "elsewhere", "pid": os.getpid(), "born": "1"}
    with sqlite3.connect(ledger.place) as connection:
        connection.execute("UPDATE launches SET owner = ?, heartbeat = ?", (json.dumps(process_lease), heartbeat))


def test_a_holder_on_another_host_counts_while_its_heart_beats(ledger: Ledger, launch: int) -> None:
    owned_elsewhere(ledger, launch, time.time())
    with pytest.raises(StudyHeld, match="on elsewhere"):
        opened(ledger)


@pytest.fixture
def short_lease(monkeypatch: pytest.MonkeyPatch) -> float:
    monkeypatch.setattr(process_lease, "LEASE_S", 0.4)
    return 0.4


def test_a_holder_on_another_host_that_is_silent_has_lost_its_study(
    ledger: Ledger, launch: int, short_lease: float
) -> None:
    owned_elsewhere(ledger, launch, time.time() - short_lease - 1)
    assert opened(ledger) == launch


# One host's clock read as another's takes a living driver's study away, or leaves a dead one's held for an hour.
@pytest.mark.parametrize("skew_s", [-3600.0, -300.0, 300.0, 3600.0])
def test_a_silent_holder_has_lost_its_study_whatever_its_clock_said(
    ledger: Ledger, launch: int, short_lease: float, skew_s: float
) -> None:
    owned_elsewhere(ledger, launch, time.time() + skew_s)
    assert opened(ledger) == launch


@pytest.mark.parametrize("skew_s", [-3600.0, -300.0, 300.0, 3600.0])
def test_a_beating_heart_holds_a_study_whatever_its_clock_says(
    ledger: Ledger, launch: int, short_lease: float, monkeypatch: pytest.MonkeyPatch, skew_s: float
) -> None:
    owned_elsewhere(ledger, launch, time.time() + skew_s)

    def beat(seconds: float) -> None:
        with sqlite3.connect(ledger.place) as connection:
            connection.execute("UPDATE launches SET heartbeat = heartbeat + 5")

    monkeypatch.setattr("platform.ledger.process_lease.time.sleep", beat)  # its heart beats while this driver watches
    with pytest.raises(StudyHeld, match="on elsewhere"):
        opened(ledger)


def test_a_stopped_holder_keeps_its_study(ledger: Ledger, holder: "subprocess.Popen[str]") -> None:
    holder.send_signal(signal.SIGSTOP)
    with pytest.raises(StudyHeld, match=f"process {holder.pid}"):
        opened(ledger)


ACTS: dict[str, Callable[[Ledger, int], None]] = {
    "starts": lambda ledger, launch: ledger.start(launch, "a"),
    "finishes": lambda ledger, launch: ledger.finish(launch, "a", {}, [], 1.0),
    "fails": lambda ledger, launch: ledger.fail(launch, "a", "no"),
    "prunes": lambda ledger, launch: ledger.stop(launch, "a", PRUNED, "no", {}, 1.0),
    "reports": lambda ledger, launch: ledger.add_epochs(launch, "a", []),
    "draws": lambda ledger, launch: ledger.add_configuration(launch, Configuration(9, "", {})),
    "beats": lambda ledger, launch: ledger.heartbeat(launch),
    "closes": lambda ledger, launch: ledger.close_launch(launch, "done"),
}


# Nothing fences a driver that was paused (SIGSTOP, a sleeping laptop) for longer than its lease in Tune or Optuna.
@pytest.mark.parametrize("act", ACTS)
def test_a_driver_that_slept_through_its_lease_writes_nothing_over_its_successor(
    ledger: Ledger, launch: int, act: str
) -> None:
    entered(ledger, launch, "a")
    owned_elsewhere(ledger, launch, time.time())
    before = (of(ledger, launch), ledger.launch(launch), ledger.configurations(launch))
    with pytest.raises(StudyLost, match=r"study 'spc' was taken over by process \d+ on elsewhere"):
        ACTS[act](ledger, launch)
    assert (of(ledger, launch), ledger.launch(launch), ledger.configurations(launch)) == before


# The clock is set an hour back, or forth, while a sweep runs.
@pytest.mark.parametrize("jump_s", [-3600.0, 3600.0])
def test_a_clock_that_is_set_anew_changes_no_order(
    ledger: Ledger, launch: int, monkeypatch: pytest.MonkeyPatch, jump_s: float
) -> None:
    entered(ledger, launch, "a", "b")
    ledger.finish(launch, "a", {}, [], 2.0)
    now = time.time()
    monkeypatch.setattr("platform.ledger.launches.time.time", lambda: now + jump_s)
    ledger.heartbeat(launch)
    ledger.finish(launch, "b", {}, [], 3.0)
    first, second = of(ledger, launch, "a"), of(ledger, launch, "b")
    assert (first.sequence, second.sequence) == (1, 2)
    assert (first.seconds, second.seconds) == (2.0, 3.0)


# A disk without room, a file that is not what was written


def test_a_full_disk_is_an_error_that_names_the_file_and_the_next_write_succeeds(ledger: Ledger, launch: int) -> None:
    entered(ledger, launch, "a")
    (pages,) = ledger._connection.execute("PRAGMA page_count").fetchone()
    ledger._connection.execute(f"PRAGMA max_page_count = {pages}")
    epochs = [EpochRecord("spc", n, 999, {"loss": 0.1}) for n in range(999)]
    with pytest.raises(LedgerFull, match=r"ledger\.db cannot be written \(database or disk is full\); make room"):
        ledger.add_epochs(launch, "a", epochs)
    assert ledger.epochs(launch) == []
    ledger._connection.execute("PRAGMA max_page_count = 100000")
    ledger.add_epochs(launch, "a", epochs)
    assert len(ledger.epochs(launch)) == 999


@pytest.mark.parametrize("missing_bytes", [1, 100, 4096, 4096 + 24])
def test_a_torn_log_costs_the_last_row_alone(tmp_path: Path, missing_bytes: int) -> None:
    # Optuna's journal, torn in the same way, cannot be read any more after the next append.
    code = """
import os, signal, sys
from platform.ledger.ledger import Ledger
ledger = Ledger(sys.argv[1])
launch = ledger.open_launch("spc", {"method": "spc"}, {}, lookahead=1).id
for key in "abc":
    ledger.add_trials(launch, [(key, {"kind": "trial", "seed": 0})], configuration=0)
    ledger.finish(launch, key, {}, [], 1.0)
os.kill(os.getpid(), signal.SIGKILL)
"""
    path = tmp_path / "ledger.db"
    assert python(code, path).wait() == -signal.SIGKILL
    log = path.with_name("ledger.db-wal")
    os.truncate(log, log.stat().st_size - missing_bytes)
    ledger = Ledger(path)
    launch = opened(ledger)
    states = {trial.key: trial.state for trial in ledger.trials(launch)}
    assert states == {"a": DONE, "b": DONE, "c": PENDING}
    ledger.finish(launch, "c", {}, [], 1.0)
    assert of(ledger, launch, "c").state == DONE


def no_database(path: Path) -> None:
    path.write_bytes(b"what a careless copy left here" * 100)


def half_a_database(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def a_page_of_zeros(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(bytes(4096))


@pytest.mark.parametrize("damage", [no_database, half_a_database, a_page_of_zeros])
def test_a_damaged_file_is_refused_with_its_path_and_the_way_out(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    # Tune, given a truncated snapshot, starts one empty trial in the place of the experiment, and says nothing.
    path = tmp_path / "ledger.db"
    ledger = Ledger(path)
    launch = opened(ledger)
    entered(ledger, launch, *(str(number) for number in range(200)))
    ledger.close_launch(launch, "done")
    ledger.close()
    damage(path)
    with pytest.raises(LedgerDamaged, match=r"ledger\.db is damaged \(.*\)\. Put back a copy of it, or move it"):
        opened(Ledger(path))


def test_a_read_of_a_damaged_file_is_an_error_that_names_it(tmp_path: Path) -> None:
    # A report only reads; SQLite's own error names no file and no way out.
    path = tmp_path / "ledger.db"
    ledger = Ledger(path)
    launch = opened(ledger)
    entered(ledger, launch, *(str(number) for number in range(200)))
    ledger.close()
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(bytes(path.stat().st_size - 4096))  # all but the page that says which tables there are
    reader = Ledger(path)
    with pytest.raises(LedgerDamaged, match=r"ledger\.db is damaged \(.*\)\. Put back a copy of it, or move it"):
        reader.trials(launch)


# Many writers

WRITES = """
import sys
from platform.ledger.ledger import Ledger
from trainables.runner.messages import EpochRecord
ledger, launch, writer = Ledger(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
print("ready", flush=True)
sys.stdin.readline()
for number in range(30):
    key = f"{writer}-{number}"
    ledger.add_trials(launch, [(key, {"kind": "trial", "seed": number})], configuration=0)
    ledger.start(launch, key)
    ledger.add_epochs(launch, key, [EpochRecord("spc", 1, 1, {})])
    ledger.finish(launch, key, {"acc": 1.0}, [], 1.0)
"""


def test_eight_writers_lose_nothing_and_none_is_locked_out(ledger: Ledger, launch: int) -> None:
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITES, str(ledger.place), str(launch), str(number)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(8)
    ]
    for each in writers:
        assert each.stdout is not None and each.stdout.readline() == "ready\n"
    for each in writers:
        assert each.stdin is not None
        each.stdin.write("go\n")
        each.stdin.flush()
    errors = [each.communicate(timeout=120)[1] for each in writers]
    assert errors == [""] * 8
    trials = ledger.trials(launch)
    assert len(trials) == 8 * 30
    assert {trial.state for trial in trials} == {DONE}
    assert sorted(trial.sequence or 0 for trial in trials) == list(range(1, 241))
    assert len(ledger.epochs(launch)) == 240


LOCKS = """
import sqlite3, sys, time
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN EXCLUSIVE")
print("locked", flush=True)
time.sleep(float(sys.argv[2]))
connection.execute("COMMIT")
"""


def locked(path: Path, seconds: float) -> "subprocess.Popen[str]":
    process = python(LOCKS, path, seconds)
    assert process.stdout is not None and process.stdout.readline() == "locked\n"
    return process


def test_a_writer_waits_for_a_lock_that_is_given_back(ledger: Ledger, launch: int) -> None:
    entered(ledger, launch, "a")
    with locked(ledger.place, 1.0):
        ledger.finish(launch, "a", {}, [], 1.0)
        assert of(ledger, launch).state == DONE


def write(ledger: Ledger) -> None:
    ledger.heartbeat(1)


def open_again(ledger: Ledger) -> None:
    Ledger(ledger.place, patience_s=0.2)


@pytest.mark.parametrize("act", [write, open_again])
def test_a_lock_that_is_kept_is_an_error_that_names_the_file(tmp_path: Path, act: Callable[[Ledger], None]) -> None:
    short = Ledger(tmp_path / "ledger.db", patience_s=0.2)
    opened(short)
    with locked(short.place, 30.0) as other:
        try:
            with pytest.raises(LedgerBusy, match=r"ledger\.db is locked by another process for more than 0\.2 s"):
                act(short)
        finally:
            other.kill()


def test_a_writer_killed_in_the_middle_of_a_transaction_leaves_no_half_row(ledger: Ledger, launch: int) -> None:
    entered(ledger, launch, "a")
    code = """
import os, signal, sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
connection.execute("UPDATE trials SET state = 'DONE'")
os.kill(os.getpid(), signal.SIGKILL)
"""
    with python(code, ledger.place) as process:
        assert process.wait() == -signal.SIGKILL
    assert of(ledger, launch).state == PENDING
    ledger.finish(launch, "a", {}, [], 1.0)
    assert of(ledger, launch).state == DONE


def test_every_commit_reaches_the_disk(ledger: Ledger) -> None:
    # 2 is FULL: a power cut loses no DONE that was told to anybody.
    assert ledger._connection.execute("PRAGMA synchronous").fetchone()[0] == 2
    assert ledger._connection.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
