from collections.abc import Callable
from pathlib import Path
from platform.study.data_limits import data_errors
from platform.study.domains import Choice, Range
from platform.study.smoke import smoke_study
from platform.study.study import Resources, Study, Tracking, load_study

import pytest

from trainables.data import datasets

Write = Callable[..., Path]


def smoke(write: Write, lines: str) -> Study:
    return smoke_study(
        load_study(write(f"method: spc\ndataset: {{name: mnist, protocol: union, root: /data}}\n{lines}\n"))
    )


def test_the_data_set_becomes_digits_with_the_same_protocol(write: Write) -> None:
    study = smoke(write, "seeds: [4, 5]")
    assert (study.dataset["name"], study.dataset["protocol"], study.seeds) == ("digits", "union", (4,))
    assert study.name == "spc-smoke"
    assert "dataset.name: 'digits' instead of 'mnist'" in study.notes
    assert "seeds: [4] instead of [4, 5]" in study.notes


def test_every_stage_has_two_epochs_at_most(write: Write) -> None:
    study = smoke(write, "fixed: {spc.epochs: 1}")
    assert study.fixed == {"spc.epochs": 1, "pretext.epochs": 2}
    assert "pretext.epochs: 2 instead of 500" in study.notes


def test_swept_epochs_are_fixed(write: Write) -> None:
    study = smoke(write, "search: {spc.epochs: [5, 9], neighbors.k: [5, 9]}")
    assert (list(study.search), study.fixed["spc.epochs"]) == (["neighbors.k"], 2)


def test_two_settings_are_left(write: Write) -> None:
    assert smoke(write, "trials: 12\nsearch: {neighbors.k: [5, 9, 12]}").trials == 2


def test_a_grid_becomes_two_random_settings(write: Write) -> None:
    study = smoke(write, "sampler: grid\nsearch: {neighbors.k: [5, 9, 12]}")
    assert (study.sampler.name, study.trials) == ("random", 2)
    assert "sampler: random instead of grid" in study.notes


def test_an_ablation_keeps_its_rows_and_two_seeds(write: Write) -> None:
    study = smoke(
        write, "seeds: [0, 1, 2]\nablate: {a: {spc.epochs: 9, published: {acc: 80}}, b: {}, c: {spc.refine: false}}"
    )
    assert ([row.name for row in study.ablate], study.trials, study.seeds) == (["a", "b", "c"], 3, (0, 1))
    assert (study.ablate[0].changes, study.ablate[0].published) == ({"spc.epochs": 2}, {})


def test_it_asks_for_no_gpu_and_no_tracking_server(write: Write) -> None:
    study = smoke(write, "resources: {trial: {gpu: 1}}\ntracking: {uri: 'http://host:5000'}\npublished: {spc/acc: 80}")
    assert (study.resources, study.tracking, study.published) == (Resources(), Tracking(), {})


@pytest.mark.parametrize(
    ("domain", "left"),
    [
        # Digits has 1,797 images: 6000 -> 3000 -> 1500, and 4000 -> 2000 -> 1000.
        ("[5, 6000, 4000]", Choice("neighbors.k", (5, 1500, 1000))),
        ("{int: [5, 6000]}", Range("neighbors.k", 5, 1500, whole=True)),
        ("{int: [3000, 6000]}", Choice("neighbors.k", (1500,))),
    ],
)
def test_what_digits_cannot_carry_is_halved_and_said(write: Write, domain: str, left: object) -> None:
    study = smoke(write, f"search: {{neighbors.k: {domain}, spc.threshold: [0.9, 0.95]}}")
    assert study.search["neighbors.k"] == left
    assert any(note.startswith("neighbors.k: ") and note.endswith("for digits carries no more") for note in study.notes)
    shape = datasets.load(datasets.Spec(name="digits", protocol="union")).shape
    assert data_errors(study, shape) == []


def test_a_row_that_digits_cannot_carry_is_halved(write: Write) -> None:
    study = smoke(write, "ablate: {many: {neighbors.k: 6000}, few: {}}")
    assert study.ablate[0].changes == {"neighbors.k": 1500}
    assert "many: neighbors.k: 1500 instead of 6000, for digits carries no more" in study.notes
