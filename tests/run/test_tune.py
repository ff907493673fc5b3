"""How Tune is told apart from the ledger: trials that hang, trials that have ended before their process died."""

from collections.abc import Callable, Iterator
from pathlib import Path
from platform.ledger.rows import DONE, FAILED, PENDING, RUNNING
from platform.ledger.schema import LedgerFull
from platform.run.launch_state import LaunchState
from platform.run.trial_queue import TrialQueue
from platform.run.tune import Cells, Feed, Stops, _own, report_every_s, run_trials
from platform.study.study import Study
from types import SimpleNamespace
from typing import Any

import pytest
import ray
from ray import tune

from trainables import cuda_errors

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
    monkeypatch.setattr("platform.run.tune.ray.kill", found.append)
    return found


@pytest.fixture
def launch_state(make_study: MakeStudy, make_queue: MakeQueue) -> LaunchState:
    """A launch whose shared stages are there, with one trial running."""
    trial_queue = make_queue(make_study(PAGE))
    for key, _ in trial_queue.prepare_cells:
        trial_queue.done(key, {"metrics": {}, "stages": [], "seconds": 1.0})
    return LaunchState(trial_queue.launch, trial_queue, 1)


def running(launch_state: LaunchState) -> tuple[str, Any, Feed, Stops]:
    """A trial that Tune has started: its key, Tune's trial, and what listens."""
    key, _ = launch_state.trial_queue.next() or ("", {})
    keys = {"t": key}
    trial = SimpleNamespace(trial_id="t", status="RUNNING", temporary_state=SimpleNamespace(ray_actor="actor"))
    feed, stops = Feed(launch_state, keys, {}), Stops(launch_state, keys, {})
    feed.on_trial_start(0, [], trial)
    return key, trial, feed, stops


def test_a_trial_that_hangs_fails_by_its_time_limit_and_loses_its_process(
    launch_state: LaunchState, clock: Clock, killed: list[Any]
) -> None:
    # Tune has no limit of its own for a trial that reports nothing: its slot is gone for good.
    key, trial, feed, _ = running(launch_state)
    clock.now += 1000  # starting a process does not count
    feed.on_step_end(0, [])
    assert killed == []
    feed.on_trial_result(0, [], trial, {"epochs": [], "outcome": None})
    clock.now += 64
    feed.on_step_end(0, [])
    assert (killed, launch_state.trial_queue.trial(key).state) == ([], RUNNING)
    clock.now += 2
    feed.on_step_end(0, [])
    assert killed == ["actor"]
    found = launch_state.trial_queue.trial(key)
    assert (found.state, found.error) == (FAILED, "TimeLimit: 66 s spent of 60 s, and no epoch came to an end")
    feed.on_step_end(0, [])
    assert killed == ["actor"]


def test_an_attempt_that_is_started_again_has_its_whole_time(
    launch_state: LaunchState, clock: Clock, killed: list[Any]
) -> None:
    _, trial, feed, _ = running(launch_state)
    feed.on_trial_result(0, [], trial, {"epochs": [], "outcome": None})
    clock.now += 50
    feed.on_trial_start(0, [], trial)
    feed.on_trial_result(0, [], trial, {"epochs": [], "outcome": None})
    clock.now += 50
    feed.on_step_end(0, [])
    assert killed == []


def test_a_trial_that_waits_for_a_new_process_is_not_over_its_time(
    launch_state: LaunchState, clock: Clock, killed: list[Any]
) -> None:
    key, trial, feed, _ = running(launch_state)
    feed.on_trial_result(0, [], trial, {"epochs": [], "outcome": None})
    trial.status = PENDING
    clock.now += 1000
    feed.on_step_end(0, [])
    assert (killed, launch_state.trial_queue.trial(key).state) == ([], RUNNING)


def test_stages_that_trials_share_have_no_time_limit(
    make_study: MakeStudy, make_queue: MakeQueue, clock: Clock, killed: list[Any]
) -> None:
    trial_queue = make_queue(make_study(PAGE))
    key, trial, feed, _ = running(LaunchState(trial_queue.launch, trial_queue, 1))
    assert trial_queue.trial(key).kind == "prepare"
    feed.on_trial_result(0, [], trial, {"epochs": [], "outcome": None})
    clock.now += 1000
    feed.on_step_end(0, [])
    assert (killed, trial_queue.trial(key).state) == ([], RUNNING)


@pytest.mark.parametrize("state", [DONE, FAILED, RUNNING])
def test_a_process_that_dies_after_its_trial_ended_does_not_run_it_again(launch_state: LaunchState, state: str) -> None:
    # Tune retries whatever was running in a process that died, finished or not.
    key, trial, _, stops = running(launch_state)
    if state == DONE:
        launch_state.trial_queue.done(key, {"metrics": {}, "stages": [], "seconds": 1.0})
    elif state == FAILED:
        launch_state.trial_queue.failed(key, "no")
    stopped: list[Any] = []
    controller = SimpleNamespace(get_trials=lambda: [], stop_trial=stopped.append)
    stops.on_trial_error(controller, trial)
    trial.status = PENDING
    stops.choose_trial_to_run(controller)
    assert stopped == ([] if state == RUNNING else [trial])


def test_a_trial_whose_warm_process_dies_before_it_begins_is_tried_again(launch_state: LaunchState) -> None:
    # Tune tries only those again that were running, and has no reason to give.
    key, _ = launch_state.trial_queue.next() or ("", {})
    feed = Feed(launch_state, keys := {}, {})
    for attempt in range(launch_state.trial_queue.study.retries + 1):
        assert launch_state.trial_queue.trial(key).state == PENDING
        trial = SimpleNamespace(trial_id=f"t{attempt}", status="ERROR", get_error=lambda: None, num_failures=1)
        keys[trial.trial_id] = key
        feed.on_trial_error(0, [], trial)
        given = launch_state.trial_queue.next()
        if attempt < launch_state.trial_queue.study.retries:
            assert given is not None and given[0] == key, "it is the next to start"
    assert launch_state.trial_queue.trial(key).state == FAILED
    assert launch_state.trial_queue.trial(key).error == "process lost: no reason given"
    assert launch_state.trial_queue.trial(key).attempts == 0


def test_a_trial_that_was_started_as_often_as_it_may_be_fails_with_its_process(launch_state: LaunchState) -> None:
    key, trial, feed, _ = running(launch_state)
    trial.get_error, trial.num_failures = lambda: "Ray: the actor died", launch_state.trial_queue.study.retries + 1
    feed.on_trial_error(0, [], trial)
    assert (launch_state.trial_queue.trial(key).state, launch_state.trial_queue.trial(key).error) == (
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
    for key, _ in trial_queue.prepare_cells:
        trial_queue.done(key, {"metrics": {}, "stages": [], "seconds": 1.0})
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

            from trainables.runner import tune_entry
            from trainables.runner.pipeline_runner import Outcome

            gpu = os.environ["CUDA_VISIBLE_DEVICES"]

            class PipelineRunner:
                def walk(self, trial_spec, on_epoch):  # type: ignore[no-untyped-def]
                    with began.open("a") as file:
                        file.write(gpu)
                    if gpu in bad:
                        raise RuntimeError("CUDA error: uncorrectable ECC error encountered")
                    return Outcome({"spc/selection_loss": 1.0}, [], 0.0)

            tune_entry.runner = lambda storage, threads: PipelineRunner()  # type: ignore[assignment,return-value]
            tune_entry.run_cell(json.loads(config["cell"]), tune_entry.Reporter(tune.report))

        monkeypatch.setattr("platform.run.tune.tune_entry.run_trial", trial)
        ray.init(num_cpus=2, num_gpus=2, include_dashboard=False, log_to_driver=False)

    yield begin
    ray.shutdown()


@pytest.mark.slow
@pytest.mark.parametrize("bad", ["", "0", "1"])
def test_a_gpu_that_has_failed_gets_no_other_trial(
    make_study: MakeStudy, make_queue: MakeQueue, failing: Any, tmp_path: Path, bad: str
) -> None:
    launch_state = on_gpus(make_study, make_queue, slots=2)
    failing(bad)
    run_trials(launch_state.trial_queue.study, launch_state, tmp_path / "scratch")
    trials = [trial for trial in launch_state.trial_queue.trials if trial.kind == "trial"]
    assert [trial.state for trial in trials] == [DONE] * 5
    began = (tmp_path / "began").read_text()
    assert began.count(bad or "-") == len(bad)
    assert len(began) == 5 + len(bad)
    assert sorted(trial.attempts for trial in trials) == [1] * (5 - len(bad)) + [2] * len(bad)
    assert launch_state.status == "done"


@pytest.mark.slow
def test_without_any_gpu_left_the_sweep_stops_and_keeps_its_trials(
    make_study: MakeStudy, make_queue: MakeQueue, failing: Any, tmp_path: Path
) -> None:
    launch_state = on_gpus(make_study, make_queue, slots=2)
    failing("01")
    run_trials(launch_state.trial_queue.study, launch_state, tmp_path / "scratch")
    assert sorted((tmp_path / "began").read_text()) == ["0", "1"]
    assert launch_state.trial_queue.halted and launch_state.trial_queue.devices_gone
    assert {trial.state for trial in launch_state.trial_queue.trials if trial.kind == "trial"} == {PENDING}
    assert launch_state.status == "failed"


def test_a_trial_fails_that_every_gpu_it_gets_fails_with(make_study: MakeStudy, make_queue: MakeQueue) -> None:
    launch_state = on_gpus(make_study, make_queue, slots=8)
    key, _ = launch_state.trial_queue.next() or ("", {})
    for attempt in range(launch_state.trial_queue.study.retries + 1):
        assert launch_state.trial_queue.trial(key).state == PENDING, attempt
        launch_state.starts(key)
        launch_state.hears(key, {"epochs": [], "outcome": {"status": cuda_errors.BROKEN, "error": f"a: {ECC}"}})
    assert launch_state.trial_queue.trial(key).state == FAILED
    assert launch_state.trial_queue.trial(key).error == f"GPU failed: a: {ECC}"
    assert not launch_state.trial_queue.devices_gone


def test_trouble_with_the_ledger_is_found_in_what_tune_makes_of_it() -> None:
    trouble = LedgerFull("no room")
    try:
        try:
            raise trouble
        except LedgerFull:
            raise tune.TuneError("Traceback ...")  # noqa: B904 - as Tune does
    except tune.TuneError as error:
        assert _own(error) is trouble
    assert _own(tune.TuneError("another")) is None


def test_nothing_of_tune_s_files_is_ever_read() -> None:
    # Its tuner.pkl runs whatever its writer put there.
    code = {path: path.read_text() for folder in ("platform", "trainables") for path in (ROOT / folder).rglob("*.py")}
    assert len(code) > 50
    assert [path for path, text in code.items() if "Tuner.restore" in text or "tune.run(" in text] == []
    controller = SimpleNamespace()
    with pytest.raises(NotImplementedError, match="a sweep is resumed from its ledger"):
        Cells(controller).restore("anything")  # type: ignore[arg-type]


@pytest.mark.parametrize("at_once", [1, 2, 10, 256, 1024])
def test_reports_of_all_trials_together_leave_the_driver_most_of_its_time(at_once: int) -> None:
    report_s = 0.01
    assert at_once * report_s / report_every_s(at_once) <= 0.2
    assert report_every_s(at_once) >= 0.5
