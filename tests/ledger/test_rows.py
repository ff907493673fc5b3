"""States, launches and epochs, the same in a file and on a PostgreSQL server."""

from collections.abc import Callable, Iterator
from pathlib import Path
from platform.ledger.launches import StudyChanged
from platform.ledger.ledger import Ledger
from platform.ledger.postgres import Server
from platform.ledger.rows import DONE, FAILED, PENDING, PRUNED, RUNNING, Configuration

import pytest

from tests.ledger.ledgers import MEANING, entered, of, opened, trial_spec
from tests.servers import postgres
from trainables.runner.messages import EpochRecord, StageRecord


@pytest.fixture(scope="module")
def server() -> Iterator[postgres.Server]:
    with postgres.running() as made:
        yield made


NEEDS_SERVER = pytest.mark.skipif(bool(postgres.missing()), reason=postgres.missing())


@pytest.fixture(params=["file", pytest.param("server", marks=NEEDS_SERVER)])
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ledger]:
    if request.param == "server":
        uri = request.getfixturevalue("server").uri("tracking")
        made = Ledger(Server(uri, f"clustersweep_{abs(hash(str(tmp_path)))}"))
    else:
        made = Ledger(tmp_path / "ledger.db")
    yield made
    made.close()


@pytest.fixture
def launch(ledger: Ledger) -> int:
    return opened(ledger)


# States


def test_a_trial_enters_as_pending(ledger: Ledger, launch: int) -> None:
    entered(ledger, launch, "a")
    trial = of(ledger, launch)
    assert (trial.state, trial.attempts, trial.kind, trial.configuration, trial.trial_spec) == (
        PENDING,
        0,
        "trial",
        0,
        trial_spec(),
    )


def test_starting_counts_attempts_and_keeps_the_first_time(ledger: Ledger, launch: int) -> None:
    entered(ledger, launch, "a")
    ledger.start(launch, "a")
    first = of(ledger, launch)
    ledger.start(launch, "a")
    second = of(ledger, launch)
    assert (first.state, first.attempts, second.attempts) == (RUNNING, 1, 2)
    assert first.started == second.started


def test_what_is_new_is_what_has_not_ended_and_what_ended_since(ledger: Ledger, launch: int) -> None:
    entered(ledger, launch, "a", "b", "c", "d")
    for key in ("c", "a"):
        ledger.finish(launch, key, {}, [], 1.0)
    ledger.start(launch, "b")
    of_c = of(ledger, launch, "c").sequence
    assert of_c is not None
    assert [trial.key for trial in ledger.trials_since(launch, 0)] == ["c", "a", "b", "d"]
    assert [trial.key for trial in ledger.trials_since(launch, of_c)] == ["a", "b", "d"]


def test_a_failed_trial_that_waits_to_be_run_again_is_new_whenever_it_ended(ledger: Ledger, launch: int) -> None:
    entered(ledger, launch, "a", "b")
    ledger.fail(launch, "a", "OSError")
    ledger.finish(launch, "b", {}, [], 1.0)
    opened(ledger)  # the same command again
    last = of(ledger, launch, "b").sequence
    assert last is not None
    assert [trial.key for trial in ledger.trials_since(launch, last)] == ["a"]


def test_a_finished_trial_has_all_that_came_of_it(ledger: Ledger, launch: int) -> None:
    entered(ledger, launch, "a")
    ledger.start(launch, "a")
    stage = StageRecord("spc", "spc", "a1", cached=False, seconds=1.5)
    ledger.finish(launch, "a", {"acc": 0.5}, [stage], 2.5, {"host": "node9"})
    trial = of(ledger, launch)
    assert (trial.state, trial.metrics, trial.stages, trial.seconds) == (DONE, {"acc": 0.5}, [stage], 2.5)
    assert (trial.stages[0].result_name, trial.worker) == ("spc-a1", {"host": "node9"})
    assert trial.ended is not None and trial.sequence == 1


def test_a_failed_trial_has_its_reason(ledger: Ledger, launch: int) -> None:
    entered(ledger, launch, "a")
    ledger.fail(launch, "a", "Diverged: loss is nan")
    trial = of(ledger, launch)
    assert (trial.state, trial.error) == (FAILED, "Diverged: loss is nan")


def finish_again(ledger: Ledger, launch: int) -> None:
    ledger.finish(launch, "a", {"acc": 0.9}, [], 9.0)


def fail_afterwards(ledger: Ledger, launch: int) -> None:
    ledger.fail(launch, "a", "too late")


def start_again(ledger: Ledger, launch: int) -> None:
    ledger.start(launch, "a")


def enter_again(ledger: Ledger, launch: int) -> None:
    entered(ledger, launch, "a")


def reopen(ledger: Ledger, launch: int) -> None:
    opened(ledger)


@pytest.mark.parametrize("act", [finish_again, fail_afterwards, start_again, enter_again, reopen])
def test_done_never_changes(ledger: Ledger, launch: int, act: Callable[[Ledger, int], None]) -> None:
    entered(ledger, launch, "a")
    ledger.start(launch, "a")
    ledger.finish(launch, "a", {"acc": 0.5}, [], 2.5)
    before = of(ledger, launch)
    act(ledger, launch)
    assert of(ledger, launch) == before


def test_a_failed_trial_that_runs_after_all_is_done(ledger: Ledger, launch: int) -> None:
    entered(ledger, launch, "a")
    ledger.fail(launch, "a", "lost")
    ledger.finish(launch, "a", {"acc": 0.5}, [], 1.0)
    assert (of(ledger, launch).state, of(ledger, launch).error) == (DONE, "")


def test_a_password_in_an_error_is_not_kept(ledger: Ledger, launch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "opensesame")
    entered(ledger, launch, "a", "b")
    ledger.fail(launch, "a", "OSError: s3://me:hunter2@host/runs cannot be written with opensesame")
    ledger.stop(launch, "b", PRUNED, "postgresql://me:hunter2@host/db is away", {}, 1.0)
    errors = [trial.error for trial in ledger.trials(launch)]
    assert errors == [
        "OSError: s3://me:***@host/runs cannot be written with ***",
        "postgresql://me:***@host/db is away",
    ]
    if isinstance(ledger.place, Path):
        ledger.close()
        kept = b"".join(path.read_bytes() for path in ledger.place.parent.iterdir())
        assert b"hunter2" not in kept and b"opensesame" not in kept


def test_trials_are_numbered_in_the_order_in_which_they_end(ledger: Ledger, launch: int) -> None:
    entered(ledger, launch, "a", "b", "c")
    ledger.finish(launch, "c", {}, [], 1.0)
    ledger.fail(launch, "a", "no")
    ledger.finish(launch, "b", {}, [], 1.0)
    assert [of(ledger, launch, key).sequence for key in ("c", "a", "b")] == [1, 2, 3]


def test_a_metric_that_is_no_number_is_refused_and_nothing_is_written(ledger: Ledger, launch: int) -> None:
    entered(ledger, launch, "a")
    with pytest.raises(ValueError, match="JSON compliant"):
        ledger.finish(launch, "a", {"acc": float("nan")}, [], 1.0)
    assert of(ledger, launch).state == PENDING


def test_running_and_failed_trials_are_pending_for_the_next_driver(ledger: Ledger, launch: int) -> None:
    entered(ledger, launch, "a", "b", "c")
    ledger.start(launch, "a")
    ledger.fail(launch, "b", "no")
    ledger.finish(launch, "c", {}, [], 1.0)
    opened(ledger)
    assert [of(ledger, launch, key).state for key in ("a", "b", "c")] == [PENDING, PENDING, DONE]
    assert of(ledger, launch, "b").error == ""
    assert of(ledger, launch, "a").attempts == 1


def test_prepare_trials_come_first_then_settings_and_seeds(ledger: Ledger, launch: int) -> None:
    ledger.add_trials(launch, [("d", trial_spec(1)), ("c", trial_spec(0))], configuration=1)
    ledger.add_trials(launch, [("b", trial_spec(0))], configuration=0)
    ledger.add_trials(launch, [("p", {"kind": "prepare", "seed": 0})])
    assert [trial.key for trial in ledger.trials(launch)] == ["p", "b", "c", "d"]
    assert [trial.key for trial in ledger.trials(launch, "prepare")] == ["p"]


def test_settings_come_back_in_their_order(ledger: Ledger, launch: int) -> None:
    for number in (1, 0):
        ledger.add_configuration(launch, Configuration(number, f"row {number}", {"spc.optimizer.lr": number / 10}))
    assert ledger.configurations(launch) == [
        Configuration(0, "row 0", {"spc.optimizer.lr": 0.0}),
        Configuration(1, "row 1", {"spc.optimizer.lr": 0.1}),
    ]


# Epochs and exports


def epoch(number: int, loss: float = 0.5) -> EpochRecord:
    return EpochRecord("spc", number, 3, {"loss": loss})


def test_an_epoch_repeated_after_a_crash_keeps_its_first_row(ledger: Ledger, launch: int) -> None:
    ledger.add_epochs(launch, "a", [epoch(1, 0.5), epoch(2, 0.4)])
    ledger.add_epochs(launch, "a", [epoch(2, 9.0), epoch(3, 0.3)])
    assert [(row.epoch, row.metrics["loss"]) for row in ledger.epochs(launch, "a")] == [(1, 0.5), (2, 0.4), (3, 0.3)]


def test_epochs_after_an_id_are_the_new_ones(ledger: Ledger, launch: int) -> None:
    ledger.add_epochs(launch, "a", [epoch(1)])
    ledger.add_epochs(launch, "b", [epoch(1)])
    (first, second) = ledger.epochs(launch)
    assert ledger.epochs(launch, after_id=first.id) == [second]
    assert ledger.epochs(launch, "a", after_id=first.id) == []


def test_what_was_exported_is_known_after_a_restart(ledger: Ledger, launch: int) -> None:
    assert ledger.export("mlflow", launch, "a") == ("", 0, False)
    ledger.note_export("mlflow", launch, "a", "run", 3)
    ledger.note_export("mlflow", launch, "a", "run", 7, finished=True)
    assert Ledger(ledger.place).export("mlflow", launch, "a") == ("run", 7, True)


# Launches and owners


def test_the_same_study_goes_on_in_its_launch(ledger: Ledger, launch: int) -> None:
    assert opened(ledger) == launch
    assert [each.number for each in ledger.launches("spc")] == [1]


def test_fresh_begins_another_launch_and_keeps_the_first(ledger: Ledger, launch: int) -> None:
    entered(ledger, launch, "a")
    ledger.finish(launch, "a", {}, [], 1.0)
    second = opened(ledger, fresh=True)
    assert [each.id for each in ledger.launches("spc")] == [launch, second]
    assert (ledger.trials(second), of(ledger, launch).state) == ([], DONE)


def test_lookahead_belongs_to_the_launch(ledger: Ledger, launch: int) -> None:
    # Another number of slots must not change which settings come out.
    again = ledger.open_launch("spc", MEANING, {}, lookahead=9)
    assert again.lookahead == 2


def test_a_changed_study_is_refused_with_both_meanings(ledger: Ledger, launch: int) -> None:
    with pytest.raises(StudyChanged, match="study 'spc' is in the ledger with another meaning") as caught:
        opened(ledger, meaning={"method": "scan"})
    assert (caught.value.known, caught.value.given) == (MEANING, {"method": "scan"})


def test_a_changed_study_may_begin_afresh(ledger: Ledger, launch: int) -> None:
    opened(ledger, fresh=True, meaning={"method": "scan"})
    with pytest.raises(StudyChanged):
        opened(ledger)


def test_tuples_and_lists_mean_the_same(ledger: Ledger) -> None:
    # What was written comes back from JSON with lists.
    first = opened(ledger, meaning={"seeds": (0, 1)})
    assert opened(ledger, meaning={"seeds": (0, 1)}) == first


def test_a_closed_launch_says_how_it_ended(ledger: Ledger, launch: int) -> None:
    ledger.close_launch(launch, "failed")
    closed = ledger.launch(launch)
    assert closed.status == "failed" and closed.ended is not None


def test_a_launch_that_is_not_there_is_named(ledger: Ledger) -> None:
    with pytest.raises(KeyError, match="no launch 7 in "):
        ledger.launch(7)
