"""Stages measured on a bare machine: what is counted, what is scaled, and what a failure costs."""

from collections.abc import Generator, Mapping
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from trainables import pipeline, settings
from trainables.interfaces import Epoch, ImageData, Result, Split
from trainables.runner import profiling
from trainables.runner.runtime import SingleProcess
from trainables.vector_search.faiss_search import FaissSearch

CPU = SingleProcess(torch.device("cpu"))


@pytest.fixture
def data() -> ImageData:
    """100 noisy images to train on, 40 to judge."""
    generator = torch.Generator().manual_seed(0)
    train, evaluation = (
        Split(
            torch.randint(0, 256, (num, 1, 8, 8), generator=generator, dtype=torch.uint8),
            torch.arange(num) % 3,
        )
        for num in (100, 40)
    )
    return ImageData("noise", train, evaluation, ("a", "b", "c"), (0.5,), (0.3,), "noise")


@dataclass(frozen=True)
class Config:
    epochs: int = settings.setting(100, "epochs")
    size: int = settings.setting(8, "side of the matrices")
    fails: bool = settings.setting(False, "raise an error")


def fake(name: str, inputs: tuple[str, ...] = (), smoke: Mapping[str, Any] | None = None) -> Any:
    """A stage that multiplies two square matrices in every epoch."""

    def train(config: Config, data: ImageData, inputs: Any, runtime: Any) -> Generator[Epoch, None, Result]:
        if config.fails:
            raise RuntimeError("nothing to do")
        for epoch in range(config.epochs):
            torch.ones(config.size, config.size) @ torch.ones(config.size, config.size)
            yield Epoch(epoch + 1, config.epochs, {}, dict)
        return Result(facts={"epochs": config.epochs})

    stage = SimpleNamespace(train=train, NAMESPACE=name, INPUTS=inputs, __name__=f"trainables.stages.{name}")
    if smoke is not None:
        stage.SMOKE = smoke
    return stage


def measured(stages: dict[str, Any], configs: dict[str, Any], data: ImageData) -> list[Any]:
    return profiling.measure(stages, configs, data, CPU, FaissSearch(1))


def test_operations_of_an_epoch_are_counted_and_two_epochs_run(data: ImageData) -> None:
    (found,) = measured({"one": fake("one")}, {"one": Config(size=16)}, data)
    assert found.num_images == 100
    # A product of two 16 x 16 matrices takes 2 * 16^3 operations; both rates have the same seconds.
    assert found.flops_per_s / found.images_per_s * 100 == pytest.approx(2 * 16**3)
    assert found.peak_bytes > 1_000_000


def test_a_failed_stage_is_told_and_those_that_need_it_are_not_tried(data: ImageData) -> None:
    stages = {"one": fake("one"), "two": fake("two", ("one",)), "three": fake("three")}
    found = measured(stages, {"one": Config(fails=True), "two": Config(), "three": Config()}, data)
    assert found[:2] == [
        profiling.Failed("one", "one", "RuntimeError: nothing to do"),
        profiling.Failed("two", "two", "it needs one, which was not measured"),
    ]
    assert found[2].stage == "three"


def test_a_stage_that_finds_nothing_to_do_is_measured_with_its_smoke_settings(data: ImageData) -> None:
    stages = {"one": fake("one", smoke={"fails": False})}
    assert isinstance(measured(stages, {"one": Config(fails=True)}, data)[0], profiling.Measured)


def test_seconds_grow_with_images_and_epochs_and_for_searches_with_the_square() -> None:
    one = profiling.Measured("scan", "scan", 100, 50.0, 2.0, 3.0, 0, 0.0)
    # Five times the images: ten epochs of 2 s and 3 s beside them.
    assert one.seconds(500, 10) == pytest.approx(5 * (10 * 2 + 3))
    assert replace(one, stage="neighbors", epoch_s=0.0).seconds(500, 0) == pytest.approx(25 * 3)


def test_enough_images_for_two_steps_of_the_largest_batch_are_shown(data: ImageData) -> None:
    large = replace(data, train=Split(data.train.images_NCHW[:].repeat(40, 1, 1, 1), torch.zeros(4000).long()))
    shown = profiling.some(large, {"a": SimpleNamespace(batch_size=900), "b": SimpleNamespace(outer_batch=1000)})
    assert len(shown.train) == 2000 and len(shown.eval) == 40
    assert len(profiling.some(large, {}).train) == 512
    union = replace(data, eval=data.train)
    assert profiling.some(union, {}).is_union


def test_a_whole_pipeline_is_measured_without_ray(data: ImageData) -> None:
    views = {"augmentation": "affine", "batch_size": 50}
    changes = {f"{slot}.{name}": value for slot in ("pretext", "scan", "selflabel") for name, value in views.items()}
    configs = pipeline.configs("scan", "", changes | {"neighbors.num_neighbors": 5, "scan.num_neighbors": 5})
    found = measured(pipeline.stages("scan"), configs, data)
    assert [each.slot for each in found] == ["pretext", "neighbors", "kmeans", "scan", "selflabel"]
    assert all(isinstance(each, profiling.Measured) and each.images_per_s > 0 for each in found), found
    assert all(each.flops_per_s > 0 for each in found if each.slot not in ("neighbors", "kmeans"))


def test_the_peak_is_that_of_a_product_of_matrices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(profiling._MATRIX, "cpu", 64)
    assert profiling.peak_flops_per_s(CPU.device) > 1e6
