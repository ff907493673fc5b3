"""Whole sweeps on real digits: to the end, again, and twice at once."""

import json
from collections.abc import Callable
from typing import Any

import pytest

pytestmark = pytest.mark.slow

TRIALS = 4 * 2
"""Settings and seeds of the page in conftest.py."""

NewSweep = Callable[..., Any]


def test_a_sweep_finishes_every_trial_in_one_attempt(reference: Any) -> None:
    rows = reference.rows().values()
    assert {row.state for row in rows} == {"DONE"}
    assert {row.attempts for row in rows} == {1}
    assert len(reference.trials()) == TRIALS
    assert reference.value("SELECT status FROM launches") == "done"


def test_shared_stages_are_computed_once_a_seed(reference: Any) -> None:
    computed: list[str] = []
    stages = [
        json.loads(text)
        for (text,) in reference.all("SELECT stages FROM trials ORDER BY kind")  # prepare before trial
    ]
    for each in stages:
        computed += [stage["name"] for stage in each if not stage["cached"]]
    counts = {name: computed.count(name) for name in ("simclr", "neighbors", "scan", "spc")}
    assert counts == {"simclr": 2, "neighbors": 2, "scan": 2, "spc": TRIALS}


def test_every_epoch_is_in_the_ledger(reference: Any) -> None:
    found = reference.all("SELECT slot, COUNT(*) FROM epochs GROUP BY slot")
    assert dict(found) == {"pretext": 3 * 2, "scan": 3 * 2, "spc": 3 * TRIALS}


def test_the_same_command_again_runs_nothing_and_starts_no_ray(reference: Any) -> None:
    rows, sessions = reference.rows(), reference.ray_sessions
    assert sessions > 0
    again = reference.run()
    assert again.returncode == 0, again.stderr
    assert reference.rows() == rows
    assert reference.ray_sessions == sessions


def test_the_same_sweep_from_an_empty_storage_gives_the_same_numbers(reference: Any, new_sweep: NewSweep) -> None:
    sweep = new_sweep()
    done = sweep.run()
    assert done.returncode == 0, done.stderr
    assert sweep.metrics() == reference.metrics()


def test_a_second_driver_is_refused_with_the_first_one_s_process(new_sweep: NewSweep) -> None:
    sweep = new_sweep()
    first = sweep.start()
    sweep.wait_until(lambda: bool(sweep.rows()), first)
    second = sweep.run()
    assert second.returncode == 2
    assert f"study 'tiny' is being run by process {first.pid} on" in second.stderr


def test_shared_stages_can_be_computed_by_a_worker_group(new_sweep: NewSweep) -> None:
    sweep = new_sweep()
    done = sweep.run("--set", "resources.prepare.workers=2", "--trials", "1", "--seeds", "0")
    assert done.returncode == 0, done.stderr
    rows = sweep.rows().values()
    assert [(row.kind, row.state, row.attempts) for row in rows] == [("prepare", "DONE", 1), ("trial", "DONE", 1)]
    assert dict(sweep.all("SELECT slot, COUNT(*) FROM epochs GROUP BY slot")) == {"pretext": 3, "scan": 3, "spc": 3}


def test_a_trial_that_diverges_fails_alone_with_its_reason(new_sweep: NewSweep) -> None:
    sweep = new_sweep()
    sweep.page.write_text(sweep.page.read_text().partition("search:")[0] + ABLATION)
    done = sweep.run("--seeds", "0")
    assert done.returncode == 1, done.stderr
    states = {row.setting: row for row in sweep.rows().values() if row.kind == "trial"}
    assert (states[0].state, states[1].state) == ("DONE", "FAILED")
    assert states[1].error.startswith("Diverged: spc: the model's predictions are not finite numbers in epoch ")
    assert states[1].attempts == 1


ABLATION = """\
ablate:
  base: {spc.strong_threshold: 0.2}
  wild: {spc.strong_threshold: 0.2, spc.optimizer.lr: 1.0e+30}
"""
