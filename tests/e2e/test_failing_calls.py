"""A sweep whose remote calls fail at random, by Ray's own fault injection."""

import json
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

from tests.chaos import views
from tests.chaos.study import METRIC, STUDY, faults, page

pytestmark = [pytest.mark.slow, pytest.mark.chaos]

TURN_S, TURNS = 120.0, 6


def test_remote_calls_that_fail_at_random_change_no_result(new_sweep: Callable[..., Any]) -> None:
    """One in twenty fails, before or after it had its effect. Not each of them is one that Ray repeats, so it may wait
    for ever; then the driver is killed, and the same command goes on."""
    calm, sweep = page(new_sweep("calm"), 6), page(new_sweep("failing"), 6)
    assert calm.run().returncode == 0
    odds = {"num_failures": -1, "req_failure_prob": 5, "resp_failure_prob": 5, "in_flight_failure_prob": 0}
    sweep.environment["RAY_testing_rpc_failure"] = json.dumps({"*": odds})
    codes = [turn(sweep) for _ in range(TURNS) if len(sweep.trials()) < 6]
    print(f"driver's codes: {codes}")
    assert len(sweep.trials()) == 6, codes
    del sweep.environment["RAY_testing_rpc_failure"]
    assert sweep.run().returncode == 0, "what a killed driver left unwritten"
    assert faults(sweep, f"sqlite:///{sweep.storage / 'mlflow.db'}", views.of_ledger(calm.storage, STUDY, METRIC)) == []


def turn(sweep: Any) -> int | None:
    """The code of a driver that ended by itself, or None."""
    with sweep.page.with_name("log").open("w") as log:
        driver = sweep.start(output=log)
        try:
            return int(driver.wait(TURN_S))
        except subprocess.TimeoutExpired:
            below = sweep.below(driver)
            driver.kill()
            driver.wait()
            sweep.wait_until_gone(below)
            return None
