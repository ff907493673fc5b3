"""Ablations by mode: which rows they stand for, and what is said of a wrong one."""

from collections.abc import Callable, Mapping
from pathlib import Path
from platform.study.errors import StudyErrors
from platform.study.resolved import meaning, resolved
from platform.study.study import Study, load_study
from typing import Any

import pytest

Write = Callable[..., Path]
BEST = {"neighbors.k": 5, "spc.threshold": 0.7}


def best_of(study: str) -> Mapping[str, Any]:
    if study != "wide":
        raise LookupError(f"no study {study!r} has run here.")
    return BEST


def rows(study: Study) -> dict[str, dict[str, Any]]:
    return {row.name: dict(row.changes) for row in study.ablate}


def errors(write: Write, ablate: str) -> str:
    with pytest.raises(StudyErrors) as caught:
        load_study(write(f"method: spc\nablate:\n{ablate}"), best_of=best_of)
    return str(caught.value)


PARTS = "  parts:\n    few: {neighbors.k: 3}\n    off: {spc.refine: false}\n"


def test_leave_one_out_is_the_whole_and_then_each_part_missing(write: Write) -> None:
    study = load_study(write(f"method: spc\nablate:\n  mode: leave_one_out\n{PARTS}"))
    assert rows(study) == {"whole": {}, "without few": {"neighbors.k": 3}, "without off": {"spc.refine": False}}
    assert study.trials == 3


@pytest.mark.parametrize(
    ("cumulative", "last"), [("false", {"spc.refine": False}), ("true", {"neighbors.k": 3, "spc.refine": False})]
)
def test_add_one_adds_each_part_to_the_base_or_to_the_row_above(write: Write, cumulative: str, last: Any) -> None:
    text = f"method: spc\nablate:\n  mode: add_one\n  cumulative: {cumulative}\n{PARTS}"
    assert rows(load_study(write(text))) == {"base": {}, "+ few": {"neighbors.k": 3}, "+ off": last}


def test_one_factor_changes_one_setting_at_a_time_and_never_to_what_it_is(write: Write) -> None:
    text = """
        method: spc
        fixed: {neighbors.k: 5}
        ablate: {mode: one_factor, values: {neighbors.k: [5, 10], spc.threshold: [0.9, 0.95, 0.99]}}
    """
    assert rows(load_study(write(text))) == {
        "base": {},
        "neighbors.k = 10": {"neighbors.k": 10},
        "spc.threshold = 0.9": {"spc.threshold": 0.9},
        "spc.threshold = 0.99": {"spc.threshold": 0.99},
    }


def test_the_best_setting_of_another_study_is_taken_apart(write: Write) -> None:
    study = load_study(write("method: spc\nablate: {mode: leave_one_out, from: wide}\n"), best_of=best_of)
    assert study.fixed == BEST
    assert rows(study) == {
        "whole": {},
        "without neighbors.k": {"neighbors.k": 20},
        "without spc.threshold": {"spc.threshold": 0.95},
    }


def test_a_row_made_of_the_best_setting_stands_where_the_mode_does(write: Write) -> None:
    path = write("method: spc\nfixed: {spc.batch_size: 40}\nablate:\n  mode: leave_one_out\n  from: wide\n")
    with pytest.raises(StudyErrors) as caught:
        load_study(path, best_of=lambda study: {"spc.sure_size": 32})
    # Its default, with which the part is left out, is beyond another setting's value in this base.
    assert "spc.yaml:3: ablate.without spc.sure_size.spc.sure_size: sure_size must be below" in str(caught.value)


def test_the_best_setting_is_put_together_again(write: Write) -> None:
    study = load_study(write("method: spc\nablate: {mode: add_one, from: wide, cumulative: true}\n"), best_of=best_of)
    assert study.fixed == {}
    assert rows(study) == {
        "base": {},
        "+ neighbors.k": {"neighbors.k": 5},
        "+ spc.threshold": {"neighbors.k": 5, "spc.threshold": 0.7},
    }


def test_single_factors_move_around_the_best_setting(write: Write) -> None:
    text = "method: spc\nablate: {mode: one_factor, from: wide, values: {spc.threshold: [0.7, 0.9]}}\n"
    study = load_study(write(text), best_of=best_of)
    assert study.fixed == BEST and rows(study) == {"base": {}, "spc.threshold = 0.9": {"spc.threshold": 0.9}}


def test_another_best_setting_is_another_study(write: Write) -> None:
    path = write("method: spc\nablate: {mode: leave_one_out, from: wide}\n")
    other = load_study(path, best_of=lambda study: {**BEST, "spc.threshold": 0.6})
    assert meaning(load_study(path, best_of=best_of)) != meaning(other)


def test_the_rows_written_out_are_the_same_study(write: Write) -> None:
    study = load_study(write(f"method: spc\nablate:\n  mode: add_one\n{PARTS}  published: {{acc: 83.5}}\n"))
    assert study.ablate[0].published == {"acc": 83.5}
    again = resolved(study)["ablate"]
    assert again == {
        "base": {"published": {"acc": 83.5}},
        "+ few": {"neighbors.k": 3},
        "+ off": {"spc.refine": False},
    }


def test_published_values_of_a_part_stay_with_its_row(write: Write) -> None:
    parts = "  parts: {few: {neighbors.k: 3, published: {acc: 80.0}}, many: {neighbors.k: 30}}\n"
    study = load_study(write(f"method: spc\nablate:\n  mode: add_one\n  cumulative: true\n{parts}"))
    assert [dict(row.published) for row in study.ablate] == [{}, {"acc": 80.0}, {}]


def test_a_row_may_still_be_called_mode(write: Write) -> None:
    study = load_study(write("method: spc\nablate: {mode: {neighbors.k: 3}, rest: {}}\n"))
    assert rows(study) == {"mode": {"neighbors.k": 3}, "rest": {}}


@pytest.mark.parametrize(
    ("ablate", "said"),
    [
        ("  mode: leave_on_out\n", "spc.yaml:3: ablate.mode: mode 'leave_on_out' does not exist. Did you mean"),
        ("  mode: add_one\n", "spc.yaml:3: ablate.mode: ablate.mode is 'add_one', which needs parts. Write parts: {"),
        ("  mode: one_factor\n  from: wide\n", "ablate.mode is 'one_factor', which needs values. Write values: {"),
        ("  mode: leave_one_out\n  cumulative: true\n  parts: {a: {neighbors.k: 3}}\n",
         "spc.yaml:4: ablate.cumulative: cumulative is not a key of mode leave_one_out."),
        ("  mode: add_one\n  parts: [few]\n", "spc.yaml:4: ablate.parts: ablate.parts must be a mapping of keys to v"),
        ("  mode: add_one\n  parts: {few: 3}\n", "ablate.parts.few must be a mapping of keys to values, but is"),
        ("  mode: one_factor\n  values: {neighbors.k: 3}\n", "values.neighbors.k must be a list in brackets, such"),
        ("  mode: add_one\n  parts: {}\n", "spc.yaml:4: ablate.parts: ablate.parts must be not empty, but is {}."),
        ("  mode: add_one\n  parts:\n    few: {}\n", "spc.yaml:5: ablate.parts.few: ablate.parts.few must be not"),
        ("  mode: one_factor\n  values: {neighbors.k: []}\n", "values.neighbors.k must be not empty, but is []"),
        ("  mode: leave_one_out\n  from: ''\n", "ablate.from must be not empty, but is ''."),
        ("  mode: leave_one_out\n  from: narrow\n", "spc.yaml:4: ablate.from: no study 'narrow' has run here."),
        ("  mode: leave_one_out\n  from: [wide]\n", "spc.yaml:4: ablate.from: ablate.from must be text, but is ['"),
        ("  mode: add_one\n  cumulative: 1\n  parts: {a: {neighbors.k: 3}}\n", "cumulative must be true or false, but"),
        ("  mode: add_one\n  parts:\n    few: {neighbors.kk: 3}\n", "spc.yaml:5: ablate.+ few.neighbors.kk: "),
        ("  mode: add_one\n  parts:\n    few: {neighbors.k: 0}\n", "spc.yaml:5: ablate.+ few.neighbors.k: "),
        ("  mode: add_one\n  parts:\n    a: {neighbors.k: 3}\n    b: {neighbors.k: 3}\n", "same settings as '+ a'"),
    ],
)  # fmt: skip
def test_a_wrong_mode_is_said_where_it_stands(write: Write, ablate: str, said: str) -> None:
    assert said in errors(write, ablate)
