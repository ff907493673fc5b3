"""Published recipes by name, and settings that train on labels."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from platform.study import smoke
from platform.study.errors import StudyErrors
from platform.study.resolved import resolved
from platform.study.study import load_study

import pytest

from trainables import pipeline, settings
from trainables.interfaces import EVERY_SET

Write = Callable[..., Path]

PAGE = "method: spc\npreset: repo\ndataset: {name: cifar10}\n"
PRESETS = {
    "repo": {"cifar10": {"threshold": 0.9, "epochs": 7}, "imagenet50": {"epochs": 3}},
    "paper": {"cifar10": {"epochs": 9}},
}


@dataclass(frozen=True, kw_only=True)
class Mining:
    k: int = settings.setting(20, "neighbors mined", low=1)
    same_class: bool = settings.setting(False, "drops false neighbors", oracle=(True,))


@pytest.fixture(autouse=True)
def _declared(monkeypatch: pytest.MonkeyPatch, _small_pipeline: None) -> None:
    stages = pipeline.stages("spc")
    monkeypatch.setattr(stages["spc"], "PRESETS", PRESETS, raising=False)
    monkeypatch.setattr(stages["neighbors"], "Config", Mining)


def refusal(write: Write, text: str) -> str:
    with pytest.raises(StudyErrors) as caught:
        load_study(write(text))
    return str(caught.value)


def test_a_preset_stands_under_what_the_page_fixes(write: Write) -> None:
    study = load_study(write(PAGE + "fixed: {spc.epochs: 4}\n"))
    assert study.fixed == {"spc.threshold": 0.9, "spc.epochs": 4}


def test_a_preset_gives_way_to_what_the_page_searches(write: Write) -> None:
    assert load_study(write(PAGE + "search: {spc.epochs: [5, 6]}\n")).fixed == {"spc.threshold": 0.9}


def test_the_resolved_study_shows_the_values_and_the_name(write: Write) -> None:
    full = resolved(load_study(write(PAGE)))
    assert (full["preset"], full["fixed"]["spc.epochs"], full["fixed"]["spc.threshold"]) == ("repo", 7, 0.9)


def test_presets_of_one_name_differ_by_data_set(write: Write) -> None:
    part = "method: spc\npreset: repo\ndataset: {name: imagenet, classes: lists/imagenet50.txt}\n"
    assert load_study(write(part)).fixed == {"spc.epochs": 3}


def test_a_preset_value_that_cannot_count_any_more_is_no_error(write: Write) -> None:
    full = resolved(load_study(write(PAGE + "fixed: {spc.refine: false}\n")))
    assert "spc.threshold" not in full["fixed"]


def test_an_unknown_preset_gets_the_nearest_one(write: Write) -> None:
    shown = refusal(write, PAGE.replace("repo", "papr"))
    assert shown == "spc.yaml:2: preset: preset 'papr' does not exist for method 'spc'. Did you mean 'paper'?"


def test_a_method_without_presets_says_so(write: Write) -> None:
    text = "method: mining\npreset: repo\nobjective: {metric: pretext/loss, mode: min}\n"
    assert refusal(write, text) == (
        "spc.yaml:2: preset: preset 'repo' does not exist for method 'mining'. Take the line out."
    )


def test_a_data_set_without_a_recipe_is_told_which_have_one(write: Write) -> None:
    shown = refusal(write, "method: spc\npreset: repo\n")
    assert "says nothing about data set 'digits', only about cifar10, imagenet50." in shown


@pytest.mark.parametrize(
    "block",
    ["fixed: {neighbors.same_class: true}", "search: {neighbors.same_class: [false, true]}",
     "grid: {neighbors.same_class: {choice: [false, true]}}",
     "ablate:\n  up: {neighbors.same_class: true}\n  base: {}"],
    ids=["fixed", "search", "grid", "ablate"],
)  # fmt: skip
def test_a_setting_that_trains_on_labels_needs_the_word_oracle(write: Write, block: str) -> None:
    text = f"method: spc\n{block}\n"
    assert "neighbors.same_class trains on labels with this value" in refusal(write, text)
    assert load_study(write(f"oracle: true\n{text}")).oracle


def test_the_harmless_value_of_such_a_setting_needs_no_word(write: Write) -> None:
    assert not load_study(write("method: spc\nfixed: {neighbors.same_class: false}\n")).oracle


@pytest.mark.parametrize(
    "block",
    ["fixed: {spc.threshold: 0.8}", "search: {spc.threshold: [0.8, 0.9]}", "ablate:\n  high: {spc.threshold: 0.9}"],
    ids=["fixed", "search", "ablate"],
)
def test_a_smoke_study_takes_the_value_that_a_stage_has_for_it(
    write: Write, monkeypatch: pytest.MonkeyPatch, block: str
) -> None:
    monkeypatch.setattr(pipeline.stages("spc")["spc"], "SMOKE", {"threshold": 0.1}, raising=False)
    small = smoke.smoke_study(load_study(write(f"method: spc\n{block}\n")))
    assert small.fixed["spc.threshold"] == 0.1
    assert "spc.threshold" not in {*small.search, *(name for row in small.ablate for name in row.changes)}
    assert any(note.startswith("spc.threshold: 0.1") for note in small.notes)


def test_what_a_preset_says_of_every_data_set_stands_under_what_it_says_of_this_one(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    presets = {"repo": {EVERY_SET: {"threshold": 0.5, "epochs": 2}, "cifar10": {"epochs": 7}}}
    monkeypatch.setattr(pipeline.stages("spc")["spc"], "PRESETS", presets, raising=False)
    assert load_study(write(PAGE)).fixed == {"spc.threshold": 0.5, "spc.epochs": 7}
    other = PAGE.replace("cifar10", "mnist")
    assert load_study(write(other)).fixed == {"spc.threshold": 0.5, "spc.epochs": 2}
