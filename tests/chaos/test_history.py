"""The checker finds what was planted; what it does not find, no chaos would show."""

from pathlib import Path

import pytest

from tests.chaos.history import DONE, STAGE, START, Event, View, deviations, disagreements, lost, read, repeated
from trainables import event_log


def events(*pairs: tuple[str, str]) -> list[Event]:
    return [Event(number, event, key, 1) for number, (event, key) in enumerate(pairs, 1)]


SOUND = events((START, "a"), (START, "b"), (STAGE, "s"), (DONE, "a"), (START, "b"), (DONE, "b"))
LEDGER = View("ledger", {"0": 0.5, "1": 0.25}, "1")


def test_a_sound_history_has_no_fault() -> None:
    # "b" started twice: its process was lost before it was done.
    assert lost(SOUND, ["a", "b"]) == []
    assert repeated(SOUND) == []
    assert disagreements([LEDGER, View("mlflow", {"0": 0.5, "1": 0.25}, "1")]) == []
    assert deviations(LEDGER, LEDGER) == []


def test_a_lost_done_is_found() -> None:
    assert lost(SOUND, ["a"]) == ["I1: b: DONE was acknowledged (6), and the ledger does not have it"]


def test_a_done_that_nobody_noted_is_no_fault() -> None:
    # The driver was killed between the ledger's commit and the diary's line.
    assert lost(SOUND[:-1], ["a", "b"]) == []


@pytest.mark.parametrize(
    ("event", "said"), [(START, "START (7) after its DONE (4)"), (DONE, "DONE (7) after its DONE")]
)
def test_a_trial_that_goes_on_after_its_done_is_found(event: str, said: str) -> None:
    (found,) = repeated([*SOUND, Event(7, event, "a", 1)])
    assert found.startswith(f"I2: a: {said}")


def test_a_stage_that_was_computed_twice_is_found() -> None:
    assert repeated(events((STAGE, "s"), (STAGE, "s"))) == ["I2: s: STAGE (2) after its STAGE (1)"]


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (View("mlflow", {"1": 0.25}, "1"), "I3: ledger has 2 done, mlflow has 1"),
        (View("mlflow", {"0": 0.5, "1": 0.25, "2": 1.0}, "1"), "I3: 2: ledger says None, mlflow says 1.0"),
        (View("optuna", {"0": 0.5, "1": 0.26}, "1"), "I3: 1: ledger says 0.25, optuna says 0.26"),
        (View("tables", {"0": 0.5, "1": 0.25}, "0"), "I3: the best is 1 in ledger, and 0 in tables"),
    ],
)
def test_stores_that_disagree_are_found(other: View, said: str) -> None:
    assert said in disagreements([LEDGER, other])


def test_another_best_than_the_undisturbed_one_is_found() -> None:
    assert deviations(View("ledger", {"0": 0.2, "1": 0.25}, "0"), LEDGER) == [
        "I4: the best is 0, undisturbed it is 1",
        "I4: 0 is 0.2, undisturbed 0.5",
    ]


def test_a_diary_is_read_as_it_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "diary"
    monkeypatch.setenv(event_log.VARIABLE, str(path))
    event_log.note(event_log.START, "a")
    event_log.note(event_log.DONE, "a")
    with path.open("ab") as file:
        file.write(b'{"event": "DO')  # a process killed in the middle of a line
    assert [(each.sequence, each.event, each.key) for each in read(path)] == [(1, START, "a"), (2, DONE, "a")]
    assert (event_log.START, event_log.STAGE, event_log.DONE) == (START, STAGE, DONE)


def test_without_the_variable_no_diary_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(event_log.VARIABLE, raising=False)
    monkeypatch.chdir(tmp_path)
    event_log.note(event_log.START, "a")
    assert list(tmp_path.iterdir()) == []
