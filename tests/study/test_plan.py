from collections.abc import Callable
from pathlib import Path
from platform.study.domains import grid_size
from platform.study.errors import StudyErrors
from platform.study.plan import rows, shared_slots
from platform.study.study import load_study

import pytest

from trainables import pipeline

Write = Callable[..., Path]


@pytest.mark.parametrize(
    ("lines", "shared"),
    [
        ("search: {spc.epochs: [1, 2]}", ("pretext", "neighbors")),
        ("search: {neighbors.k: [5, 9]}", ("pretext",)),
        ("search: {spc.epochs: [1, 2], pretext.epochs: [1, 2]}", ()),
        ("ablate: {a: {}, b: {neighbors.k: 5}, c: {spc.epochs: 5}}", ("pretext",)),
        ("seeds: [0]", ("pretext", "neighbors", "spc")),
    ],
)
def test_stages_before_the_first_touched_one_are_shared(write: Write, lines: str, shared: tuple[str, ...]) -> None:
    assert shared_slots(load_study(write(f"method: spc\n{lines}\n"))) == shared


def test_a_grid_is_counted_and_a_continuous_range_has_no_count(write: Write) -> None:
    text = "method: spc\nsearch: {neighbors.k: {int: [1, 1000000]}, spc.epochs: {int: [1, 1000000]}}\n"
    assert grid_size(load_study(write(text)).search) == 10**12
    assert grid_size(load_study(write("method: spc\nsearch: {pretext.lr: {loguniform: [0.1, 1]}}\n")).search) is None


def test_the_plan_says_what_runs_how_often_and_where(write: Write) -> None:
    text = "method: spc\nseeds: [0, 1, 2]\nsearch: {spc.epochs: [5, 9]}\ntrials: 4\n"
    lines = rows(load_study(write(text + "resources: {prepare: {workers: 1, gpu: 1}}\n")))
    assert lines[:2] == ["study      spc (spc.yaml)", "method     spc: pretext -> neighbors -> spc"]
    assert lines[2].startswith("data set   digits (root: ")
    assert lines[3:] == [
        "settings   4 by tpe (seed 0) out of 2",
        "seeds      0, 1, 2",
        "trials     4 settings x 3 seeds = 12",
        "once       pretext, neighbors: 3 runs, one per seed",
        "per trial  spc: 12 runs",
        "objective  spc/agreement, max (label-free)",
        "prepare    1 worker of 1 CPU, 1 GPU each",
        "trial      one process, 1 CPU, 0 GPU",
        "tracking   the storage's own MLflow database",
        "search     spc.epochs: {'choice': [5, 9]}",
    ]


def test_the_plan_of_an_ablation_lists_its_rows(write: Write) -> None:
    lines = rows(load_study(write("method: spc\nablate: {base: {}, short: {spc.epochs: 5}}\n")))
    assert "settings   2 rows of an ablation" in lines
    assert lines[-2:] == ["ablate     base: the base", "ablate     short: {'spc.epochs': 5}"]


def test_an_oracle_is_called_one(write: Write) -> None:
    text = "method: spc\noracle: true\nobjective: {metric: spc/acc, mode: max}\n"
    assert "objective  spc/acc, max (ORACLE: it looks at labels)" in rows(load_study(write(text)))


def test_what_stops_trials_is_in_the_plan(write: Write) -> None:
    text = "method: spc\nsearch: {spc.epochs: [5, 9]}\nscheduler: asha\ntime_limit: 20m\n"
    assert rows(load_study(write(text)))[-2:] == [
        "stops      scheduler: {'asha': {'grace_epochs': 1, 'reduction_factor': 3}}",
        "stops      time_limit: 1200.0",
    ]


@pytest.mark.parametrize(
    ("lines", "error"),
    [
        ("ablate: {a: {}, b: {neighbors.k: 5}}\nscheduler: asha", "every row of an ablation is wanted whole"),
        ("scheduler: median", "there is only one"),
        (
            "search: {spc.epochs: [1, 2]}\nscheduler: {asha: {}, median: {}}",
            "must be one of asha, hyperband and median",
        ),
        ("search: {spc.epochs: [1, 2]}\nscheduler: ashes", "ashes is not a key of scheduler. Did you mean 'asha'"),
        ("time_limit: 20 minutes", "time_limit must be a time above 0, but is '20 minutes'"),
        ("time_limit: 0", "time_limit must be a time above 0, but is 0"),
    ],
)
def test_what_cannot_stop_trials_is_refused(write: Write, lines: str, error: str) -> None:
    with pytest.raises(StudyErrors) as caught:
        load_study(write(f"method: spc\n{lines}\n"))
    assert error in str(caught.value)


def test_a_method_that_trains_on_some_labels_is_said_to(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "trains_on_labels", lambda method: method == "spc")
    assert "objective  spc/agreement, max (label-free; spc trains on some labels)" in rows(
        load_study(write("method: spc\n"))
    )
