"""What is sent, in which order, and that a kill between any two calls costs and doubles nothing. Without MLflow."""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from platform.ledger.ledger import Ledger
from platform.ledger.rows import Configuration, Launch, Trial
from platform.tracking.run_metadata import Point
from platform.tracking.sync import PARENT, TARGET, Run, TrackerSync, unsent
from typing import Any

import pytest

from trainables.runner.messages import EpochRecord, StageRecord

RESOLVED = {"method": "spc", "objective": {"metric": "spc/selection_loss", "mode": "min"}, "trials": 2}
STAGES = [StageRecord("spc", "spc", "a1", cached=False, seconds=1.0)]

_IDS = itertools.count()


class Killed(BaseException):
    """The process is gone."""


@dataclass
class Kept:
    """One run of the tracker below."""

    key: str
    name: str
    tags: dict[str, str]
    parent: str
    status: str = "RUNNING"
    params: dict[str, str] = field(default_factory=dict)
    points: list[tuple[str, int, float]] = field(default_factory=list)
    drawn: int = 0


class FakeTracker:
    """A tracker in memory, whose call number ``fails_at`` raises ``error``, after it took effect or before."""

    def __init__(self) -> None:
        self.kept: dict[str, Kept] = {}
        self.calls = 0
        self.fails_at: int | None = None
        self.after = False
        self.error: Callable[[], BaseException] = Killed

    def _call(self, effect: Callable[[], Any]) -> Any:
        self.calls += 1
        failing = self.calls == self.fails_at
        if failing and not self.after:
            raise self.error()
        result = effect()
        if failing:
            raise self.error()
        return result

    def runs(self, study: str, launch_id: str) -> Sequence[Run]:
        return self._call(lambda: [Run(name, kept.key, kept.status) for name, kept in self.kept.items()])  # type: ignore[no-any-return, arg-type]

    def create(self, name: str, tags: Mapping[str, str], started_s: float, parent: str) -> str:
        def make() -> str:
            run = f"run{next(_IDS)}"
            self.kept[run] = Kept(tags["clustersweep.key"], name, dict(tags), parent)
            return run

        return str(self._call(make))

    def log(self, run: str, points: Sequence[Point] = (), tags: Mapping[str, str] | None = None) -> None:
        def add() -> None:
            self.kept[run].points += [(each.key, each.step, each.value) for each in points]
            self.kept[run].tags |= tags or {}

        self._call(add)

    def describe(self, run: str, params: Mapping[str, str]) -> None:
        def describe() -> None:
            for name, value in params.items():
                assert self.kept[run].params.setdefault(name, value) == value, "a parameter cannot change"

        self._call(describe)

    def steps(self, run: str, metric: str) -> set[int]:
        return self._call(lambda: {step for key, step, _ in self.kept[run].points if key == metric})  # type: ignore[no-any-return]

    def mark(self, run: str, status: str, ended_s: float | None = None) -> None:
        self._call(lambda: setattr(self.kept[run], "status", status))

    def draw(self, run: str, trial: Trial) -> None:
        self._call(lambda: setattr(self.kept[run], "drawn", 1))

    def by_key(self) -> dict[str, Kept]:
        found = {kept.key: kept for kept in self.kept.values()}
        assert len(found) == len(self.kept), "a trial has two runs"
        return found


def trial_spec(seed: int = 0, threshold: float = 0.95) -> dict[str, Any]:
    return {
        "kind": "trial",
        "method": "spc",
        "pretext": "",
        "changes": {"spc.strong_threshold": threshold},
        "dataset": {"name": "digits"},
        "fingerprint": "f0",
        "seed": seed,
        "until": "",
        "storage": "/nowhere",
        "threads": 1,
    }


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    opened = Ledger(tmp_path / "ledger.db")
    yield opened
    opened.close()


@pytest.fixture
def launch(ledger: Ledger) -> Launch:
    """Two settings of one seed, both still to be run."""
    opened = ledger.open_launch("spc", {}, RESOLVED, lookahead=2)
    for number, threshold in enumerate((0.9, 0.95)):
        ledger.add_configuration(opened.id, Configuration(number, "", {"spc.strong_threshold": threshold}))
        ledger.add_trials(opened.id, [(f"key{number}", trial_spec(threshold=threshold))], configuration=number)
    return opened


def run_epochs(ledger: Ledger, launch: Launch, key: str, numbers: Sequence[int]) -> None:
    rows = [EpochRecord("spc", n, 3, {"loss": 1.0 / n, "acc": 0.1 * n}) for n in numbers]
    ledger.add_epochs(launch.id, key, rows)


def finish(ledger: Ledger, launch: Launch, key: str) -> None:
    ledger.finish(launch.id, key, {"spc/loss": 0.25, "acc": 0.5}, STAGES, 1.0)


def test_a_trial_that_has_not_begun_has_no_run(ledger: Ledger, launch: Launch) -> None:
    tracker = FakeTracker()
    TrackerSync(ledger, launch.id, tracker).send()
    assert set(tracker.by_key()) == {PARENT}


def test_a_child_hangs_on_its_launch_and_is_named_by_what_is_swept(ledger: Ledger, launch: Launch) -> None:
    tracker = FakeTracker()
    ledger.start(launch.id, "key1")
    outbox = TrackerSync(ledger, launch.id, tracker)
    outbox.send()
    child = tracker.by_key()["key1"]
    assert (child.name, child.parent, child.status) == ("δ=0.95 · seed 0", outbox.parent, "RUNNING")


def test_epochs_arrive_once_in_the_order_of_the_ledger(ledger: Ledger, launch: Launch) -> None:
    tracker = FakeTracker()
    outbox = TrackerSync(ledger, launch.id, tracker)
    ledger.start(launch.id, "key0")
    run_epochs(ledger, launch, "key0", [1])
    outbox.send()
    run_epochs(ledger, launch, "key0", [2])
    outbox.send()
    outbox.send()
    losses = [point for point in tracker.by_key()["key0"].points if point[0] == "spc/loss"]
    assert losses == [("spc/loss", 1, 1.0), ("spc/loss", 2, 0.5)]


def test_final_metrics_are_the_newest_points(ledger: Ledger, launch: Launch) -> None:
    # spc/loss ends at 1/3 in epoch 3 and is 0.25 finally: step 4. The bare acc has no epochs: step 0.
    tracker = FakeTracker()
    ledger.start(launch.id, "key0")
    run_epochs(ledger, launch, "key0", [1, 2, 3])
    finish(ledger, launch, "key0")
    TrackerSync(ledger, launch.id, tracker).send()
    points = tracker.by_key()["key0"].points
    assert ("spc/loss", 4, 0.25) in points and ("acc", 0, 0.5) in points


def test_more_than_a_thousand_points_go_in_whole_epochs(ledger: Ledger, launch: Launch) -> None:
    tracker = FakeTracker()
    sizes: list[int] = []
    log = tracker.log
    tracker.log = lambda run, points=(), tags=None: (sizes.append(len(points)), log(run, points, tags))[1]  # type: ignore[method-assign, func-returns-value]
    ledger.start(launch.id, "key0")
    rows = [EpochRecord("spc", n, 5, {f"m{i}": i for i in range(300)}) for n in range(5)]
    ledger.add_epochs(launch.id, "key0", rows)
    TrackerSync(ledger, launch.id, tracker).send()
    assert sizes == [900, 600]


def test_settling_leaves_no_run_running_and_kills_what_was_interrupted(ledger: Ledger, launch: Launch) -> None:
    tracker = FakeTracker()
    ledger.start(launch.id, "key0")
    ledger.start(launch.id, "key1")
    finish(ledger, launch, "key1")
    outbox = TrackerSync(ledger, launch.id, tracker)
    outbox.send()
    outbox.settle()
    found = tracker.by_key()
    assert {key: kept.status for key, kept in found.items()} == {PARENT: "KILLED", "key0": "KILLED", "key1": "FINISHED"}
    assert found["key0"].tags["clustersweep.status"] == "interrupted"
    assert found[PARENT].tags["clustersweep.num_done"] == "1"


@pytest.mark.parametrize(
    ("said", "expected"), [("", "KILLED"), ("interrupted", "KILLED"), ("failed", "FAILED"), ("done", "FINISHED")]
)
def test_the_parent_ends_as_its_launch_did(ledger: Ledger, launch: Launch, said: str, expected: str) -> None:
    tracker = FakeTracker()
    ledger.start(launch.id, "key0")
    finish(ledger, launch, "key0")
    if said:
        ledger.close_launch(launch.id, said)
    outbox = TrackerSync(ledger, launch.id, tracker)
    outbox.send()
    outbox.settle()
    assert tracker.by_key()[PARENT].status == expected


def test_a_failed_trial_says_why_without_the_password(ledger: Ledger, launch: Launch) -> None:
    tracker = FakeTracker()
    ledger.start(launch.id, "key0")
    ledger.fail(launch.id, "key0", "RuntimeError: postgresql://me:sesame@host/db is away")
    TrackerSync(ledger, launch.id, tracker).send()
    kept = tracker.by_key()["key0"]
    assert kept.status == "FAILED"
    assert kept.tags["clustersweep.reason"] == "RuntimeError: postgresql://me:***@host/db is away"


def test_a_resumed_launch_continues_its_runs(ledger: Ledger, launch: Launch) -> None:
    tracker = FakeTracker()
    ledger.start(launch.id, "key0")
    run_epochs(ledger, launch, "key0", [1])
    ledger.start(launch.id, "key1")
    ledger.fail(launch.id, "key1", "process lost")
    outbox = TrackerSync(ledger, launch.id, tracker)
    outbox.send()
    outbox.settle()
    ledger.close_launch(launch.id, "interrupted")
    ledger.open_launch("spc", {}, RESOLVED, lookahead=2)

    later = TrackerSync(ledger, launch.id, tracker)
    later.send()
    waiting = {key: kept.status for key, kept in tracker.by_key().items()}
    for key in ("key0", "key1"):
        ledger.start(launch.id, key)
        run_epochs(ledger, launch, key, [1, 2])
        finish(ledger, launch, key)
    ledger.close_launch(launch.id, "done")
    later.send()
    later.settle()
    found = tracker.by_key()
    assert waiting == {PARENT: "RUNNING", "key0": "KILLED", "key1": "FAILED"}
    assert {kept.status for kept in found.values()} == {"FINISHED"}
    assert found["key1"].tags["clustersweep.reason"] == ""
    assert sorted(step for key, step, _ in found["key0"].points if key == "spc/acc") == [1, 2]


def _launch_until_done(ledger: Ledger, launch: Launch, send: Callable[[], None]) -> None:
    """One trial with epochs and figures, one that fails; ``send`` is called on the way."""
    ledger.start(launch.id, "key0")
    run_epochs(ledger, launch, "key0", [1, 2])
    send()
    run_epochs(ledger, launch, "key0", [3])
    finish(ledger, launch, "key0")
    ledger.start(launch.id, "key1")
    ledger.fail(launch.id, "key1", "Diverged: loss is nan")
    ledger.close_launch(launch.id, "failed")
    send()


def _clean(tmp_path: Path) -> tuple[dict[str, Kept], int]:
    tracker = FakeTracker()
    ledger = Ledger(tmp_path / "clean.db")
    launch = _fresh_launch(ledger)
    outbox = TrackerSync(ledger, launch.id, tracker)
    _launch_until_done(ledger, launch, outbox.send)
    outbox.settle()
    ledger.close()
    return tracker.by_key(), tracker.calls


def _fresh_launch(ledger: Ledger) -> Launch:
    launch = ledger.open_launch("spc", {}, RESOLVED, lookahead=2)
    for number, threshold in enumerate((0.9, 0.95)):
        ledger.add_configuration(launch.id, Configuration(number, "", {"spc.strong_threshold": threshold}))
        ledger.add_trials(launch.id, [(f"key{number}", trial_spec(threshold=threshold))], configuration=number)
    return launch


def _content(kept: Mapping[str, Kept]) -> dict[str, Any]:
    # The id of a launch holds its time, a failed trial's status its attempt; everything else must be equal.
    own = ("clustersweep.launch_id", "clustersweep.reason")
    return {
        key: (each.name, each.status, each.params, sorted(each.points), each.drawn)
        + tuple(sorted(item for item in each.tags.items() if item[0] not in own))
        for key, each in kept.items()
    }


class Driver:
    """Tries again after an error, and starts anew after a kill."""

    def __init__(self, ledger: Ledger, launch: Launch, tracker: FakeTracker) -> None:
        self._parts = ledger, launch.id, tracker
        self._outbox = TrackerSync(*self._parts)

    def send(self) -> None:
        self._do("send")

    def settle(self) -> None:
        self._do("settle")

    def _do(self, what: str) -> None:
        try:
            getattr(self._outbox, what)()
        except BaseException as error:
            if isinstance(error, Killed):
                self._outbox = TrackerSync(*self._parts)
            getattr(self._outbox, what)()


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("error", [Killed, OSError], ids=["kill", "lost_answer"])
def test_a_failure_at_any_call_leaves_the_same_runs(tmp_path: Path, after: bool, error: type[BaseException]) -> None:
    expected, num_calls = _clean(tmp_path)
    assert num_calls > 15
    for fails_at in range(1, num_calls + 1):
        ledger = Ledger(tmp_path / f"ledger{fails_at}.db")
        launch = _fresh_launch(ledger)
        tracker = FakeTracker()
        tracker.fails_at, tracker.after, tracker.error = fails_at, after, error
        driver = Driver(ledger, launch, tracker)
        _launch_until_done(ledger, launch, driver.send)
        driver.settle()
        assert _content(tracker.by_key()) == _content(expected), f"call {fails_at}"
        ledger.close()


def test_another_tracker_gets_everything_from_the_start(ledger: Ledger, launch: Launch) -> None:
    _launch_until_done(ledger, launch, TrackerSync(ledger, launch.id, FakeTracker()).send)
    second = FakeTracker()
    TrackerSync(ledger, launch.id, second).send()
    steps = [step for key, step, _ in second.by_key()["key0"].points if key == "spc/loss"]
    assert sorted(steps) == [1, 2, 3, 4]


def test_a_finished_run_that_its_owner_deleted_is_not_made_again(ledger: Ledger, launch: Launch) -> None:
    tracker = FakeTracker()
    _launch_until_done(ledger, launch, TrackerSync(ledger, launch.id, tracker).send)
    del tracker.kept[ledger.export(TARGET, launch.id, "key0")[0]]
    TrackerSync(ledger, launch.id, tracker).send()
    assert "key0" not in tracker.by_key()


def test_one_trial_that_is_refused_does_not_keep_the_others_back(ledger: Ledger, launch: Launch) -> None:
    class Refusing(FakeTracker):
        def describe(self, run: str, params: Mapping[str, str]) -> None:
            if self.kept[run].key == "key0":
                raise ValueError("no such parameter")

    tracker = Refusing()
    ledger.start(launch.id, "key0")
    ledger.start(launch.id, "key1")
    finish(ledger, launch, "key1")
    with pytest.raises(ValueError, match="no such parameter"):
        TrackerSync(ledger, launch.id, tracker).send()
    assert tracker.by_key()["key1"].status == "FINISHED"


def test_what_is_sent_and_closed_is_not_read_again(
    ledger: Ledger, launch: Launch, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    since = ledger.trials_since

    def noted(number: int, sequence: int) -> list[Trial]:
        found = since(number, sequence)
        read.extend(trial.key for trial in found)
        return found

    monkeypatch.setattr(ledger, "trials_since", noted)
    outbox = TrackerSync(ledger, launch.id, FakeTracker())
    for key in ("key0", "key1"):
        ledger.start(launch.id, key)
    finish(ledger, launch, "key1")
    outbox.send()
    read.clear()
    outbox.send()
    assert read == ["key0"]


def test_what_was_refused_is_sent_later_although_others_ended_after_it(ledger: Ledger, launch: Launch) -> None:
    tracker = FakeTracker()
    outbox = TrackerSync(ledger, launch.id, tracker)
    outbox.send()
    for key in ("key0", "key1"):
        ledger.start(launch.id, key)
        finish(ledger, launch, key)
    tracker.error, tracker.fails_at = OSError, tracker.calls + 1
    with pytest.raises(OSError):
        outbox.send()
    assert tracker.by_key()["key1"].status == "FINISHED"
    outbox.send()
    assert tracker.by_key()["key0"].status == "FINISHED"


def test_unsent_counts_trials_and_epochs(ledger: Ledger, launch: Launch) -> None:
    _launch_until_done(ledger, launch, lambda: None)
    assert unsent(ledger, launch.id) == (2, 3)
    TrackerSync(ledger, launch.id, FakeTracker()).send()
    assert unsent(ledger, launch.id) == (0, 0)


def test_an_older_copy_of_the_ledger_doubles_no_point(
    ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A ledger without its log lacks the newest notes, of more than one call."""
    monkeypatch.setattr("platform.tracking.sync._BATCH", 1)
    launch = ledger.open_launch("digits_spc", {}, RESOLVED, lookahead=2, facts={})
    ledger.add_trials(launch.id, [("key0", trial_spec())])
    ledger.start(launch.id, "key0")
    ledger.add_epochs(launch.id, "key0", [EpochRecord("spc", n, 4, {"loss": 1.0 / n, "acc": 0.1}) for n in range(1, 5)])
    ledger.finish(launch.id, "key0", {"spc/loss": 0.25}, STAGES, 1.0, {})
    tracker = FakeTracker()
    TrackerSync(ledger, launch.id, tracker).send()
    before = list(tracker.by_key()["key0"].points)
    run, _, _ = ledger.export(TARGET, launch.id, "key0")
    for last_id in (0, 1, 2):
        ledger.note_export(TARGET, launch.id, "key0", run, last_id, False)
        TrackerSync(ledger, launch.id, tracker).send()
        assert tracker.by_key()["key0"].points == before
