"""Errors after which a process must not touch its GPU again, and what becomes of the process and of its trial."""

import os
from pathlib import Path
from typing import Any

import pytest
import ray
import torch
from ray import tune

from trainables import cuda_errors
from trainables.runner import tune_entry
from trainables.runner.messages import Done, Failed, Report


class Coded(RuntimeError):
    error_code = 719


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("CUDA error: device-side assert triggered\nCUDA kernel errors might be reported later"),
        RuntimeError("CUDA error: an illegal memory access was encountered"),
        RuntimeError("CUDA error: unspecified launch failure"),
        RuntimeError("CUDA error: uncorrectable ECC error encountered"),
        RuntimeError(
            "Error in void faiss::gpu::x: Error: 'err == cudaSuccess' failed: CUDA error 700 an illegal memory"
        ),
        RuntimeError("cuda runtime error (719) at /x.cu:1"),
        RuntimeError("No CUDA-capable device is detected"),
        RuntimeError(
            "CUDA-capable device(s) is/are busy or unavailable; all CUDA-capable devices are busy or unavailable"
        ),
        Coded("something went wrong"),
        cuda_errors.DeviceLost("gone"),
    ],
    ids=str,
)
def test_a_lost_device_is_known(error: Exception) -> None:
    assert cuda_errors.is_lost(error)


@pytest.mark.parametrize(
    "error",
    [
        torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 700 MiB"),
        RuntimeError("CUDA error 2 out of memory"),
        ValueError("700"),
        FloatingPointError("loss is nan"),
    ],
    ids=str,
)
def test_another_error_is_not_taken_for_one(error: Exception) -> None:
    assert not cuda_errors.is_lost(error)


def test_it_is_known_under_the_errors_it_led_to() -> None:
    try:
        try:
            raise RuntimeError("CUDA error: device-side assert triggered")
        except RuntimeError as first:
            raise ValueError("an array came back empty") from first
    except ValueError as error:
        assert cuda_errors.is_lost(error)


def test_an_error_that_is_its_own_cause_ends_the_search() -> None:
    error = ValueError("a")
    error.__cause__ = ValueError("b")
    error.__cause__.__cause__ = error
    assert not cuda_errors.is_lost(error)


@pytest.mark.parametrize(
    ("text", "broken"),
    [
        ("CUDA error: uncorrectable ECC error encountered", True),
        ("CUDA error 214 at x.cu", True),
        ("No CUDA-capable device is detected", True),
        ("NVML: GPU is lost", True),
        ("CUDA error: device-side assert triggered", False),
        ("CUDA error 700 an illegal memory access", False),
        ("CUDA out of memory", False),
    ],
)
def test_what_another_process_would_meet_as_well_is_told_apart(text: str, broken: bool) -> None:
    assert cuda_errors.is_broken(RuntimeError(text)) is broken


# What becomes of a trial

ASSERT = "CUDA error: device-side assert triggered"


class Failing:
    """A runner whose trial raises an error."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def walk(self, trial_spec: Any, on_epoch: Any) -> Done:
        raise self._error


def reports_of(monkeypatch: pytest.MonkeyPatch, error: Exception) -> list[Report]:
    monkeypatch.setattr(tune_entry, "runner_of", lambda storage, threads: Failing(error))
    reports: list[Report] = []
    tune_entry.run_and_report({"storage": "", "threads": 1}, tune_entry.Reporter(reports.append))
    return reports


def test_a_trial_that_loses_its_gpu_is_no_failed_trial_but_a_lost_process(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(cuda_errors.DeviceLost, match=f"RuntimeError: {ASSERT}"):
        reports_of(monkeypatch, RuntimeError(ASSERT))


def test_a_trial_without_memory_fails_and_keeps_its_process(monkeypatch: pytest.MonkeyPatch) -> None:
    (report,) = reports_of(monkeypatch, torch.cuda.OutOfMemoryError("CUDA out of memory"))
    assert isinstance(report.outcome, Failed)


@pytest.mark.slow
def test_the_process_that_lost_its_gpu_is_not_used_again_and_its_trial_runs_in_another(tmp_path: Path) -> None:
    folder = str(tmp_path)

    def trial(config):  # type: ignore[no-untyped-def]  # in a worker, names of annotations are not known
        from trainables.runner import tune_entry
        from trainables.runner.messages import Done

        number = config["number"]

        class PipelineRunner:
            def walk(self, trial_spec, on_epoch):  # type: ignore[no-untyped-def]
                tries = [name for name in os.listdir(folder) if name.startswith(f"{number}-")]
                Path(folder, f"{number}-{len(tries)}").write_text(str(os.getpid()))
                if number == 1 and not tries:
                    raise RuntimeError("CUDA error: device-side assert triggered")
                return Done({}, [], 0.0)

        tune_entry.runner_of = lambda storage, threads: PipelineRunner()  # type: ignore[assignment,return-value]
        reporter = tune_entry.Reporter(tune_entry.send_to_tune)
        tune_entry.run_and_report({"storage": "", "threads": 1}, reporter)

    ray.init(num_cpus=1, num_gpus=0, include_dashboard=False, log_to_driver=False)
    try:
        results = tune.Tuner(
            tune.with_resources(trial, {"cpu": 1}),
            param_space={"number": tune.grid_search([0, 1, 2])},
            tune_config=tune.TuneConfig(reuse_actors=True),
            run_config=tune.RunConfig(
                storage_path=folder, name="t", verbose=0, failure_config=tune.FailureConfig(max_failures=1)
            ),
        ).fit()
    finally:
        ray.shutdown()
    assert not results.errors
    pids = {path.name: path.read_text() for path in tmp_path.iterdir() if path.is_file()}
    assert set(pids) == {"0-0", "1-0", "1-1", "2-0"}
    assert pids["0-0"] == pids["1-0"], "a warm process met the error"
    assert pids["1-0"] not in (pids["1-1"], pids["2-0"])
