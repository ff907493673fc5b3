from collections.abc import Callable
from pathlib import Path
from platform.study.errors import StudyErrors
from platform.study.study import Study, load_study

import pytest

Write = Callable[..., Path]


def load(write: Write, *overrides: str) -> Study:
    return load_study(write("method: spc\ndataset: digits\nsearch: {spc.threshold: [0.9, 0.95]}\n"), overrides)


def test_a_setting_goes_to_fixed(write: Write) -> None:
    assert load(write, "pretext.epochs=40").fixed == {"pretext.epochs": 40}


def test_every_other_key_goes_to_its_place(write: Write) -> None:
    study = load(
        write,
        "seeds=[0, 1]",
        "trials=4",
        "dataset.root=/data",
        "resources.trial.cpu=2",
        "search.neighbors.k=[5, 20]",
        "sampler=random",
        "pretext=rotnet",
    )
    assert (study.seeds, study.trials, study.dataset["name"], study.dataset["root"]) == ((0, 1), 4, "digits", "/data")
    assert (study.resources.trial.cpu, study.sampler.name, study.pretext) == (2.0, "random", "rotnet")
    assert list(study.search) == ["spc.threshold", "neighbors.k"]


def test_an_override_replaces_what_the_file_says(write: Write) -> None:
    assert load(write, "search={neighbors.k: [5]}").touched == ("neighbors.k",)


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("pretext.epohcs=4", "--set #1: fixed.pretext.epohcs: pretext.epohcs is not a setting of 'spc'. Did you mean"),
        ("trials=many", "--set #1: trials: trials must be a whole number, but is 'many'."),
        (
            "pretext.lr=tiny",
            "--set #1: fixed.pretext.lr: pretext.lr must be a number, above 0, but is 'tiny'.",
        ),
        ("trials", "--set #1: an override is KEY=VALUE, but is 'trials'. Write for example --set trials=4."),
        ("trials=", "--set #1: an override is KEY=VALUE, but is 'trials='."),
        ("ablate.a.b=1", "--set #1: ablate.a.b: a row of an ablation cannot be changed by an override."),
        ("seeds=[0", "--set #1: this is not YAML ("),
        ("spc.threshold=0.9", "--set #1: fixed.spc.threshold: spc.threshold is under fixed and under search."),
    ],
)
def test_a_wrong_override_is_shown_by_its_number(write: Write, override: str, sentence: str) -> None:
    with pytest.raises(StudyErrors) as caught:
        load(write, override)
    assert str(caught.value).startswith(sentence)


def test_errors_of_all_overrides_are_reported_together(write: Write) -> None:
    with pytest.raises(StudyErrors) as caught:
        load(write, "trials=many", "seeds=[0, 0]", "pretext.epohcs=4")
    assert [error.file for error in caught.value.errors] == ["--set #1", "--set #2", "--set #3"]
