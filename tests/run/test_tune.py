"""Where Tune and the ledger differ: trials that hang, trials that have ended before their process died."""

from collections.abc import Callable, Iterator
from pathlib import Path
from platform.ledger.rows import DONE, FAILED, PENDING, RUNNING
from platform.ledger.schema import LedgerFull
from platform.run.launch_state import LaunchState
from platform.run.trial_queue import TrialQueue
from platform.run.tune import TuneBridge, _ledger_error, report_every_s, run_trials
from platform.study.study import Study
from types import SimpleNamespace
from typing import Any

import pytest
import ray
from ray import tune

from trainables.runner.messages import DeviceBroken, Done, EpochRecord, Report

MakeStudy = Callable[[str], Study]
MakeQueue = Callable[..., TrialQueue]
ROOT = Path(__file__).resolve().parents[2]

PAGE = """\
    method: spc
    search: {spc.strong_threshold: {uniform: [0.5, 0.99]}}
    sampler: random
    trials: 3
    time_limit: 60
    """


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr("platform.run.tune.time", made)
    return made


@pytest.fixture
def killed(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    found: list[Any] = []
    monkeypatch.setattr("platform.run.tune_internals.ray.kill", found.append)
    return found


@pytest.fixture
def state(make_study: MakeStudy, make_queue: MakeQueue) -> LaunchState:
    """A launch whose shared stages are there, with one trial running."""
    trial_queue = make_queue(make_study(PAGE))
    for key, _ in trial_queue.prepare_trials:
        trial_queue.on_done(key, Done({}, [], 1.0))
    return LaunchState(trial_queue.launch, trial_queue, 1)


def tune_trial(trial_id: str = "t", **attributes: Any) -> Any:
    """What of Tune's trial is looked at."""
    temporary_state = SimpleNamespace(ray_actor="actor")
    known = {"trial_id": trial_id, "status": "RUNNING", "temporary_state": temporary_state}
    return SimpleNamespace(**known | attributes)


def started(state: LaunchState) -> tuple[str, Any, TuneBridge]:
    """A trial that Tune has started: its key, Tune's trial, and the bridge."""
    bridge, trial = TuneBridge(state), tune_trial()
    bridge.searcher.suggest(trial.trial_id)
    bridge.callback.on_trial_start(0, [], trial)
    (key,) = state.trial_queue.running
    return key, trial, bridge


def report(bridge: TuneBridge, trial: Any, sent: Report) -> Any:
    """A report, as Tune hands it on; the scheduler's decision."""
    return bridge.scheduler.on_trial_result(None, trial, {"report": sent, "training_iteration": 1})


def test_a_trial_that_hangs_fails_by_its_time_limit_and_loses_its_process(
    state: LaunchState, clock: Clock, killed: list[Any]
) -> None:
    # Tune has no limit of its own for a trial that reports nothing: its slot is gone for good.
    key, trial, bridge = started(state)
    clock.now += 1000  # starting a process does not count
    bridge.callback.on_step_end(0, [])
    assert killed == []
    report(bridge, trial, Report())
    clock.now += 64
    bridge.callback.on_step_end(0, [])
    assert (killed, state.trial_queue.trial(key).state) == ([], RUNNING)
    clock.now += 2
    bridge.callback.on_step_end(0, [])
    assert killed == ["actor"]
    found = state.trial_queue.trial(key)
    assert (found.state, found.error) == (FAILED, "TimeLimit: 66 s spent of 60 s, and no epoch came to an end")
    bridge.callback.on_step_end(0, [])
    assert killed == ["actor"]


def test_an_attempt_that_is_started_again_has_its_whole_time(
    state: LaunchState, clock: Clock, killed: list[Any]
) -> None:
    _, trial, bridge = started(state)
    report(bridge, trial, Report())
    clock.now += 50
    bridge.callback.on_trial_start(0, [], trial)
    report(bridge, trial, Report())
    clock.now += 50
    bridge.callback.on_step_end(0, [])
    assert killed == []


def test_a_trial_that_waits_for_a_new_process_is_not_over_its_time(
    state: LaunchState, clock: Clock, killed: list[Any]
) -> None:
    key, trial, bridge = started(state)
    report(bridge, trial, Report())
    trial.status = PENDING
    clock.now += 1000
    bridge.callback.on_step_end(0, [])
    assert (killed, state.trial_queue.trial(key).state) == ([], RUNNING)


def test_stages_that_trials_share_have_no_time_limit(
    make_study: MakeStudy, make_queue: MakeQueue, clock: Clock, killed: list[Any]
) -> None:
    trial_queue = make_queue(make_study(PAGE))
    key, trial, bridge = started(LaunchState(trial_queue.launch, trial_queue, 1))
    assert trial_queue.trial(key).kind == "prepare"
    report(bridge, trial, Report())
    clock.now += 1000
    bridge.callback.on_step_end(0, [])
    assert (killed, trial_queue.trial(key).state) == ([], RUNNING)


@pytest.mark.parametrize("end", [DONE, FAILED, RUNNING])
def test_a_process_that_dies_after_its_trial_ended_does_not_run_it_again(state: LaunchState, end: str) -> None:
    # Tune retries whatever was running in a process that died, finished or not.
    key, trial, bridge = started(state)
    if end == DONE:
        state.trial_queue.on_done(key, Done({}, [], 1.0))
    elif end == FAILED:
        state.trial_queue.on_failed(key, "no")
    stopped: list[Any] = []
    controller = SimpleNamespace(get_trials=lambda: [], stop_trial=stopped.append)
    bridge.scheduler.on_trial_error(controller, trial)
    trial.status = PENDING
    bridge.scheduler.choose_trial_to_run(controller)
    assert stopped == ([] if end == RUNNING else [trial])


def test_a_trial_whose_warm_process_dies_before_it_begins_is_tried_again(state: LaunchState) -> None:
    # Tune tries only those again that were running, and has no reason to give.
    bridge, keys = TuneBridge(state), set[str]()
    for attempt in range(state.trial_queue.study.retries + 1):
        trial = tune_trial(f"t{attempt}", status="ERROR", get_error=lambda: None, num_failures=1)
        bridge.searcher.suggest(trial.trial_id)
        keys |= state.trial_queue.running
        assert {state.trial_queue.trial(key).state for key in keys} == {PENDING}
        bridge.callback.on_trial_error(0, [], trial)
    (key,) = keys  # it was the next to start each time
    assert state.trial_queue.trial(key).state == FAILED
    assert state.trial_queue.trial(key).error == "process lost: no reason given"
    assert state.trial_queue.trial(key).attempts == 0


def test_a_trial_that_was_started_as_often_as_it_may_be_fails_with_its_process(state: LaunchState) -> None:
    key, trial, bridge = started(state)
    trial.get_error, trial.num_failures = lambda: "Ray: the actor died", state.trial_queue.study.retries + 1
    bridge.callback.on_trial_error(0, [], trial)
    assert (state.trial_queue.trial(key).state, state.trial_queue.trial(key).error) == (
        FAILED,
        "process lost: Ray: the actor died",
    )


# A GPU that has failed

ECC = "CUDA error: uncorrectable ECC error encountered"
ON_GPUS = """\
    method: spc
    search: {spc.strong_threshold: {uniform: [0.5, 0.99]}}
    sampler: random
    trials: 5
    resources: {trial: {cpu: 1, gpu: 1}}
    """


def on_gpus(make_study: MakeStudy, make_queue: MakeQueue, slots: int) -> LaunchState:
    trial_queue = make_queue(make_study(ON_GPUS))
    for key, _ in trial_queue.prepare_trials:
        trial_queue.on_done(key, Done({}, [], 1.0))
    return LaunchState(trial_queue.launch, trial_queue, slots)


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[[str], None]]:
    """failing(gpus): a cluster of two GPUs whose trials do nothing, and on ``gpus`` meet their end. The file ``began``
    has the GPUs on which trials began. Ray hands out what it is told there is; none is needed for that."""
    began = tmp_path / "began"
    began.touch()

    def begin(bad: str) -> None:
        def trial(config):  # type: ignore[no-untyped-def]  # in a worker, names of annotations are not known
            import json
            import os

            import torch

            from trainables.runner import tune_entry
            from trainables.runner.messages import Done

            gpu = os.environ["CUDA_VISIBLE_DEVICES"]

            class PipelineRunner:
                def walk(self, trial_spec, on_epoch):  # type: ignore[no-untyped-def]
                    with began.open("a") as file:
                        file.write(gpu)
                    if gpu in bad:
                        raise RuntimeError("CUDA error: uncorrectable ECC error encountered")
                    return Done({"spc/selection_loss": 1.0}, [], 0.0)

            tune_entry.given_device = lambda: torch.device("cpu")
            tune_entry.runner_of = lambda storage, threads: PipelineRunner()  # type: ignore[assignment,return-value]
            trial_spec = json.loads(config[tune_entry.TRIAL_SPEC])
            tune_entry.run_and_report(trial_spec, tune_entry.Reporter(tune_entry.send_to_tune))

        monkeypatch.setattr("platform.run.tune.tune_entry.run_trial", trial)
        ray.init(num_cpus=2, num_gpus=2, include_dashboard=False, log_to_driver=False)

    yield begin
    ray.shutdown()


@pytest.mark.slow
@pytest.mark.parametrize("bad", ["", "0", "1"])
def test_a_gpu_that_has_failed_gets_no_other_trial(
    make_study: MakeStudy, make_queue: MakeQueue, failing: Any, tmp_path: Path, bad: str
) -> None:
    state = on_gpus(make_study, make_queue, slots=2)
    failing(bad)
    run_trials(state.trial_queue.study, state, tmp_path / "scratch")
    trials = [trial for trial in state.trial_queue.trials if trial.kind == "trial"]
    assert [trial.state for trial in trials] == [DONE] * 5
    began = (tmp_path / "began").read_text()
    assert began.count(bad or "-") == len(bad)
    assert len(began) == 5 + len(bad)
    assert sorted(trial.attempts for trial in trials) == [1] * (5 - len(bad)) + [2] * len(bad)
    assert state.status == "done"


@pytest.mark.slow
def test_without_any_gpu_left_the_sweep_stops_and_keeps_its_trials(
    make_study: MakeStudy, make_queue: MakeQueue, failing: Any, tmp_path: Path
) -> None:
    state = on_gpus(make_study, make_queue, slots=2)
    failing("01")
    run_trials(state.trial_queue.study, state, tmp_path / "scratch")
    assert sorted((tmp_path / "began").read_text()) == ["0", "1"]
    assert state.trial_queue.halted and state.trial_queue.devices_gone
    assert {trial.state for trial in state.trial_queue.trials if trial.kind == "trial"} == {PENDING}
    assert state.status == "failed"


def test_a_trial_fails_that_every_gpu_it_gets_fails_with(make_study: MakeStudy, make_queue: MakeQueue) -> None:
    state = on_gpus(make_study, make_queue, slots=8)
    key, _ = state.trial_queue.next() or ("", {})
    for attempt in range(state.trial_queue.study.retries + 1):
        assert state.trial_queue.trial(key).state == PENDING, attempt
        state.on_start(key)
        state.on_report(key, Report(outcome=DeviceBroken(f"a: {ECC}")))
    assert state.trial_queue.trial(key).state == FAILED
    assert state.trial_queue.trial(key).error == f"GPU failed: a: {ECC}"
    assert not state.trial_queue.devices_gone


def test_trouble_with_the_ledger_is_found_in_what_tune_makes_of_it() -> None:
    trouble = LedgerFull("no room")
    try:
        try:
            raise trouble
        except LedgerFull:
            raise tune.TuneError("Traceback ...")  # noqa: B904 - as Tune does
    except tune.TuneError as error:
        assert _ledger_error(error) is trouble
    assert _ledger_error(tune.TuneError("another")) is None


def test_nothing_of_tune_s_files_is_ever_read() -> None:
    # Its tuner.pkl runs whatever its writer put there.
    code = {path: path.read_text() for folder in ("platform", "trainables") for path in (ROOT / folder).rglob("*.py")}
    assert len(code) > 50
    assert [path for path, text in code.items() if "Tuner.restore" in text or "tune.run(" in text] == []
    state: Any = SimpleNamespace(trial_queue=None)
    with pytest.raises(NotImplementedError, match="a sweep is resumed from its ledger"):
        TuneBridge(state).searcher.restore("anything")


def test_a_report_reaches_the_ledger_with_its_outcome(state: LaunchState) -> None:
    key, trial, bridge = started(state)
    epochs = [EpochRecord("spc", number, 2, {"loss": 0.5}) for number in (1, 2)]
    assert report(bridge, trial, Report(epochs[:1])) == "CONTINUE"
    assert state.last_epochs[key] == epochs[0]
    assert report(bridge, trial, Report(epochs[1:], Done({"spc/loss": 0.5}, [], 1.0))) == "CONTINUE"
    assert (state.trial_queue.trial(key).state, state.trial_queue.trial(key).metrics) == (DONE, {"spc/loss": 0.5})
    assert [row.epoch for row in state.trial_queue._ledger.epochs(state.launch.id, key)] == [1, 2]
    assert key not in state.last_epochs


def test_a_result_after_the_end_counts_and_epochs_after_the_end_do_not(state: LaunchState) -> None:
    key, trial, bridge = started(state)
    state.on_failed(key, "TimeLimit")
    assert report(bridge, trial, Report([EpochRecord("spc", 1, 2, {"loss": 0.5})])) == "CONTINUE"
    assert state.trial_queue._ledger.epochs(state.launch.id, key) == []
    report(bridge, trial, Report(outcome=Done({}, [], 1.0)))
    assert state.trial_queue.trial(key).state == DONE


def test_what_tune_itself_reports_is_passed_over(state: LaunchState) -> None:
    key, trial, bridge = started(state)
    assert bridge.scheduler.on_trial_result(None, trial, {"done": True}) == "CONTINUE"
    assert state.trial_queue.trial(key).state == RUNNING


@pytest.mark.parametrize("at_once", [1, 2, 10, 256, 1024])
def test_reports_of_all_trials_together_leave_the_driver_most_of_its_time(at_once: int) -> None:
    report_s = 0.01
    assert at_once * report_s / report_every_s(at_once) <= 0.2
    assert report_every_s(at_once) >= 0.5
