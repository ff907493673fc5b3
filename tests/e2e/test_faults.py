"""Sweeps that are killed, stopped or robbed of a worker: nothing that was done is done again, and the numbers hold."""

import os
import signal
from collections.abc import Callable
from typing import Any

import pytest

pytestmark = pytest.mark.slow

NewSweep = Callable[..., Any]


@pytest.mark.parametrize("finished", [1, 5])
def test_a_killed_driver_goes_on_without_repeating_a_finished_trial(
    reference: Any, new_sweep: NewSweep, finished: int
) -> None:
    sweep = new_sweep()
    driver = sweep.start()
    sweep.wait_until(lambda: len(sweep.trials()) >= finished, driver)
    below = sweep.below(driver)
    os.kill(driver.pid, signal.SIGKILL)
    driver.wait()
    assert sweep.wait_until_gone(below) == {}
    kept = sweep.trials()
    again = sweep.run()
    assert again.returncode == 0, again.stderr
    after = sweep.rows()
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


def test_a_killed_worker_costs_no_trial(reference: Any, new_sweep: NewSweep) -> None:
    sweep = new_sweep()
    driver = sweep.start()
    sweep.wait_until(lambda: bool(sweep.trials("RUNNING")), driver)
    workers = [pid for pid, command in sweep.below(driver).items() if command.startswith("ray::ImplicitFunc")]
    assert workers
    os.kill(workers[0], signal.SIGKILL)
    _, error = driver.communicate(timeout=240)
    assert driver.returncode == 0, error
    assert sweep.metrics() == reference.metrics()
