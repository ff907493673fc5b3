"""Ended trials leave Tune's controller, and nothing else does. With the real controller's names."""

import inspect
from dataclasses import dataclass, field
from platform.run import tune_memory
from typing import Any

import pytest
from ray.tune.execution import tune_controller


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
    monkeypatch.setattr(tune_memory, "_KEPT", 2)


def controller(*ended: Trial, failed: tuple[Trial, ...] = (), live: tuple[Trial, ...] = ()) -> Controller:
    trials = [*ended, *failed, *live]
    return Controller(
        trials, set(ended), set(failed), set(live), set(trials), {trial.trial_id: "..." for trial in trials}
    )


def test_ended_trials_leave_every_place(few: None) -> None:
    one, two, three = Trial("1"), Trial("2"), Trial("3")
    made = controller(one, failed=(two,), live=(three,))
    tune_memory.forget_ended(made)
    assert made == controller(live=(three,))


def test_a_few_stay(few: None) -> None:
    one, two = Trial("1"), Trial("2")
    made = controller(one, live=(two,))
    tune_memory.forget_ended(made)
    assert made._trials == [one, two]  # noqa: SLF001 - Ray's names


def test_a_trial_whose_process_is_being_stopped_stays(few: None) -> None:
    one, two = Trial("1"), Trial("2")
    made = controller(one, two)
    made._trial_to_actor[one] = "its process"  # noqa: SLF001
    tune_memory.forget_ended(made)
    assert (made._trials, made._stopped_trials) == ([one], {one})  # noqa: SLF001


def test_the_names_are_those_of_ray() -> None:
    made = inspect.getsource(tune_controller.TuneController.__init__)
    missing = [name for name in vars(Controller()) if f"self.{name}:" not in made]
    assert missing == [], "Ray has other names now, so the driver's memory grows with the trials"


def test_the_controller_is_in_the_wrapper_that_schedulers_get() -> None:
    assert "self._tune_controller = tune_controller" in inspect.getsource(tune_controller.TrialRunnerWrapper.__init__)
