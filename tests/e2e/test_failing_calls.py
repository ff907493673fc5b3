"""A sweep whose remote calls fail at random, by Ray's own fault injection."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.chaos import views
from tests.chaos.study import METRIC, STUDY, faults, page

pytestmark = [pytest.mark.slow, pytest.mark.chaos]

LIMIT_S = 600.0


def test_remote_calls_that_fail_at_random_change_no_result(new_sweep: Callable[..., Any]) -> None:
    """One in twenty fails, before or after it had its effect."""
    calm, sweep = page(new_sweep("calm"), 6), page(new_sweep("failing"), 6)
    assert calm.run().returncode == 0
    odds = {"num_failures": -1, "req_failure_prob": 5, "resp_failure_prob": 5, "in_flight_failure_prob": 0}
    sweep.environment["RAY_testing_rpc_failure"] = json.dumps({"*": odds})
    done = sweep.run_for(LIMIT_S)
    assert done.returncode == 0, done.stderr
    assert faults(sweep, f"sqlite:///{sweep.storage / 'mlflow.db'}", views.of_ledger(calm.storage, STUDY, METRIC)) == []
