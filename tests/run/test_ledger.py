"""The one file that is believed: states, owners, and writers that do not lose each other's rows.

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
from platform.run import owner
from platform.run.ledger import Ledger, StudyChanged, StudyHeld, StudyLost
from platform.run.ledger_file import LedgerBusy, LedgerDamaged, LedgerFull
from platform.run.rows import DONE, FAILED, PENDING, PRUNED, RUNNING, Setting, Trial
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
MEANING = {"method": "spc"}


def cell(seed: int = 0) -> dict[str, Any]:
    return {"kind": "trial", "seed": seed}


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "ledger.db")


@pytest.fixture
def launch(ledger: Ledger) -> int:
    return opened(ledger)


def opened(ledger: Ledger, study: str = "spc", *, fresh: bool = False, meaning: Any = MEANING) -> int:
    return ledger.open_launch(study, meaning, {"name": study}, lookahead=2, fresh=fresh).id


def entered(ledger: Ledger, launch: int, *keys: str) -> None:
    ledger.add_trials(launch, [(key, cell(seed)) for seed, key in enumerate(keys)], setting=0)


def of(ledger: Ledger, launch: int, key: str = "a") -> Trial:
    trial = ledger.trial(launch, key)
    assert trial is not None
    return trial


# States


def test_a_trial_enters_as_pending(ledger: Ledger, launch: int) -> None:
    entered(ledger, launch, "a")
    trial = of(ledger, launch)
    assert (trial.state, trial.attempts, trial.kind, trial.setting, trial.cell) == (PENDING, 0, "trial", 0, cell())


def test_starting_counts_attempts_and_keeps_the_first_time(ledger: Ledger, launch: int) -> None:
    entered(ledger, launch, "a")
    ledger.start(launch, "a")
    first = of(ledger, launch)
    ledger.start(launch, "a")
    second = of(ledger, launch)
    assert (first.state, first.attempts, second.attempts) == (RUNNING, 1, 2)
    assert first.started == second.started


def test_what_is_new_is_what_has_not_ended_and_what_ended_since(ledger: Ledger, launch: int) -> None:
    entered(ledger, launch, "a", "b", "c", "d")
    for key in ("c", "a"):
        ledger.finish(launch, key, {}, [], 1.0)
    ledger.start(launch, "b")
    of_c = of(ledger, launch, "c").sequence
    assert of_c is not None
    assert [trial.key for trial in ledger.trials_since(launch, 0)] == ["c", "a", "b", "d"]
    assert [trial.key for trial in ledger.trials_since(launch, of_c)] == ["a", "b", "d"]


def test_a_failed_trial_that_waits_to_be_run_again_is_new_whenever_it_ended(ledger: Ledger, launch: int) -> None:
    entered(ledger, launch, "a", "b")
    ledger.fail(launch, "a", "OSError")
    ledger.finish(launch, "b", {}, [], 1.0)
    opened(ledger)  # the same command again
    last = of(ledger, launch, "b").sequence
    assert last is not None
    assert [trial.key for trial in ledger.trials_since(launch, last)] == ["a"]


def test_no_write_and_no_look_for_what_is_new_goes_through_all_trials(ledger: Ledger, launch: int) -> None:
    entered(ledger, launch, "a")
    asked: list[str] = []
    connection = sqlite3.connect(ledger.path)
    ledger._connection.set_trace_callback(asked.append)  # noqa: SLF001 - what it asks of SQLite is the point
    ledger.start(launch, "a")
    ledger.finish(launch, "a", {}, [], 1.0)
    ledger.trials_since(launch, 0)
    ledger.trial(launch, "a")
    of_trials = [text for text in asked if "trials" in text]
    steps = [row[3] for text in of_trials for row in connection.execute(f"EXPLAIN QUERY PLAN {text}")]
    assert len(of_trials) >= 4
    assert [step for step in steps if step.startswith("SCAN")] == []


def test_a_finished_trial_has_all_that_came_of_it(ledger: Ledger, launch: int) -> None:
    entered(ledger, launch, "a")
    ledger.start(launch, "a")
    ledger.finish(launch, "a", {"acc": 0.5}, [{"slot": "spc"}], 2.5)
    trial = of(ledger, launch)
    assert (trial.state, trial.metrics, trial.stages, trial.seconds) == (DONE, {"acc": 0.5}, [{"slot": "spc"}], 2.5)
    assert trial.ended is not None and trial.sequence == 1


def test_a_failed_trial_has_its_reason(ledger: Ledger, launch: int) -> None:
    entered(ledger, launch, "a")
    ledger.fail(launch, "a", "Diverged: loss is nan")
    trial = of(ledger, launch)
    assert (trial.state, trial.error) == (FAILED, "Diverged: loss is nan")


def finish_again(ledger: Ledger, launch: int) -> None:
    ledger.finish(launch, "a", {"acc": 0.9}, [], 9.0)


def fail_afterwards(ledger: Ledger, launch: int) -> None:
    ledger.fail(launch, "a", "too late")


def start_again(ledger: Ledger, launch: int) -> None:
    ledger.start(launch, "a")


def enter_again(ledger: Ledger, launch: int) -> None:
    entered(ledger, launch, "a")


def reopen(ledger: Ledger, launch: int) -> None:
    opened(ledger)


@pytest.mark.parametrize("act", [finish_again, fail_afterwards, start_again, enter_again, reopen])
def test_done_never_changes(ledger: Ledger, launch: int, act: Callable[[Ledger, int], None]) -> None:
    entered(ledger, launch, "a")
    ledger.start(launch, "a")
    ledger.finish(launch, "a", {"acc": 0.5}, [], 2.5)
    before = of(ledger, launch)
    act(ledger, launch)
    assert of(ledger, launch) == before


def test_a_failed_trial_that_runs_after_all_is_done(ledger: Ledger, launch: int) -> None:
    entered(ledger, launch, "a")
    ledger.fail(launch, "a", "lost")
    ledger.finish(launch, "a", {"acc": 0.5}, [], 1.0)
    assert (of(ledger, launch).state, of(ledger, launch).error) == (DONE, "")


def test_a_password_in_an_error_is_not_kept(ledger: Ledger, launch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "opensesame")
    entered(ledger, launch, "a", "b")
    ledger.fail(launch, "a", "OSError: s3://me:hunter2@host/runs cannot be written with opensesame")
    ledger.stop(launch, "b", PRUNED, "postgresql://me:hunter2@host/db is away", {}, 1.0)
    errors = [trial.error for trial in ledger.trials(launch)]
    assert errors == [
        "OSError: s3://me:***@host/runs cannot be written with ***",
        "postgresql://me:***@host/db is away",
    ]
    ledger.close()
    kept = b"".join(path.read_bytes() for path in ledger.path.parent.iterdir())
    assert b"hunter2" not in kept and b"opensesame" not in kept


def test_trials_are_numbered_in_the_order_in_which_they_end(ledger: Ledger, launch: int) -> None:
    entered(ledger, launch, "a", "b", "c")
    ledger.finish(launch, "c", {}, [], 1.0)
    ledger.fail(launch, "a", "no")
    ledger.finish(launch, "b", {}, [], 1.0)
    assert [of(ledger, launch, key).sequence for key in ("c", "a", "b")] == [1, 2, 3]


def test_a_metric_that_is_no_number_is_refused_and_nothing_is_written(ledger: Ledger, launch: int) -> None:
    entered(ledger, launch, "a")
    with pytest.raises(ValueError, match="JSON compliant"):
        ledger.finish(launch, "a", {"acc": float("nan")}, [], 1.0)
    assert of(ledger, launch).state == PENDING


def test_running_and_failed_trials_are_pending_for_the_next_driver(ledger: Ledger, launch: int) -> None:
    entered(ledger, launch, "a", "b", "c")
    ledger.start(launch, "a")
    ledger.fail(launch, "b", "no")
    ledger.finish(launch, "c", {}, [], 1.0)
    opened(ledger)
    assert [of(ledger, launch, key).state for key in ("a", "b", "c")] == [PENDING, PENDING, DONE]
    assert of(ledger, launch, "b").error == ""
    assert of(ledger, launch, "a").attempts == 1


def test_prepare_cells_come_first_then_settings_and_seeds(ledger: Ledger, launch: int) -> None:
    ledger.add_trials(launch, [("d", cell(1)), ("c", cell(0))], setting=1)
    ledger.add_trials(launch, [("b", cell(0))], setting=0)
    ledger.add_trials(launch, [("p", {"kind": "prepare", "seed": 0})])
    assert [trial.key for trial in ledger.trials(launch)] == ["p", "b", "c", "d"]
    assert [trial.key for trial in ledger.trials(launch, "prepare")] == ["p"]


def test_settings_come_back_in_their_order(ledger: Ledger, launch: int) -> None:
    for number in (1, 0):
        ledger.add_setting(launch, Setting(number, f"row {number}", {"spc.lr": number / 10}))
    assert ledger.settings(launch) == [Setting(0, "row 0", {"spc.lr": 0.0}), Setting(1, "row 1", {"spc.lr": 0.1})]


# Epochs and exports


def epoch(number: int, loss: float = 0.5) -> dict[str, Any]:
    return {"slot": "spc", "epoch": number, "total": 3, "metrics": {"loss": loss}}


def test_an_epoch_repeated_after_a_crash_keeps_its_first_row(ledger: Ledger, launch: int) -> None:
    ledger.add_epochs(launch, "a", [epoch(1, 0.5), epoch(2, 0.4)])
    ledger.add_epochs(launch, "a", [epoch(2, 9.0), epoch(3, 0.3)])
    assert [(row.epoch, row.metrics["loss"]) for row in ledger.epochs(launch, "a")] == [(1, 0.5), (2, 0.4), (3, 0.3)]


def test_epochs_after_an_id_are_the_new_ones(ledger: Ledger, launch: int) -> None:
    ledger.add_epochs(launch, "a", [epoch(1)])
    ledger.add_epochs(launch, "b", [epoch(1)])
    (first, second) = ledger.epochs(launch)
    assert ledger.epochs(launch, after_id=first.id) == [second]
    assert ledger.epochs(launch, "a", after_id=first.id) == []


def test_what_was_exported_is_known_after_a_restart(ledger: Ledger, launch: int, tmp_path: Path) -> None:
    assert ledger.export("mlflow", launch, "a") == ("", 0, False)
    ledger.note_export("mlflow", launch, "a", "run", 3)
    ledger.note_export("mlflow", launch, "a", "run", 7, finished=True)
    assert Ledger(tmp_path / "ledger.db").export("mlflow", launch, "a") == ("run", 7, True)


# Launches and owners


def test_the_same_study_goes_on_in_its_launch(ledger: Ledger, launch: int) -> None:
    assert opened(ledger) == launch
    assert [each.number for each in ledger.launches("spc")] == [1]


def test_fresh_begins_another_launch_and_keeps_the_first(ledger: Ledger, launch: int) -> None:
    entered(ledger, launch, "a")
    ledger.finish(launch, "a", {}, [], 1.0)
    second = opened(ledger, fresh=True)
    assert [each.id for each in ledger.launches("spc")] == [launch, second]
    assert (ledger.trials(second), of(ledger, launch).state) == ([], DONE)


def test_lookahead_belongs_to_the_launch(ledger: Ledger, launch: int) -> None:
    # Another number of slots must not change which settings come out.
    again = ledger.open_launch("spc", MEANING, {}, lookahead=9)
    assert again.lookahead == 2


def test_a_changed_study_is_refused_with_both_meanings(ledger: Ledger, launch: int) -> None:
    with pytest.raises(StudyChanged, match="study 'spc' is in the ledger with another meaning") as caught:
        opened(ledger, meaning={"method": "scan"})
    assert (caught.value.known, caught.value.given) == (MEANING, {"method": "scan"})


def test_a_changed_study_may_begin_afresh(ledger: Ledger, launch: int) -> None:
    opened(ledger, fresh=True, meaning={"method": "scan"})
    with pytest.raises(StudyChanged):
        opened(ledger)


def test_tuples_and_lists_mean_the_same(ledger: Ledger) -> None:
    # What was written comes back from JSON with lists.
    first = opened(ledger, meaning={"seeds": (0, 1)})
    assert opened(ledger, meaning={"seeds": (0, 1)}) == first


def test_a_closed_launch_says_how_it_ended(ledger: Ledger, launch: int) -> None:
    ledger.close_launch(launch, "failed")
    closed = ledger.launch(launch)
    assert closed.status == "failed" and closed.ended is not None


def test_a_launch_that_is_not_there_is_named(ledger: Ledger) -> None:
    with pytest.raises(KeyError, match="no launch 7 in .*ledger.db"):
        ledger.launch(7)


HOLDS = """
import sys, time
from platform.run.ledger import Ledger
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
    process = python(HOLDS, ledger.path)
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


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
    owner = {"host": socket.gethostname(), "pid": os.getppid(), "born": "1"}
    with sqlite3.connect(ledger.path) as connection:
        connection.execute("UPDATE launches SET owner = ?", (json.dumps(owner),))
    assert opened(ledger) > 0


def owned_elsewhere(ledger: Ledger, launch: int, heartbeat: float) -> None:
    owner = {"host": "elsewhere", "pid": os.getpid(), "born": "1"}
    with sqlite3.connect(ledger.path) as connection:
        connection.execute("UPDATE launches SET owner = ?, heartbeat = ?", (json.dumps(owner), heartbeat))


def test_a_holder_on_another_host_counts_while_its_heart_beats(ledger: Ledger, launch: int) -> None:
    owned_elsewhere(ledger, launch, time.time())
    with pytest.raises(StudyHeld, match="on elsewhere"):
        opened(ledger)


@pytest.fixture
def short_lease(monkeypatch: pytest.MonkeyPatch) -> float:
    monkeypatch.setattr(owner, "LEASE_S", 0.4)
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
        with sqlite3.connect(ledger.path) as connection:
            connection.execute("UPDATE launches SET heartbeat = heartbeat + 5")

    monkeypatch.setattr("platform.run.owner.time.sleep", beat)  # its heart beats while this driver watches
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
    "draws": lambda ledger, launch: ledger.add_setting(launch, Setting(9, "", {})),
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
    before = (of(ledger, launch), ledger.launch(launch), ledger.settings(launch))
    with pytest.raises(StudyLost, match=r"study 'spc' was taken over by process \d+ on elsewhere"):
        ACTS[act](ledger, launch)
    assert (of(ledger, launch), ledger.launch(launch), ledger.settings(launch)) == before


# The clock is set an hour back, or forth, while a sweep runs.
@pytest.mark.parametrize("jump_s", [-3600.0, 3600.0])
def test_a_clock_that_is_set_anew_changes_no_order(
    ledger: Ledger, launch: int, monkeypatch: pytest.MonkeyPatch, jump_s: float
) -> None:
    entered(ledger, launch, "a", "b")
    ledger.finish(launch, "a", {}, [], 2.0)
    now = time.time()
    monkeypatch.setattr("platform.run.ledger.time.time", lambda: now + jump_s)
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
    epochs = [{"slot": "spc", "epoch": n, "total": 999, "metrics": {"loss": 0.1}} for n in range(999)]
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
from platform.run.ledger import Ledger
ledger = Ledger(sys.argv[1])
launch = ledger.open_launch("spc", {"method": "spc"}, {}, lookahead=1).id
for key in "abc":
    ledger.add_trials(launch, [(key, {"kind": "trial", "seed": 0})], setting=0)
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


# Many writers

WRITES = """
import sys
from platform.run.ledger import Ledger
ledger, launch, writer = Ledger(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
print("ready", flush=True)
sys.stdin.readline()
for number in range(30):
    key = f"{writer}-{number}"
    ledger.add_trials(launch, [(key, {"kind": "trial", "seed": number})], setting=0)
    ledger.start(launch, key)
    ledger.add_epochs(launch, key, [{"slot": "spc", "epoch": 1, "total": 1, "metrics": {}}])
    ledger.finish(launch, key, {"acc": 1.0}, [], 1.0)
"""


def test_eight_writers_lose_nothing_and_none_is_locked_out(ledger: Ledger, launch: int) -> None:
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITES, str(ledger.path), str(launch), str(number)],
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
    other = locked(ledger.path, 1.0)
    ledger.finish(launch, "a", {}, [], 1.0)
    assert of(ledger, launch).state == DONE
    other.wait()


def write(ledger: Ledger) -> None:
    ledger.heartbeat(1)


def open_again(ledger: Ledger) -> None:
    Ledger(ledger.path, patience_s=0.2)


@pytest.mark.parametrize("act", [write, open_again])
def test_a_lock_that_is_kept_is_an_error_that_names_the_file(tmp_path: Path, act: Callable[[Ledger], None]) -> None:
    short = Ledger(tmp_path / "ledger.db", patience_s=0.2)
    opened(short)
    other = locked(short.path, 30.0)
    try:
        with pytest.raises(LedgerBusy, match=r"ledger\.db is locked by another process for more than 0\.2 s"):
            act(short)
    finally:
        other.kill()
        other.wait()


def test_a_writer_killed_in_the_middle_of_a_transaction_leaves_no_half_row(ledger: Ledger, launch: int) -> None:
    entered(ledger, launch, "a")
    code = """
import os, signal, sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
connection.execute("UPDATE trials SET state = 'DONE'")
os.kill(os.getpid(), signal.SIGKILL)
"""
    process = python(code, ledger.path)
    assert process.wait() == -signal.SIGKILL
    assert of(ledger, launch).state == PENDING
    ledger.finish(launch, "a", {}, [], 1.0)
    assert of(ledger, launch).state == DONE


def test_every_commit_reaches_the_disk(ledger: Ledger) -> None:
    # 2 is FULL: a power cut loses no DONE that was told to anybody.
    assert ledger._connection.execute("PRAGMA synchronous").fetchone()[0] == 2
    assert ledger._connection.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
