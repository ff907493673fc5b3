"""A pipeline that ends earlier: ``until`` on a page and on a row."""

import textwrap
from pathlib import Path
from platform.study.errors import StudyErrors
from platform.study.plan import rows
from platform.study.resolved import resolved
from platform.study.resolved_types import selection_split
from platform.study.smoke import smoke_study
from platform.study.study import load_study
from typing import Any

import pytest
import yaml

from trainables import pipeline, registry
from trainables.runner import pipeline_runner


@pytest.fixture(autouse=True)
def _small_pipeline() -> None:
    """The real pipelines, in place of this folder's small one."""


ENDS = [
    (method, slot) for method in sorted(pipeline.METHODS) for slot in map(registry.slot_of, pipeline.METHODS[method])
]


@pytest.mark.parametrize(("method", "slot"), ENDS)
def test_every_method_ends_after_every_one_of_its_stages(write: Any, method: str, slot: str) -> None:
    slots = list(pipeline.stages(method))
    wanted = slots[: slots.index(slot) + 1]
    with_criterion = [each for each in wanted if pipeline.stages(method)[each].CRITERION]
    objective = "" if with_criterion else f"objective: {{metric: {slot}/nothing, mode: min}}\n"
    path = write(f"method: {method}\nuntil: {slot}\n{objective}")
    if not with_criterion:
        with pytest.raises(StudyErrors, match="does not exist in this pipeline"):
            load_study(path)
        return
    study = load_study(path)
    assert list(study.stages) == wanted
    assert list(smoke_study(study).stages) == wanted
    full = resolved(study)
    path.write_text(yaml.safe_dump(full))
    assert resolved(load_study(path)) == full


def test_a_trial_ends_there_too_and_shares_its_stages_with_the_whole_one() -> None:
    spec: Any = {"pretext": "", "changes": {}, "fingerprint": "f", "seed": 0, "until": ""}
    short = pipeline_runner.addresses({**spec, "method": "scan until scan"})
    assert list(short) == ["pretext", "neighbors", "kmeans", "scan"]
    assert short.items() <= pipeline_runner.addresses({**spec, "method": "scan"}).items()


def test_rows_end_where_they_say_and_compare_the_last_stage_of_each(write: Any) -> None:
    page = """
        method: scan
        until: scan
        fixed: {selflabel.epochs: 3}
        ablate:
          k-means:  {method: kmeans}
          SCAN:     {scan.epochs: 2}
          longer:   {until: selflabel}
          SPC:      {method: spc, until: spc}
        objective: {metric: selection_loss, mode: min}
        """
    study = load_study(write(textwrap.dedent(page)))
    ends = {part.ablate[0].name: list(part.stages)[-1] for part in study.parts}
    assert ends == {"k-means": "kmeans", "SCAN": "scan", "longer": "selflabel", "SPC": "spc"}
    assert [part.fixed.get("selflabel.epochs") for part in study.parts] == [None, None, 3, None]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("method: scan\nuntil: scam\n", "until must be a stage of 'scan', but is 'scam'. Did you mean 'scan'?"),
        ("method: kmeans\nablate: {a: {until: spc}}\n", "until must be a stage of 'kmeans', but is 'spc'."),
        ("method: scan\nobjective: {metric: selection_loss, mode: min}\n", "'selection_loss' does not exist in this"),
        (
            "method: scan\nablate: {a: {until: scan}, b: {}}\nobjective: {metric: acc, mode: max}\n",
            "objective.metric must be label-free, but 'acc' looks at labels",
        ),
        (
            "method: scan\nfixed: {selflabel.epochs: 2}\nablate: {a: {until: scan}, b: {until: kmeans}}\n",
            "selflabel.epochs is not a setting of 'scan until",
        ),
    ],
)
def test_what_is_wrong_is_said_with_its_way_out(write: Any, text: str, sentence: str) -> None:
    with pytest.raises(StudyErrors) as refusal:
        load_study(write(text))
    assert sentence in str(refusal.value)


def test_a_preset_is_put_together_of_what_the_stages_of_all_rows_declare(write: Any) -> None:
    page = """
        method: scan
        preset: repo
        dataset: {name: cifar10, protocol: split}
        ablate:
          k-means: {method: kmeans}
          rotnet:  {pretext: rotnet, until: scan}
          whole:   {}
        """
    parts = {part.ablate[0].name: part for part in load_study(write(textwrap.dedent(page))).parts}
    assert [parts[name].fixed.get("scan.epochs") for name in parts] == [None, 50, 50]
    assert [parts[name].fixed.get("selflabel.epochs") for name in parts] == [None, None, 200]


@pytest.mark.parametrize("split", ["train", "eval"])
@pytest.mark.parametrize(("method", "slot"), [("spc", "spc"), ("scan", "selflabel"), ("scan_loss", "scan")])
def test_the_plan_names_the_images_that_choose(write: Any, method: str, slot: str, split: str) -> None:
    fixed = "" if split == "train" else f"fixed: {{{slot}.selection_split: eval}}\n"
    study = load_study(write(f"method: {method}\ndataset: {{name: cifar10, protocol: split}}\n{fixed}"))
    assert selection_split(resolved(study)) == split
    (line,) = [line for line in rows(study) if line.startswith("objective")]
    assert f"chosen by the {split} images" in line
    assert ("those that it is judged on" in line) == (split == "eval")


def test_the_default_never_looks_at_test_images() -> None:
    for name in registry.names():
        config = pipeline.load(name).Config
        if "selection_split" in config.__dataclass_fields__:
            assert config().selection_split == "train", name
    assert Path(registry.FOLDER / "spc.py").read_text().count("selection_split_setting()") == 1
