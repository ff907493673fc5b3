"""A study file and the settings of a stage that stand in groups."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from platform.study import hyperparameters, resolved, smoke
from platform.study.domains import Choice
from platform.study.errors import StudyErrors
from platform.study.study import configs, load_study
from types import SimpleNamespace

import pytest
import yaml

from trainables import pipeline, settings

Write = Callable[..., Path]


@dataclass(frozen=True, kw_only=True)
class Correction:
    mode: str = settings.setting("none", "what is corrected", choices=("none", "all"))
    top_k: int = settings.setting(3, "largest probabilities", low=2, symbol="k", when={"mode": ("all",)})
    share: float = settings.setting(0.5, "of the largest entropy", low=0, below=1, when={"refine": (True,)})

    def __post_init__(self) -> None:
        settings.check(self)


@dataclass(frozen=True, kw_only=True)
class Steps:
    lr: float = settings.setting(1e-4, "learning rate", above=0)

    def __post_init__(self) -> None:
        settings.check(self)


@dataclass(frozen=True, kw_only=True)
class Refine:
    refine: bool = settings.setting(True, "false leaves the model as it is")
    epochs: int = settings.setting(50, "passes over the images", low=1, unit="epochs")
    an: Correction = settings.group(Correction)
    optimizer: Steps = settings.group(Steps, lr=0.03)

    def __post_init__(self) -> None:
        settings.check(self)


@pytest.fixture(autouse=True)
def _grouped(_small_pipeline: None, monkeypatch: pytest.MonkeyPatch) -> None:
    stages = pipeline.stages

    def grouped(method: str, pretext: str = "", probes: tuple[str, ...] = ()) -> dict[str, SimpleNamespace]:
        own = stages(method, pretext, probes)
        return own | {"spc": SimpleNamespace(**{**vars(own["spc"]), "Config": Refine})}

    monkeypatch.setattr(pipeline, "stages", grouped)


def refusal(write: Write, text: str) -> str:
    with pytest.raises(StudyErrors) as caught:
        load_study(write(text))
    return str(caught.value)


PAGE = """\
method: spc
fixed: {spc.an.mode: all, spc.optimizer.lr: 1}
search:
  spc.an.top_k: [2, 5]
trials: 2
"""


def test_a_page_names_settings_of_groups_by_their_dotted_names(write: Write) -> None:
    study = load_study(write(PAGE))
    assert study.search == {"spc.an.top_k": Choice("spc.an.top_k", (2, 5))}
    built = configs(study, {"spc.an.top_k": 5})["spc"]
    assert built == Refine(an=Correction(mode="all", top_k=5), optimizer=Steps(lr=1.0))
    assert repr(built.optimizer.lr) == "1.0"


def test_an_override_reaches_into_a_group(write: Write) -> None:
    study = load_study(write(PAGE), ["spc.an.share=0.25", "fixed.spc.optimizer.lr=0.5"])
    assert (study.fixed["spc.an.share"], study.fixed["spc.optimizer.lr"]) == (0.25, 0.5)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("spc.an_top_k", "spc.an_top_k is not a setting of 'spc'. Write 'spc.an.top_k'."),
        ("spc.top_k", "spc.top_k is not a setting of 'spc'. Write 'spc.an.top_k'."),
        ("spc.lr", "spc.lr is not a setting of 'spc'. Write 'spc.optimizer.lr'."),
        ("spc.optimizer.epochs", "spc.optimizer.epochs is not a setting of 'spc'. Write 'spc.epochs'."),
        ("spc.an", "spc.an is a group of settings. Write one of spc.an.mode, spc.an.top_k, spc.an.share."),
        ("spc.an.top_l", "spc.an.top_l is not a setting of 'spc'. Did you mean 'spc.an.top_k'?"),
        ("an.top_k", "an.top_k lacks its stage. Write 'spc.an.top_k'."),
        ("top_k", "top_k lacks its stage. Write 'spc.an.top_k'."),
        ("lr", "lr lacks its stage, and several have it. Write one of pretext.lr, spc.optimizer.lr."),
    ],
)
@pytest.mark.parametrize("section", ["fixed", "search", "ablate"])
def test_a_name_without_its_group_is_refused_with_the_one_to_write(
    write: Write, name: str, sentence: str, section: str
) -> None:
    value = {"fixed": "3", "search": "[3, 4]"}.get(section, "3")
    block = f"row: {{{name}: {value}}}" if section == "ablate" else f"{name}: {value}"
    assert sentence in refusal(write, f"method: spc\n{section}:\n  {block}\n")


@pytest.mark.parametrize(
    ("fixed", "sentence"),
    [
        ("spc.an.top_k: 1", "spc.an.top_k must be at least 2, but is 1. It is: largest probabilities."),
        ("spc.an.share: 50", "It looks like percent; as a share write 0.5."),
        ("spc.an.top_k: 4", "spc.an.top_k counts only while spc.an.mode is 'all', but it is 'none' by default."),
        (
            "{spc.refine: false, spc.an.share: 0.4}",
            "spc.an.share counts only while spc.refine is True, but it is False.",
        ),
        ("spc.an: {mode: all}", "spc.an is a group of settings. Write one of spc.an.mode, spc.an.top_k, spc.an.share."),
    ],
)
def test_a_wrong_value_in_a_group_is_refused(write: Write, fixed: str, sentence: str) -> None:
    fixed = fixed if fixed.startswith("{") else f"{{{fixed}}}"
    assert sentence in refusal(write, f"method: spc\nfixed: {fixed}\n")


def test_the_full_page_names_each_setting_that_counts_and_is_the_same_study(write: Write) -> None:
    full = resolved.resolved(load_study(write(PAGE)))
    assert {name: value for name, value in full["fixed"].items() if name.startswith("spc.")} == {
        "spc.refine": True,
        "spc.epochs": 50,
        "spc.an.mode": "all",
        "spc.an.share": 0.5,
        "spc.optimizer.lr": 1.0,
    }
    again = load_study(write(yaml.safe_dump({**full, "name": "spc"}, sort_keys=False)))
    assert resolved.resolved(again) == full


def test_rows_that_differ_in_a_group_alone_are_two_rows(write: Write) -> None:
    text = "method: spc\nablate:\n  a: {}\n  b: {spc.an.mode: all}\n"
    assert [row.changes for row in load_study(write(text)).ablate] == [{}, {"spc.an.mode": "all"}]
    assert "has the same settings as 'a'" in refusal(write, text.replace("mode: all", "mode: none"))


def test_a_setting_of_a_group_touches_its_stage(write: Write) -> None:
    study = load_study(write(PAGE))
    assert hyperparameters.shared_prefix(study.stages, study.touched) == ("pretext", "neighbors")


def test_a_mode_with_values_runs_through_the_values_of_a_group_but_the_default(write: Write) -> None:
    text = "method: spc\nablate: {mode: one_factor, values: {spc.optimizer.lr: [0.03, 0.1]}}\n"
    assert [row.name for row in load_study(write(text)).ablate] == ["base", "spc.optimizer.lr = 0.1"]


def test_a_smoke_run_keeps_what_stands_in_groups(write: Write) -> None:
    study = load_study(write(PAGE))
    small = smoke.smoke_study(replace(study, dataset=dict(study.dataset)))
    assert (small.fixed["spc.an.mode"], small.fixed["spc.epochs"]) == ("all", smoke.EPOCHS)
    assert list(small.search) == ["spc.an.top_k"]
