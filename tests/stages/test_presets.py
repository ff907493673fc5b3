"""The recipes that stages declare are settings that their Configs take."""

from typing import Any

import pytest

from trainables import pipeline, registry, settings
from trainables.interfaces import EVERY_SET, Stage
from trainables.settings import build, value
from trainables.stages import scan, selflabel

STAGES = [stage for stage in map(pipeline.load, registry.names()) if hasattr(stage, "PRESETS")]
RECIPES = [
    (stage, preset, data_set) for stage in STAGES for preset, recipes in stage.PRESETS.items() for data_set in recipes
]


def test_both_presets_serve_the_same_data_sets() -> None:
    for stage in (scan, selflabel):
        assert set(stage.PRESETS["repo"]) == set(stage.PRESETS["paper"]) >= {"cifar10", "cifar20", "stl10", "imagenet"}


@pytest.mark.parametrize(("stage", "preset", "data_set"), RECIPES, ids=lambda each: getattr(each, "NAMESPACE", each))
def test_a_recipe_is_taken_by_its_config(stage: Stage, preset: str, data_set: str) -> None:
    values = stage.PRESETS[preset][data_set]  # type: ignore[attr-defined]
    config = build(stage.Config, values)
    assert {name: value(config, name) for name in values} == values


@pytest.mark.parametrize(
    ("preset", "data_set", "epochs", "batch_size"),
    [("repo", "cifar10", 50, 128), ("paper", "cifar10", 100, 128), ("repo", "cifar20", 100, 512),
     ("paper", "cifar20", 100, 128), ("repo", "imagenet50", 100, 512), ("repo", "imagenet", 100, 4096)],
)  # fmt: skip
def test_scan_epochs_and_batches_are_the_published_ones(
    preset: str, data_set: str, epochs: int, batch_size: int
) -> None:
    config = build(scan.Config, scan.PRESETS[preset][data_set])  # type: ignore[arg-type]
    assert (config.epochs, config.batch_size) == (epochs, batch_size)


def test_self_labeling_on_stl10_has_half_the_epochs_in_the_code() -> None:
    assert selflabel.PRESETS["repo"]["stl10"]["epochs"] == 100
    assert selflabel.PRESETS["paper"]["stl10"]["epochs"] == 200


def test_the_literal_text_of_normalization_is_a_recipe_for_any_data_set() -> None:
    literal = {stage.__name__.rpartition(".")[2] for stage, preset, _ in RECIPES if preset == "literal"}  # type: ignore[attr-defined]
    assert literal == {"dec", "scan", "selflabel", "swav", "simgcd"}
    for name in literal:
        stage: Any = pipeline.load(name)
        config = build(stage.Config, stage.PRESETS["literal"][EVERY_SET])
        assert (config.an.renormalize, config.an.tie_is_unsure, config.an.mode) == (False, False, "both")
    assert settings.effective(build(scan.Config, scan.PRESETS["literal"][EVERY_SET]))["agreement"] == "ce"
