"""Rows of an ablation that change the method and the pretext."""

from collections.abc import Callable
from pathlib import Path
from platform.study import compatibility, resolved
from platform.study.data_limits import data_errors
from platform.study.errors import StudyErrors
from platform.study.plan import rows, shared_parts
from platform.study.smoke import smoke_study
from platform.study.study import load_study
from typing import Any

import pytest
import yaml

from trainables.interfaces import DataShape

PAGE = """\
method: scan
dataset: {name: digits}
seeds: [0, 1]
fixed: {pretext.epochs: 3, pretext.temperature: 0.2, scan.epochs: 4}
ablate:
  a: {pretext: rotnet, method: kmeans, published: {kmeans/acc: 27.1}}
  b: {pretext: rotnet}
  c: {method: kmeans, kmeans.restarts: 3}
  d: {}
"""


@pytest.fixture(autouse=True)
def _small_pipeline() -> None:
    """The real pipelines, in place of this folder's small one."""


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str], Path]:
    def written(text: str) -> Path:
        path = tmp_path / "rows.yaml"
        path.write_text(text)
        return path

    return written


Write = Callable[[str], Path]


def refusal(path: Path) -> str:
    with pytest.raises(StudyErrors) as caught:
        load_study(path)
    return str(caught.value)


def test_each_part_has_its_pipeline_and_the_settings_it_knows(write: Write) -> None:
    parts = {part.ablate[0].name: part for part in load_study(write(PAGE)).parts}
    assert [(name, part.method, part.pretext) for name, part in parts.items()] == [
        ("a", "kmeans", "rotnet"),
        ("b", "scan", "rotnet"),
        ("c", "kmeans", ""),
        ("d", "scan", ""),
    ]
    assert dict(parts["a"].fixed) == {"pretext.epochs": 3}
    assert dict(parts["c"].fixed) == {"pretext.epochs": 3, "pretext.temperature": 0.2}
    assert parts["c"].ablate[0].changes == {"kmeans.restarts": 3}


def test_a_row_that_names_the_study_s_own_pipeline_is_in_its_part(write: Write) -> None:
    study = load_study(write("method: kmeans\nablate: {a: {}, b: {pretext: simclr, kmeans.restarts: 3}}\n"))
    (part,) = study.parts
    assert [row.name for row in part.ablate] == ["a", "b"]


def test_a_method_s_row_keeps_the_study_s_pretext(write: Write) -> None:
    study = load_study(write("method: scan\npretext: moco\nablate: {a: {}, b: {method: kmeans}, c: {method: dec}}\n"))
    assert [(part.method, part.pretext) for part in study.parts] == [("scan", "moco"), ("kmeans", "moco"), ("dec", "")]


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("kmeans.restarts: 3", "scan.epochs: 3", "scan.epochs is not a setting of 'kmeans'"),
        ("{pretext: rotnet}", "{pretext: rotnet, pretext.temperature: 0.1}", "pretext.temperature is not a setting"),
        ("scan.epochs: 4", "dec.epochs: 4", "dec.epochs is not a setting"),
        ("b: {pretext: rotnet}", "b: {pretext: rotnett}", "pretext 'rotnett' does not exist. Did you mean"),
        ("method: kmeans, kmeans", "method: kmean, kmeans", "method 'kmean' does not exist. Did you mean"),
        ("b: {pretext: rotnet}", "b: {pretext: 3}", "pretext must be the name of one, but is 3"),
        ("b: {pretext: rotnet}", "b: {pretext: checkpoint}", "a checkpoint is the whole study's"),
        ("b: {pretext: rotnet}", "b: {method: dccm, pretext: rotnet}", "method 'dccm' has no pretext stage"),
        ("kmeans/acc", "scan/acc", "scan/acc is no metric of this pipeline"),
        ("d: {}", "d: {pretext: simclr}\n  e: {}", "the row 'e' has the same settings as 'd'"),
    ],
)
def test_a_row_is_judged_against_its_own_pipeline(write: Write, old: str, new: str, sentence: str) -> None:
    assert old in PAGE
    said = refusal(write(PAGE.replace(old, new)))
    assert sentence in said and "rows.yaml:" in said


def test_a_fixed_setting_must_suit_every_pipeline_that_knows_it(write: Write) -> None:
    assert "pretext.epochs" in refusal(write(PAGE.replace("pretext.epochs: 3", "pretext.epochs: 0")))


def test_the_full_page_is_the_same_study(write: Write) -> None:
    full = resolved.resolved(load_study(write(PAGE)))
    again = load_study(write(yaml.safe_dump({**full, "name": "rows"}, sort_keys=False)))
    assert resolved.resolved(again) == full
    assert full["ablate"]["a"] == {"method": "kmeans", "pretext": "rotnet", "published": {"kmeans/acc": 27.1}}
    # RotNet's and SimCLR's own learning rates differ, so one line under fixed cannot say both.
    assert "pretext.lr" not in full["fixed"]


def test_a_row_with_another_pipeline_may_be_added_and_not_changed(write: Write) -> None:
    def meaning(text: str) -> dict[str, Any]:
        return resolved.meaning(load_study(write(text)))

    without = PAGE.replace("  b: {pretext: rotnet}\n", "")
    assert compatibility.refused(meaning(without), meaning(PAGE)) == []
    changed = PAGE.replace("b: {pretext: rotnet}", "b: {pretext: moco}")
    assert any("ablate.b" in each for each in compatibility.refused(meaning(PAGE), meaning(changed)))


def test_pipelines_of_one_row_share_their_pretext(write: Write) -> None:
    study = load_study(write(PAGE))
    assert [slots for _, slots in shared_parts(study)] == [("pretext",)] * 4
    lines = rows(study)
    assert "pipeline   kmeans: rotnet -> kmeans (1 row); shared: rotnet" in lines
    assert "once       4 runs of shared stages, those of each pipeline once per seed" in lines


def test_a_pipeline_of_several_rows_shares_what_they_leave_alone(write: Write) -> None:
    text = PAGE + "  e: {selflabel.epochs: 3}\n"
    shared = {part.ablate[0].name: slots for part, slots in shared_parts(load_study(write(text)))}
    assert shared["d"] == ("pretext", "neighbors", "kmeans", "scan")


def test_smoke_shortens_every_pipeline(write: Write) -> None:
    small = smoke_study(load_study(write(PAGE)))
    for part in small.parts:
        slots = [slot for slot, stage in part.stages.items() if "epochs" in stage.Config.__dataclass_fields__]
        assert all(part.fixed[f"{slot}.epochs"] == 2 for slot in slots)


def test_what_the_data_forbid_is_found_in_every_pipeline_at_its_row(write: Write) -> None:
    text = "method: kmeans\nablate:\n  a: {}\n  b: {method: scan}\n"
    study = load_study(write(text))
    shape = DataShape(num_train=30, num_eval=30, num_channels=1, image_size_px=8, num_classes=10)
    found = [error for error in data_errors(study, shape) if "neighbors" in str(error)]
    assert found and all(error.line == 4 for error in found)
