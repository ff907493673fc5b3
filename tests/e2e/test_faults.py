"""Sweeps that are killed, stopped or robbed of a worker: nothing that was done is done again, and the numbers hold."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest

from tests.chaos import history

pytestmark = pytest.mark.slow

NewSweep = Callable[..., Any]


def assert_nothing_was_repeated(sweep: Any) -> None:
    events = history.read(sweep.diary)
    done = [key for key, row in sweep.rows().items() if row.state == "DONE"]
    assert [each for each in events if each.event == history.DONE]
    assert history.lost(events, done) + history.repeated(events) == []


@contextmanager
def whenever_one_starts(sweep: Any, act: Callable[[int, str], None]) -> Iterator[None]:
    """Call ``act(pid, key)`` whenever a worker notes that it begins a trial."""
    stop = threading.Event()

    def watch() -> None:
        seen = 0
        while not stop.wait(0.02):
            for each in history.read(sweep.diary)[seen:]:
                seen = each.sequence
                if each.event == history.START:
                    with suppress(ProcessLookupError):
                        act(each.pid, each.key)

    watching = threading.Thread(target=watch, daemon=True)
    watching.start()
    yield
    stop.set()
    watching.join()


@pytest.mark.parametrize(
    "finished", [pytest.param(0, marks=pytest.mark.chaos), 1, 5, pytest.param(7, marks=pytest.mark.chaos)]
)
def test_a_killed_driver_goes_on_without_repeating_a_finished_trial(
    reference: Any, new_sweep: NewSweep, finished: int
) -> None:
    """Tune, restored, runs all of them again that its last snapshot had not seen: 22 of 22."""
    sweep = new_sweep()
    driver = sweep.start()
    sweep.wait_until(lambda: len(sweep.trials()) >= finished and bool(sweep.rows()), driver)
    below = sweep.below(driver)
    os.kill(driver.pid, signal.SIGKILL)
    driver.wait()
    assert sweep.wait_until_gone(below) == {}
    kept = sweep.trials()
    again = sweep.run()
    assert again.returncode == 0, again.stderr
    after = sweep.rows()
    assert_nothing_was_repeated(sweep)
    # Attempts, times and order of what was done are untouched.
    assert {key: after[key] for key in kept} == kept
    assert sweep.metrics() == reference.metrics()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_driver_says_how_to_go_on_and_leaves_no_process(
    new_sweep: NewSweep, number: signal.Signals, code: int
) -> None:
    sweep = new_sweep()
    driver = sweep.start()
    sweep.wait_until(lambda: bool(sweep.trials()), driver)
    below = sweep.below(driver)
    driver.send_signal(number)
    _, error = driver.communicate(timeout=120)
    assert driver.returncode == code, error
    assert f"python -m platform.sweep {sweep.page} --storage {sweep.storage}" in error
    assert sweep.wait_until_gone(below) == {}
    assert sweep.value("SELECT status FROM launches") == "interrupted"
    assert sweep.value("SELECT owner FROM launches") is None


@pytest.mark.chaos
def test_a_second_signal_ends_a_driver_at_once_and_costs_nothing_finished(reference: Any, new_sweep: NewSweep) -> None:
    """Tune, asked twice, skips its save: what finished since the last one runs again."""
    sweep = new_sweep()
    driver = sweep.start()
    sweep.wait_until(lambda: len(sweep.trials()) >= 2, driver)
    below = sweep.below(driver)
    driver.send_signal(signal.SIGINT)
    time.sleep(0.3)  # the second one comes while the first is being obeyed
    driver.send_signal(signal.SIGINT)
    driver.communicate(timeout=120)
    assert driver.returncode in (-signal.SIGINT, 130)
    assert sweep.wait_until_gone(below) == {}
    again = sweep.run()
    assert again.returncode == 0, again.stderr
    assert sweep.metrics() == reference.metrics()
    assert_nothing_was_repeated(sweep)


@pytest.mark.chaos
def test_a_trial_whose_process_dies_every_time_fails_alone(reference: Any, new_sweep: NewSweep) -> None:
    sweep, victims = new_sweep(), list[str]()

    def kill_the_first(pid: int, key: str) -> None:
        row = sweep.rows().get(key)
        if row is not None and row.kind == "trial" and key in (victims or [key]):
            victims[:] = [key]
            os.kill(pid, signal.SIGKILL)

    with whenever_one_starts(sweep, kill_the_first):
        done = sweep.run("--set", "retries=1")
    assert done.returncode == 1, done.stderr
    (failed,) = sweep.trials("FAILED").items()
    assert failed[0] == victims[0]
    assert failed[1].attempts == 2
    assert failed[1].error.startswith("process lost: ")
    found, undisturbed = sweep.metrics(), reference.metrics()
    assert len(found) == 7
    # Settings drawn later may be others: they are drawn from one value less.
    shared = found.keys() & undisturbed.keys()
    assert len(shared) >= 3
    assert {key: found[key] for key in shared} == {key: undisturbed[key] for key in shared}


@pytest.mark.chaos
def test_a_trial_that_hangs_is_ended_by_its_time_limit(new_sweep: NewSweep) -> None:
    """Tune waits for it for ever, and its slot is gone."""
    sweep, victims = new_sweep(), list[int]()

    def freeze_the_first(pid: int, key: str) -> None:
        if not victims and sweep.rows()[key].kind == "trial":
            victims.append(pid)
            os.kill(pid, signal.SIGSTOP)

    with whenever_one_starts(sweep, freeze_the_first):
        done = sweep.run("--set", "time_limit=30")
    assert done.returncode == 1, done.stderr
    (failed,) = sweep.trials("FAILED").values()
    assert failed.error.startswith("TimeLimit: ")
    assert failed.error.endswith("s spent of 30 s, and no epoch came to an end")
    assert failed.attempts == 1
    assert len(sweep.trials()) >= 6  # all others
    assert sweep.wait_until_gone({victims[0]: "the frozen worker"}) == {}


def test_a_killed_worker_costs_no_trial(reference: Any, new_sweep: NewSweep) -> None:
    sweep = new_sweep()
    driver = sweep.start()
    began: list[history.Event] = []

    def has_begun() -> bool:
        begun = (each for each in history.read(sweep.diary) if each.event == history.START)
        began[:] = [each for each in begun if sweep.rows()[each.key].kind == "trial"]
        return bool(began)

    sweep.wait_until(has_begun, driver)
    os.kill(began[0].pid, signal.SIGKILL)
    _, error = driver.communicate(timeout=240)
    assert driver.returncode == 0, error
    assert sweep.metrics() == reference.metrics()
    attempts = {key: row.attempts for key, row in sweep.trials().items()}
    assert attempts == {**dict.fromkeys(attempts, 1), began[0].key: 2}
    assert_nothing_was_repeated(sweep)
