"""What this project touches of Ray Tune beyond its documented interface, in one place.

The names in ``INTERNALS`` are those of Ray 2.60; a test holds them against the release that is installed.

Tune keeps every trial for ever, as an object and as text. A sweep of ten thousand trials would hold all of them in the
driver's memory a second time, look through all of them at each step, and write all into snapshots from which nobody
restores: a controller of many trials is made to forget.
"""

import atexit
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import ray

RAY_RELEASE = "2.60"
INTERNALS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "TuneController": (
            "_trials", "_live_trials", "_stopped_trials", "_failed_trials", "_trials_to_cache", "_trial_metadata",
            "_trial_to_actor", "get_trials", "stop_trial",
        ),
        "TrialRunnerWrapper": ("_tune_controller",),
        "Trial": ("status", "num_failures", "get_error", "temporary_state", "run_metadata"),
        "_TemporaryTrialState": ("ray_actor",),
        "_TrainingRunMetadata": ("metric_analysis", "metric_n_steps"),
    }
)  # fmt: skip
"""Class of Ray Tune -> its attributes and methods that are used here and in ``tune``."""

MAX_WAITING_TRIALS = "TUNE_MAX_PENDING_TRIALS_PG"
"""The environment variable with the number of trials that Tune keeps waiting."""

_NUM_KEPT = 256
"""Ended trials that may stay, so that forgetting costs next to nothing per trial."""

_ENDED, _ALSO_IN = ("_stopped_trials", "_failed_trials"), ("_live_trials", "_trials_to_cache")


def forget_ended(controller: Any) -> None:
    """Drop the trials that have ended from Tune's controller, once there are ``_NUM_KEPT`` of them.

    What another release lacks is left alone: its driver then grows, and a test says so.

    Args:
        controller: a ``TuneController``, or the wrapper of it that schedulers get.
    """
    controller = getattr(controller, "_tune_controller", controller)
    ended: set[Any] = set().union(*(getattr(controller, name, ()) for name in _ENDED))
    if len(ended) < _NUM_KEPT:
        return
    ended -= set(getattr(controller, "_trial_to_actor", {}))  # the process of these is still being stopped
    for name in (*_ENDED, *_ALSO_IN):
        getattr(controller, name, set()).difference_update(ended)
    trials, texts = getattr(controller, "_trials", []), getattr(controller, "_trial_metadata", {})
    trials[:] = [trial for trial in trials if trial not in ended]
    for trial in ended:
        texts.pop(trial.trial_id, None)


def forget_metrics(trial: Any) -> None:
    """Drop the running means of every number of a trial: 57 KiB a trial, which nobody here asks for."""
    trial.run_metadata.metric_analysis.clear()
    trial.run_metadata.metric_n_steps.clear()


def kill_process(trial: Any) -> None:
    """End the process of a running trial, which would not notice a request to stop."""
    ray.kill(trial.temporary_state.ray_actor)


def last_error(trial: Any) -> str:
    """The last line of the error that ended a trial's process."""
    return str(trial.get_error() or "no reason given").strip().splitlines()[-1]


def forget_exit() -> None:
    """Keep Tune from asking the head at this process's exit to forget its names: for a dead one it waits a minute."""
    from ray.tune import registry

    atexit.unregister(getattr(registry, "_unregister_all", forget_exit))


def hand_on_no_credentials() -> None:
    """Keep Tune from writing the driver's AWS keys into what each trial is started with.

    Ray writes that into a log which everybody on the machine can read. Processes of a cluster that was started here
    inherit the driver's environment anyway; a joined cluster may need what Tune hands on.
    """
    from ray.tune.execution import class_cache

    handed_on: set[str] = getattr(class_cache, "ENV_VARS_TO_PROPAGATE", set())
    handed_on -= {name for name in handed_on if name.startswith("AWS_")}
