"""The Optuna study of a launch, opened as Optuna's own tools do."""

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from platform.ledger.ledger import Ledger
from platform.ledger.rows import Configuration, Launch
from platform.study.domains import Choice, Domain, Range
from platform.tracking.optuna_export import export
from typing import Any

import optuna
import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState

RESOLVED = {
    "method": "spc",
    "seeds": [0, 1, 2],
    "objective": {"metric": "spc/selection_loss", "mode": "min"},
    "search": {"spc.strong_threshold": {"uniform": [0.9, 0.99]}, "spc.graph_neighbors": {"choice": [5, 20]}},
}


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    opened = Ledger(tmp_path / "ledger.db")
    yield opened
    opened.close()


def add_configuration(ledger: Ledger, launch: Launch, number: int, threshold: float, seeds: tuple[int, ...]) -> None:
    ledger.add_configuration(
        launch.id, Configuration(number, "", {"spc.strong_threshold": threshold, "spc.graph_neighbors": 20})
    )
    cells = [(f"k{number}-{seed}", {"kind": "trial", "seed": seed}) for seed in seeds]
    ledger.add_trials(launch.id, cells, configuration=number)


def finish(ledger: Ledger, launch: Launch, key: str, loss: float) -> None:
    ledger.start(launch.id, key)
    ledger.finish(launch.id, key, {"spc/selection_loss": loss, "acc": 0.9}, [], 1.0)


def load(tmp_path: Path, name: str = "digits_spc") -> optuna.Study:
    return optuna.load_study(study_name=name, storage=f"sqlite:///{tmp_path / 'optuna.db'}")


def launch_of(ledger: Ledger, resolved: dict[str, Any] = RESOLVED, fresh: bool = False) -> Launch:
    return ledger.open_launch("digits_spc", {}, resolved, lookahead=2, fresh=fresh)


def test_a_setting_is_one_trial_with_the_mean_over_its_finished_seeds(ledger: Ledger, tmp_path: Path) -> None:
    launch = launch_of(ledger)
    add_configuration(ledger, launch, 0, 0.95, seeds=(0, 1, 2))
    finish(ledger, launch, "k0-0", -2.0)
    finish(ledger, launch, "k0-1", -3.0)
    ledger.fail(launch.id, "k0-2", "Diverged")
    export(ledger, launch.id, tmp_path / "optuna.db")
    (trial,) = load(tmp_path).trials
    assert (trial.state, trial.value) == (TrialState.COMPLETE, -2.5)
    assert trial.params == {"spc.strong_threshold": 0.95, "spc.graph_neighbors": 20}
    assert trial.user_attrs == {"setting": 0, "by_seed": {"0": -2.0, "1": -3.0}}


def test_a_setting_without_a_finished_seed_failed(ledger: Ledger, tmp_path: Path) -> None:
    launch = launch_of(ledger)
    add_configuration(ledger, launch, 0, 0.95, seeds=(0,))
    ledger.fail(launch.id, "k0-0", "Diverged")
    export(ledger, launch.id, tmp_path / "optuna.db")
    assert [trial.state for trial in load(tmp_path).trials] == [TrialState.FAIL]


def test_a_setting_with_a_trial_under_way_is_left_for_later(ledger: Ledger, tmp_path: Path) -> None:
    launch = launch_of(ledger)
    add_configuration(ledger, launch, 0, 0.95, seeds=(0, 1))
    finish(ledger, launch, "k0-0", -2.0)
    export(ledger, launch.id, tmp_path / "optuna.db")
    assert load(tmp_path).trials == []


def test_again_adds_only_what_is_new(ledger: Ledger, tmp_path: Path) -> None:
    launch = launch_of(ledger)
    for number, loss in enumerate((-1.0, -2.0)):
        add_configuration(ledger, launch, number, 0.91 + number / 100, seeds=(0,))
        finish(ledger, launch, f"k{number}-0", loss)
        export(ledger, launch.id, tmp_path / "optuna.db")
        export(ledger, launch.id, tmp_path / "optuna.db")
    assert [trial.value for trial in load(tmp_path).trials] == [-1.0, -2.0]


def test_more_seeds_replace_the_mean(ledger: Ledger, tmp_path: Path) -> None:
    launch = launch_of(ledger)
    add_configuration(ledger, launch, 0, 0.95, seeds=(0,))
    finish(ledger, launch, "k0-0", -2.0)
    export(ledger, launch.id, tmp_path / "optuna.db")
    ledger.add_trials(launch.id, [("k0-1", {"kind": "trial", "seed": 1})], configuration=0)
    finish(ledger, launch, "k0-1", -4.0)
    export(ledger, launch.id, tmp_path / "optuna.db")
    assert [trial.value for trial in load(tmp_path).trials] == [-3.0]


def test_a_later_launch_has_a_study_of_its_own(ledger: Ledger, tmp_path: Path) -> None:
    for fresh in (False, True):
        launch = launch_of(ledger, fresh=fresh)
        add_configuration(ledger, launch, 0, 0.95, seeds=(0,))
        finish(ledger, launch, "k0-0", -2.0)
        export(ledger, launch.id, tmp_path / "optuna.db")
    assert len(load(tmp_path, "digits_spc#2").trials) == 1


@pytest.mark.parametrize(("mode", "direction"), [("min", "MINIMIZE"), ("max", "MAXIMIZE")])
def test_the_direction_is_the_objectives(ledger: Ledger, tmp_path: Path, mode: str, direction: str) -> None:
    launch = launch_of(ledger, {**RESOLVED, "objective": {"metric": "spc/selection_loss", "mode": mode}})
    export(ledger, launch.id, tmp_path / "optuna.db")
    assert load(tmp_path).direction.name == direction


def test_an_ablation_row_keeps_its_changes_as_attributes(ledger: Ledger, tmp_path: Path) -> None:
    launch = launch_of(ledger, {**RESOLVED, "search": {}})
    ledger.add_configuration(
        launch.id, Configuration(0, "agreeing", {"spc.intersection_requires_label_agreement": True})
    )
    ledger.add_trials(launch.id, [("k0-0", {"kind": "trial", "seed": 0})], configuration=0)
    finish(ledger, launch, "k0-0", -2.0)
    export(ledger, launch.id, tmp_path / "optuna.db")
    (trial,) = load(tmp_path).trials
    assert (trial.params, trial.user_attrs["variant"]) == ({}, "agreeing")
    assert trial.user_attrs["changes"] == {"spc.intersection_requires_label_agreement": True}


@pytest.mark.parametrize(
    ("domain", "value", "expected"),
    [
        (Choice("a.b", ("x", "y")), "x", CategoricalDistribution(("x", "y"))),
        (Range("a.b", 0.1, 0.5), 0.3, FloatDistribution(0.1, 0.5)),
        (Range("a.b", 0.1, 0.5, step=0.1), 0.3, FloatDistribution(0.1, 0.5, step=0.1)),
        (Range("a.b", 0.001, 1.0, log=True), 0.1, FloatDistribution(0.001, 1.0, log=True)),
        (Range("a.b", 2, 10, whole=True, step=2), 4, IntDistribution(2, 10, step=2)),
        (Range("a.b", 1, 64, whole=True, log=True), 8, IntDistribution(1, 64, log=True)),
    ],
    ids=["choice", "uniform", "steps", "loguniform", "whole", "whole_log"],
)
def test_a_domain_keeps_its_form(
    ledger: Ledger, tmp_path: Path, domain: Domain, value: Any, expected: BaseDistribution
) -> None:
    launch = launch_of(ledger, {**RESOLVED, "search": {"a.b": domain.as_dict()}})
    ledger.add_configuration(launch.id, Configuration(0, "", {"a.b": value}))
    ledger.add_trials(launch.id, [("k0-0", {"kind": "trial", "seed": 0})], configuration=0)
    finish(ledger, launch, "k0-0", -2.0)
    export(ledger, launch.id, tmp_path / "optuna.db")
    (trial,) = load(tmp_path).trials
    assert (trial.distributions, trial.params) == ({"a.b": expected}, {"a.b": value})


def test_the_database_has_a_write_ahead_log(ledger: Ledger, tmp_path: Path) -> None:
    export(ledger, launch_of(ledger).id, tmp_path / "optuna.db")
    assert sqlite3.connect(tmp_path / "optuna.db").execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_a_damaged_database_is_set_aside_and_written_anew(ledger: Ledger, tmp_path: Path) -> None:
    launch = launch_of(ledger)
    add_configuration(ledger, launch, 0, 0.95, seeds=(0,))
    finish(ledger, launch, "k0-0", -2.0)
    (tmp_path / "optuna.db").write_bytes(b"no database" * 1000)
    with pytest.warns(UserWarning, match=r"optuna\.db cannot be used; it was set aside as optuna\.db\.damaged"):
        export(ledger, launch.id, tmp_path / "optuna.db")
    assert [trial.value for trial in load(tmp_path).trials] == [-2.0]
    assert list(tmp_path.glob("optuna.db.damaged-*"))


def no_database(path: Path) -> None:
    path.write_bytes(b"no database" * 500)


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def a_foreign_schema(path: Path) -> None:
    path.unlink()
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE studies (something TEXT)")
    connection.close()


@pytest.mark.parametrize("harm", [no_database, a_folder, a_foreign_schema])
def test_whatever_is_in_its_place_the_sweep_ends_well(
    ledger: Ledger, tmp_path: Path, harm: Callable[[Path], None]
) -> None:
    launch = ledger.open_launch("digits", {}, RESOLVED, lookahead=1, facts={}).id
    path = tmp_path / "optuna.db"
    assert export(ledger, launch, path) == ""
    harm(path)
    with pytest.warns(UserWarning, match=r"optuna\.db cannot be used; it was set aside"):
        assert export(ledger, launch, path) == ""
    assert optuna.load_study(study_name="digits", storage=f"sqlite:///{path}").trials == []


def test_a_database_that_stays_locked_is_one_sentence(
    ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def locked(*_: object) -> None:
        raise sqlite3.OperationalError("database is locked")

    monkeypatch.setattr("platform.tracking.optuna_export._write", locked)
    (tmp_path / "optuna.db").write_bytes(b"")
    said = export(ledger, 1, tmp_path / "optuna.db")
    assert "could not be written (database is locked); the same command writes it when that is over" in said
