"""grid, start and several objectives: read, refused, and written out again."""

from collections.abc import Callable
from pathlib import Path
from platform.study.errors import StudyErrors
from platform.study.plan import rows
from platform.study.resolved import meaning, resolved
from platform.study.study import Objective, load_study

import pytest
import yaml

Write = Callable[[str], Path]

PAGE = """\
method: spc
seeds: [0, 1]
grid: {neighbors.k: [5, 20]}
search: {spc.threshold: {uniform: [0.5, 0.9]}, pretext.lr: {loguniform: [0.001, 0.1]}}
start: [paper, {pretext.lr: 0.01}]
objective: [{metric: spc/loss, mode: min}, {metric: spc/agreement, mode: max}]
trials: 5
"""


def refusal(write: Write, text: str) -> str:
    with pytest.raises(StudyErrors) as caught:
        load_study(write(text))
    return str(caught.value)


def test_a_page_with_all_of_them(write: Write) -> None:
    study = load_study(write(PAGE))
    assert study.objectives == (Objective(metric="spc/loss", mode="min"), Objective(metric="spc/agreement", mode="max"))
    assert study.objective == study.objectives[0]
    assert (study.trials, study.num_settings, list(study.swept)[0]) == (5, 10, "neighbors.k")
    assert study.start[1]["pretext.lr"] == 0.01 and study.start[0]["pretext.lr"] == study.given.default("pretext.lr")
    shown = rows(study)
    assert "trials     10 settings x 2 seeds = 20" in shown
    assert any("in each of 2 combinations" in line for line in shown)


def test_written_out_it_gives_the_same_study(write: Write, tmp_path: Path) -> None:
    study = load_study(write(PAGE))
    again = tmp_path / "again.yaml"
    again.write_text(yaml.safe_dump(resolved(study)))
    assert meaning(load_study(again)) == meaning(study)
    assert resolved(load_study(again)) == resolved(study)


def test_one_objective_is_written_as_ever(write: Write) -> None:
    listed = load_study(write("method: spc\nobjective: [{metric: spc/loss, mode: min}]\n"))
    alone = load_study(write("method: spc\nobjective: {metric: spc/loss, mode: min}\n"))
    assert resolved(listed)["objective"] == resolved(alone)["objective"] == {"metric": "spc/loss", "mode": "min"}
    assert "grid" not in resolved(alone) and "start" not in resolved(alone)


def test_a_changed_grid_or_start_is_another_study(write: Write) -> None:
    study = meaning(load_study(write(PAGE)))
    assert meaning(load_study(write(PAGE.replace("[5, 20]", "[5, 10]")))) != study
    assert meaning(load_study(write(PAGE.replace("pretext.lr: 0.01", "pretext.lr: 0.02")))) != study


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (
            "method: spc\ngrid: {pretext.lr: {uniform: [0.1, 0.2]}}\n",
            "spc.yaml:2: grid.pretext.lr: pretext.lr is continuous, so a grid over it has no end.",
        ),
        (
            "method: spc\ngrid: {pretext.rl: [1]}\n",
            "spc.yaml:2: grid.pretext.rl: pretext.rl is not a setting of 'spc'. Did you mean 'pretext.lr'?",
        ),
        (
            "method: spc\ngrid: {spc.epochs: [1, 2]}\nsearch: {spc.epochs: [1, 2]}\n",
            "spc.yaml:2: grid.spc.epochs: spc.epochs is under grid and under search.",
        ),
        (
            "method: spc\ngrid: {spc.epochs: [1, 2]}\nablate: {a: {}}\n",
            "spc.yaml:3: ablate: grid and ablate exclude each other.",
        ),
        ("method: spc\nstart: paper\n", "spc.yaml:2: start: start gives the first settings of a search, but there is"),
        (
            "method: spc\nsearch: {spc.epochs: [1, 2]}\nstart: [papr]\n",
            "spc.yaml:3: start.0: a start is paper or a mapping of searched settings to values, but is 'papr'.",
        ),
        (
            "method: spc\nsearch: {spc.epochs: [1, 2]}\nstart: {pretext.lr: 0.1}\n",
            "spc.yaml:3: start.0.pretext.lr: pretext.lr is not under search.",
        ),
        (
            "method: spc\nsearch: {spc.epochs: [1, 2, 3]}\nstart: {spc.epochs: 0}\n",
            "spc.yaml:3: start.0.spc.epochs: spc.epochs must be at least 1",
        ),
        (
            "method: spc\nsearch: {spc.epochs: [1, 2, 3]}\nstart: [paper, {spc.epochs: 2}]\ntrials: 1\n",
            "spc.yaml:3: start: start lists 2 settings, but trials is 1. Raise trials.",
        ),
        ("method: spc\nobjective: []\n", "spc.yaml:2: objective: objective must have at least one metric"),
        (
            "method: spc\nobjective: [{metric: spc/loss, mode: min}, {metric: spc/los, mode: min}]\n",
            "spc.yaml:2: objective.1.metric: metric 'spc/los' does not exist in this pipeline.",
        ),
        (
            "method: spc\nobjective: [{metric: spc/loss, mode: min}, {metric: spc/loss, mode: max}]\n",
            "spc.yaml:2: objective.1.metric: 'spc/loss' stands twice under objective.",
        ),
        (
            "method: spc\nobjective: [{metric: spc/loss, mode: min}, {metric: spc/acc, mode: max}]\n",
            "spc.yaml:2: objective.1.metric: objective.metric must be label-free, but 'spc/acc' looks at labels",
        ),
        (
            "method: spc\nobjective: [{metric: spc/loss, mode: min}, {metric: spc/agreement}]\n",
            "spc.yaml:2: objective.1.mode: objective.1.mode is missing.",
        ),
        (
            "method: spc\nsearch: {pretext.lr: {uniform: [0.1, 0.2]}}\nsampler: {name: cmaes, population: 2}\n",
            "spc.yaml:3: sampler: cmaes needs a population of at least 4.",
        ),
        (
            "method: spc\nsearch: {pretext.lr: {uniform: [0.1, 0.2]}}\nsampler: cmaes\n",
            "spc.yaml:3: sampler: cmaes needs at least two searched settings.",
        ),
        (
            "method: spc\nsearch: {spc.threshold: {uniform: [0.1, 0.2]}, pretext.views: [affine]}\nsampler: cmaes\n",
            "spc.yaml:3: sampler: cmaes moves in numbers, but pretext.views is a choice of words.",
        ),
        (
            "method: spc\nsearch: {pretext.lr: {uniform: [0.1, 0.2]}, spc.epochs: {int: [1, 5]}}\nsampler: cmaes\n"
            "objective: [{metric: spc/loss, mode: min}, {metric: spc/agreement, mode: max}]\n",
            "spc.yaml:3: sampler: cmaes follows one objective.",
        ),
    ],
)
def test_what_is_wrong_is_named(write: Write, text: str, error: str) -> None:
    assert error in refusal(write, text)


def test_an_oracle_may_have_objectives_of_both_kinds(write: Write) -> None:
    text = "method: spc\noracle: true\nobjective: [{metric: spc/loss, mode: min}, {metric: spc/acc, mode: max}]\n"
    assert [each.metric for each in load_study(write(text)).objectives] == ["spc/loss", "spc/acc"]


def test_a_grid_block_of_a_million_combinations_is_counted(write: Write) -> None:
    names = ("spc.epochs", "neighbors.k", "pretext.epochs")
    text = "method: spc\ngrid:\n" + "".join(f"  {name}: {{int: [2, 101]}}\n" for name in names)
    assert "1,000,000 settings with 1 seed are 1,000,000 trials, but at most 100,000 run" in refusal(write, text)
