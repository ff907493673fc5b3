"""Which changes of a file go on with the study, and which are refused in words."""

from collections.abc import Callable
from pathlib import Path
from platform.study.compatibility import refused
from platform.study.resolved import meaning
from platform.study.study import load_study
from typing import Any

import pytest

Write = Callable[..., Path]

SEARCH = """\
method: spc
search:
  spc.threshold: {uniform: [0.5, 0.9], step: 0.1}
  neighbors.k: {int: [4, 64], log: true}
  pretext.lr: {loguniform: [1.0e-3, 1]}
  spc.refine: [true]
sampler: random
trials: 7
"""
ABLATE = "method: spc\nablate:\n  off: {spc.refine: false}\n  on: {}\n"


def changed(write: Write, text: str, *changes: str) -> list[str]:
    path = write(text)
    return refused(meaning(load_study(path)), meaning(load_study(path, changes)))


@pytest.mark.parametrize(
    "change",
    [
        "trials=9",
        "seeds=[0, 1]",
        "search.spc.threshold={uniform: [0.4, 0.9], step: 0.05}",
        "search.neighbors.k={int: [2, 100], log: true}",
        "search.pretext.lr={loguniform: [1.0e-4, 1]}",
        "search.spc.refine=[true, false]",
        "scheduler={asha: {grace_epochs: 5}}",
        "guard={collapse: {}}",
        "max_failures=3",
        "time_limit=20m",
        "retries=0",
        "resources.trial.cpu=2",
    ],
)
def test_more_of_the_same_study_goes_on(write: Write, change: str) -> None:
    assert changed(write, SEARCH, change) == []


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("search.spc.threshold={uniform: [0.6, 0.9], step: 0.1}", "search.spc.threshold was"),
        ("search.spc.threshold={uniform: [0.45, 0.95], step: 0.1}", "search.spc.threshold was"),
        ("search.spc.threshold={uniform: [0.5, 0.9]}", "search.spc.threshold was"),
        ("search.neighbors.k={int: [4, 64]}", "search.neighbors.k was"),
        ("search.neighbors.k={int: [8, 64], log: true}", "search.neighbors.k was {'int': [4, 64], 'log': True} and"),
        ("search.spc.epochs=[1, 2]", "search.spc.epochs is new: {'choice': [1, 2]}"),
        ("fixed.pretext.epochs=5", "fixed.pretext.epochs was 500 and is now 5"),
        ("sampler=tpe", "sampler.name was 'random' and is now 'tpe'"),
        ("objective={metric: spc/loss, mode: min}", "objective.metric was 'spc/agreement' and is now 'spc/loss'"),
    ],
)
def test_another_study_is_refused_in_words(write: Write, change: str, sentence: str) -> None:
    assert any(each.startswith(sentence) for each in changed(write, SEARCH, change))


def test_a_row_may_be_added_anywhere_but_not_changed_or_taken_out(write: Write) -> None:
    def of(text: str) -> dict[str, Any]:
        return meaning(load_study(write(text)))

    added = ABLATE.replace("  on: {}", "  few: {neighbors.k: 5}\n  on: {}")
    other = ABLATE.replace("spc.refine: false", "spc.epochs: 3")
    assert refused(of(ABLATE), of(added)) == []
    assert refused(of(added), of(ABLATE)) == ["ablate.few was {'neighbors.k': 5} and is gone"]
    assert refused(of(ABLATE), of(other))[-1].startswith("ablate.off was {'spc.refine': False} and is now")


def test_a_setting_that_comes_to_count_with_a_wider_range_is_no_change(write: Write) -> None:
    # crop counts only where views are drawn as SimCLR does, which the wider list allows.
    narrow = "method: spc\nsearch: {pretext.views: [affine]}\n"
    path = write(narrow)
    wide = meaning(load_study(path, ["search.pretext.views=[affine, simclr]"]))
    assert "pretext.crop" in wide["fixed"]
    assert refused(meaning(load_study(path)), wide) == []
