"""The names that are used of Ray Tune are there, and ended trials alone leave its controller."""

import inspect
import re
from dataclasses import dataclass, field
from pathlib import Path
from platform.run import tune_internals
from types import SimpleNamespace
from typing import Any

import pytest
import ray
from ray.tune import registry
from ray.tune.execution import tune_controller
from ray.tune.experiment import trial as experiment_trial
from ray.tune.trainable import metadata

ROOT = Path(__file__).resolve().parents[2]


@dataclass(eq=False)
class Trial:
    trial_id: str


@dataclass
class Controller:
    """What forgetting touches of a controller."""

    _trials: list[Trial] = field(default_factory=list)
    _stopped_trials: set[Trial] = field(default_factory=set)
    _failed_trials: set[Trial] = field(default_factory=set)
    _live_trials: set[Trial] = field(default_factory=set)
    _trials_to_cache: set[Trial] = field(default_factory=set)
    _trial_metadata: dict[str, str] = field(default_factory=dict)
    _trial_to_actor: dict[Trial, Any] = field(default_factory=dict)


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tune_internals, "_NUM_KEPT", 2)


def controller(*ended: Trial, failed: tuple[Trial, ...] = (), live: tuple[Trial, ...] = ()) -> Controller:
    trials = [*ended, *failed, *live]
    return Controller(
        trials, set(ended), set(failed), set(live), set(trials), {trial.trial_id: "..." for trial in trials}
    )


def test_ended_trials_leave_every_place(few: None) -> None:
    one, two, three = Trial("1"), Trial("2"), Trial("3")
    made = controller(one, failed=(two,), live=(three,))
    tune_internals.forget_ended(made)
    assert made == controller(live=(three,))


def test_the_wrapper_that_schedulers_get_is_opened(few: None) -> None:
    one, two = Trial("1"), Trial("2")
    made = controller(one, two)
    tune_internals.forget_ended(SimpleNamespace(_tune_controller=made))
    assert made == controller()


def test_a_few_stay(few: None) -> None:
    one, two = Trial("1"), Trial("2")
    made = controller(one, live=(two,))
    tune_internals.forget_ended(made)
    assert made._trials == [one, two]  # noqa: SLF001 - Ray's names


def test_a_trial_whose_process_is_being_stopped_stays(few: None) -> None:
    one, two = Trial("1"), Trial("2")
    made = controller(one, two)
    made._trial_to_actor[one] = "its process"  # noqa: SLF001
    tune_internals.forget_ended(made)
    assert (made._trials, made._stopped_trials) == ([one], {one})  # noqa: SLF001


CLASSES = {
    "TuneController": tune_controller.TuneController,
    "TrialRunnerWrapper": tune_controller.TrialRunnerWrapper,
    "Trial": experiment_trial.Trial,
    "_TemporaryTrialState": experiment_trial._TemporaryTrialState,
    "_TrainingRunMetadata": metadata._TrainingRunMetadata,
}


def names_in(owner: type) -> set[str]:
    """Methods, properties, and what the constructor or the class body assigns."""
    text = inspect.getsource(owner)
    return set(dir(owner)) | set(re.findall(r"^\s+(?:self\.)?(\w+)\s*(?::[^=\n]+)?=", text, re.MULTILINE))


@pytest.mark.parametrize("owner", tune_internals.INTERNALS)
def test_the_names_are_those_of_ray(owner: str) -> None:
    missing = [name for name in tune_internals.INTERNALS[owner] if name not in names_in(CLASSES[owner])]
    assert missing == [], f"{owner} of Ray {ray.__version__} lacks names of {tune_internals.RAY_RELEASE}"


def test_every_name_of_the_controller_that_is_forgotten_is_listed() -> None:
    assert set(vars(Controller())) <= set(tune_internals.INTERNALS["TuneController"])


def test_the_bridge_touches_no_private_name_itself() -> None:
    # Whatever Ray may rename stands in one list.
    text = (ROOT / "platform" / "run" / "tune.py").read_text()
    private = re.findall(r"\b(?:trial|controller)\.(_\w+|temporary_state|run_metadata)", text)
    assert private == []
    listed = {name for names in tune_internals.INTERNALS.values() for name in names}
    used = set(re.findall(r"\b(?:trial|controller)\.(\w+)", text)) - {"trial_id"}
    assert used and used <= listed


def test_the_controller_is_in_the_wrapper_that_schedulers_get() -> None:
    assert "self._tune_controller = tune_controller" in inspect.getsource(tune_controller.TrialRunnerWrapper.__init__)


def test_tune_s_end_at_exit_is_taken_back(monkeypatch: pytest.MonkeyPatch) -> None:
    taken_back: list[object] = []
    monkeypatch.setattr(tune_internals.atexit, "unregister", taken_back.append)
    tune_internals.forget_exit()
    assert taken_back == [registry._unregister_all]


def test_tune_hands_on_no_key_of_the_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    from ray.tune.execution import class_cache

    before = set(class_cache.ENV_VARS_TO_PROPAGATE)
    assert "AWS_SECRET_ACCESS_KEY" in before  # of Ray 2.60; a release that names it otherwise needs another way
    monkeypatch.setattr(class_cache, "ENV_VARS_TO_PROPAGATE", set(before))
    tune_internals.hand_on_no_credentials()
    assert {name for name in before if not name.startswith("AWS_")} == class_cache.ENV_VARS_TO_PROPAGATE
