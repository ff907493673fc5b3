"""Where a sweep's time goes, from rows as a ledger has them."""

from platform.ledger.rows import DONE, Launch, Trial

import pytest

from benchmarks import where
from trainables.runner.messages import StageRecord


def launch(ended: float | None = 130.0) -> Launch:
    return Launch(1, "study", 1, {}, 1, "done", 100.0, ended, {})


def trial(
    started: float, ended: float, walked: float, stages: dict[str, tuple[float, bool]], attempts: int = 1
) -> Trial:
    rows = [StageRecord(slot, slot, "a", cached, seconds) for slot, (seconds, cached) in stages.items()]
    return Trial(
        f"{started}", "trial", 0, 0, DONE, {}, attempts, {}, {}, rows, "", started, ended, walked, None
    )  # fmt: skip


# Two lanes. The first trial holds one from 106 to 116, of which it walks 9: 6 in a pretext, 2 in SCAN, 1 beside them.
# The second holds the other from 107 to 121: a lost attempt of 4, then 10, of which it computes 8 in SCAN.
TRIALS = [
    trial(106, 116, 9, {"pretext": (6, False), "scan": (2, False)}),
    trial(107, 121, 10, {"pretext": (1, True), "scan": (8, False)}, attempts=2),
]


def test_the_parts_are_each_lanes_share_and_add_up_to_the_launch() -> None:
    found = where.parts(launch(), TRIALS, 2)
    # Idle: two lanes from 106 to 121 are 30, of which 10 + 14 were held.
    expected = {"Ray": 6, "process": 0.5, "walk": 1.5, "lost": 2, "pretext": 3, "scan": 5, "idle": 3, "close": 9}
    assert found == pytest.approx(expected)
    assert sum(found.values()) == pytest.approx(30)


def test_lanes_are_the_trials_that_ran_side_by_side() -> None:
    follower = trial(116, 120, 4, {"scan": (4, False)})
    assert where.most_at_once([*TRIALS, follower]) == 2
    assert where.most_at_once([TRIALS[0], follower]) == 1


def test_an_unfinished_launch_is_refused() -> None:
    for unfinished, trials in ((launch(None), TRIALS), (launch(), [])):
        with pytest.raises(ValueError, match="launch 1 of study is not finished, or no trial of it ran"):
            where.parts(unfinished, trials, 2)


def test_the_record_names_the_largest_part_that_is_no_training() -> None:
    told = where.record({"Ray": 50.0, "scan": 38.0, "idle": 10.0, "walk": 2.0}, {"scan"}, "study")
    assert "(idle, the largest)" in told["claim"]
    assert (told["ours"], told["ratio"]) == (10.0, 0.5)
