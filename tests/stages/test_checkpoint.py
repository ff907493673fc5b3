"""A pretext from a file: from the study file to the stage's result."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from platform.study import checkpoints as study_checkpoints
from platform.study import memory, plan
from platform.study.data_limits import data_errors
from platform.study.errors import StudyErrors
from platform.study.resolved import difference, meaning, resolved
from platform.study.smoke import smoke_study
from platform.study.study import Study, configs, load_study
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from trainables import pipeline, registry, settings
from trainables.data import datasets
from trainables.interfaces import DataShape, ImageData
from trainables.nets import backbones, checkpoints, models
from trainables.runner import pipeline_runner
from trainables.stages import checkpoint, neighbors, scan
from trainables.stages.checkpoint import Config


def weights(seed: int = 5) -> dict[str, torch.Tensor]:
    return backbones.build("small", in_channels=1, image_size_px=8, seed=seed).state_dict()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "backbone.pt"
    torch.save(weights(), path)
    return path


def study(folder: Path, text: str) -> Study:
    page = folder / "page.yaml"
    page.write_text(text, encoding="utf-8")
    return load_study(page)


def address(of: Study) -> str:
    trial_spec = {"method": of.method, "pretext": of.pretext, "changes": of.fixed}
    return pipeline_runner.addresses({**trial_spec, "fingerprint": "f" * 64, "seed": 0, "until": "pretext"})["pretext"][
        1
    ]


def test_the_backbone_is_that_of_the_file(train: Callable[..., Any], data: ImageData, file: Path) -> None:
    sha256 = checkpoints.digest(file)
    result = train(checkpoint, Config(path=str(file), sha256=sha256), data, seed=9).result
    assert all(torch.equal(value, weights()[key]) for key, value in result.weights["backbone"].items())
    facts = {"network": "small", "mining_space": "backbone", "sobel": False, "layout": ""}
    assert result.facts == {**facts, "checkpoint_sha256": sha256}
    backbone = backbones.build("small", in_channels=1, image_size_px=8, seed=5)
    rows_ND = models.predict(backbone, data.eval.images_NCHW, data.mean, data.std)
    expected = torch.nn.functional.normalize(rows_ND).numpy()
    np.testing.assert_allclose(result.arrays["backbone_eval"], expected, rtol=1e-5, atol=1e-6)
    assert 0 <= result.metrics["knn_acc"] <= 1


def test_another_file_than_the_pinned_one_is_refused(train: Callable[..., Any], data: ImageData, file: Path) -> None:
    with pytest.raises(checkpoints.CheckpointError, match="was checked with sha256 00, but this file has"):
        train(checkpoint, Config(path=str(file), sha256="00"), data)


def test_a_file_that_does_not_fit_is_refused_before_anything_starts(data: ImageData, file: Path) -> None:
    found = dict(checkpoint.limits(Config(path=str(file), network="resnet18_cifar"), data.shape))
    assert found["path"].startswith(f"{file}: conv1.weight: resnet18_cifar expects a tensor of shape (64, 1, 3, 3)")
    assert list(dict(checkpoint.limits(Config(), data.shape))) == ["path"]


def test_a_study_pins_the_file_by_its_content(tmp_path: Path, file: Path) -> None:
    found = study(tmp_path, f"method: kmeans\npretext: {{checkpoint: {file}}}\n")
    sha256 = checkpoints.digest(file)
    assert (found.pretext, found.fixed) == ("checkpoint", {"pretext.path": str(file), "pretext.sha256": sha256})
    assert any(f"pretext by checkpoint, sha256 {sha256}" in line for line in plan.rows(found))


def test_the_address_follows_the_content_and_not_the_path(tmp_path: Path, file: Path) -> None:
    copy, other = tmp_path / "copy.pt", tmp_path / "other.pt"
    shutil.copy(file, copy)
    torch.save(weights(seed=6), other)
    first, same, different = (
        study(tmp_path, f"method: kmeans\npretext: {{checkpoint: {path}}}\n") for path in (file, copy, other)
    )
    assert address(first) == address(same) != address(different)
    assert difference(meaning(first), meaning(same)) == []
    assert difference(meaning(first), meaning(different)) != []


def test_a_smoke_study_trains_a_pretext_instead(tmp_path: Path, file: Path) -> None:
    small = smoke_study(study(tmp_path, f"method: kmeans\npretext: {{checkpoint: {file}}}\n"))
    assert small.pretext == "" and "pretext.path" not in small.fixed
    assert "pretext: simclr instead of the checkpoint, which need not fit digits" in small.notes
    assert data_errors(small, datasets.load(datasets.Spec()).shape) == []


def test_a_file_that_does_not_fit_is_an_error_of_the_study_at_its_line(tmp_path: Path, file: Path) -> None:
    made = study(tmp_path, f"method: kmeans\npretext: {{checkpoint: {file}}}\n")
    (error,) = data_errors(made, DataShape(100, 50, 10, 3, 8))
    assert (error.line, error.key) == (2, "fixed.pretext.path")
    assert "0.weight: small expects a tensor of shape (32, 3, 3, 3), but found (32, 1, 3, 3)" in error.sentence


def test_the_resolved_study_is_the_same_study_again(tmp_path: Path, file: Path) -> None:
    found = study(tmp_path, f"method: kmeans\npretext: {{checkpoint: {file}}}\n")
    again = study(tmp_path, yaml.safe_dump(resolved(found)))
    assert resolved(again) == resolved(found)
    torch.save(weights(seed=6), file)
    with pytest.raises(StudyErrors, match="but the study was written for"):
        study(tmp_path, yaml.safe_dump(resolved(found)))


@pytest.mark.parametrize(
    ("lines", "error"),
    [
        (
            "pretext: {checkpoint: none.pt}",
            r"page.yaml:2: pretext.checkpoint: .*none.pt: the checkpoint cannot be read",
        ),
        (
            "pretext: checkpoint",
            r"page.yaml:2: pretext: the checkpoint needs a file. Write pretext: {checkpoint: FILE}",
        ),
        ("pretext: {chekpoint: x}", "page.yaml:2: pretext: pretext must be text, but is"),
    ],
)
def test_a_wrong_way_to_name_a_checkpoint(tmp_path: Path, lines: str, error: str) -> None:
    with pytest.raises(StudyErrors, match=error):
        study(tmp_path, f"method: kmeans\n{lines}\n")


def test_no_file_is_read_for_a_page_that_is_wrong_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "digest", lambda path: pytest.fail(f"{path} was read"))
    with pytest.raises(StudyErrors, match="page.yaml:3: seeds: seeds must be whole numbers"):
        study(tmp_path, "method: kmeans\npretext: {checkpoint: none.pt}\nseeds: []\n")


def test_a_missing_file_and_a_wrong_setting_are_reported_together(tmp_path: Path) -> None:
    with pytest.raises(StudyErrors) as caught:
        study(tmp_path, "method: kmeans\npretext: checkpoint\nfixed: {pretext.path: none.pt, kmeans.restarts: 0}\n")
    assert [error.key for error in caught.value.errors] == ["fixed.pretext.path", "fixed.kmeans.restarts"]


def tiny_vit() -> dict[str, torch.Tensor]:
    """DINO's names, 8 px images in patches of 4."""
    torch.manual_seed(3)
    sizes = {"attn.qkv": (192, 64), "attn.proj": (64, 64), "mlp.fc1": (96, 64), "mlp.fc2": (64, 96)}
    sizes |= {"norm1": (64,), "norm2": (64,)}
    weights = {f"blocks.0.{name}.weight": torch.randn(size) / size[-1] ** 0.5 for name, size in sizes.items()}
    weights |= {f"blocks.0.{name}.bias": torch.randn(size[0]) for name, size in sizes.items()}
    weights |= {"norm.weight": torch.ones(64), "norm.bias": torch.zeros(64), "pos_embed": torch.randn(1, 5, 64)}
    weights |= {"cls_token": torch.randn(1, 1, 64), "patch_embed.proj.weight": torch.randn(64, 3, 4, 4)}
    return weights | {"patch_embed.proj.bias": torch.zeros(64)}


def scan_file() -> dict[str, torch.Tensor]:
    """A ResNet-18 of SCAN's for CIFAR, one block a stage, with a linear head."""
    from torchvision.models.resnet import BasicBlock, ResNet

    network = ResNet(BasicBlock, [1, 1, 1, 1])
    network.conv1 = torch.nn.Conv2d(3, 64, 3, padding=1, bias=False)
    network.fc = torch.nn.Identity()
    weights = {f"backbone.{key.replace('downsample', 'shortcut')}": v for key, v in network.state_dict().items()}
    return weights | {"contrastive_head.weight": torch.randn(6, 512), "contrastive_head.bias": torch.zeros(6)}


@pytest.fixture
def recognized(tmp_path: Path) -> Callable[[dict[str, torch.Tensor]], Config]:
    def config(content: dict[str, torch.Tensor]) -> Config:
        path = tmp_path / "recognized.pt"
        torch.save(content, path)
        return Config(path=str(path), sha256=checkpoints.digest(path))

    return config


METHODS = [name for name, stages in pipeline.METHODS.items() if stages[0] in registry.pretexts()]


@pytest.mark.parametrize("method", METHODS)
def test_every_method_with_an_exchangeable_pretext_goes_on_from_a_recognized_file(
    train: Callable[..., Any], data: ImageData, recognized: Any, method: str
) -> None:
    config = recognized(tiny_vit())
    by_slot: dict[str, Any] = pipeline.stages(method, "checkpoint", ["knn_probe"])
    results: dict[str, Any] = {}
    for slot, stage in by_slot.items():
        own = config if slot == "pretext" else settings.build(stage.Config, dict(stage.TINY))
        assert not dict(stage.limits(own, data.shape))
        read = {name: results[other] for name, other in pipeline.inputs(by_slot, slot).items()}
        results[slot] = train(stage, own, data, read).result
    assert results["pretext"].facts["network"].startswith("vit:px=8,patch=4,width=64,depth=1,heads=1,")
    last = list(by_slot)[-2]
    assert results[last].arrays["probabilities_eval"].shape == (len(data.eval), 3)
    classify = getattr(by_slot[last], "classifier", None)
    if classify is not None:
        with torch.no_grad():
            found_NC = classify(results[last], data)(data.eval.images_NCHW[:])
        np.testing.assert_allclose(found_NC.numpy(), results[last].arrays["probabilities_eval"], atol=2e-5)


def test_methods_without_such_a_pretext_are_refused_in_one_sentence(tmp_path: Path, file: Path) -> None:
    others = [method for method in pipeline.METHODS if method not in METHODS]
    assert others
    for method in others:
        with pytest.raises(StudyErrors, match="pretext.*Take the line out, or choose kmeans, scan"):
            study(tmp_path, f"method: {method}\npretext: {{checkpoint: {file}}}\n")


def test_heads_alone_train_on_the_stored_features_with_no_forward_pass(
    train: Callable[..., Any], data: ImageData, recognized: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = train(checkpoint, recognized(tiny_vit()), data).result
    mined = train(neighbors, neighbors.Config(num_neighbors=5), data, {"pretext": first}).result
    inputs = {"pretext": first, "neighbors": mined}
    frozen = {**scan.TINY, "update_head_only": True, "augmentation": "eval", "epochs": 2}
    without = replace(first, arrays={key: rows for key, rows in first.arrays.items() if "lengths" not in key})
    computed = train(scan, settings.build(scan.Config, frozen), data, {**inputs, "pretext": without})
    monkeypatch.setattr(backbones.Backbone, "forward", lambda *given: pytest.fail("the backbone computed again"))
    stored = train(scan, settings.build(scan.Config, frozen), data, inputs)
    for name, rows_NC in computed.result.arrays.items():
        np.testing.assert_allclose(stored.result.arrays[name], rows_NC, atol=1e-5)


def test_the_features_of_a_file_are_computed_once_for_all_seeds(
    train: Callable[..., Any], data: ImageData, recognized: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = recognized(tiny_vit())
    first = train(checkpoint, config, data, seed=0).result
    with monkeypatch.context() as without:
        without.setattr(models, "predict", lambda *given, **named: pytest.fail("the features were computed again"))
        again = train(checkpoint, config, data, seed=1).result
    assert all(again.arrays[name] is rows for name, rows in first.arrays.items())
    other = train(checkpoint, recognized(scan_file()), data, seed=0).result
    assert other.arrays["backbone_train"].shape[1] == 512


def test_a_file_of_scan_s_leaves_its_head_s_space_and_neighbors_are_mined_there(
    train: Callable[..., Any], data: ImageData, recognized: Any
) -> None:
    config = recognized(scan_file())
    result = train(checkpoint, config, data).result
    assert result.facts["mining_space"] == "head"
    assert result.arrays["head_train"].shape == (len(data.train), 6)
    assert checkpoint.spaces(config, data.shape) == ("head", "backbone")
    assert checkpoint.spaces(recognized(tiny_vit()), data.shape) == ("backbone",)


def test_a_space_that_a_file_does_not_leave_is_refused_before_anything_starts(
    tmp_path: Path, data: ImageData, recognized: Any
) -> None:
    for content, refused in ((tiny_vit(), True), (scan_file(), False)):
        path = recognized(content).path
        made = study(
            tmp_path, f"method: kmeans\npretext: {{checkpoint: {path}}}\nfixed: {{kmeans.feature_space: head}}\n"
        )
        assert bool(data_errors(made, data.shape)) == refused


def test_the_memory_of_a_recognized_backbone_is_estimated(tmp_path: Path, data: ImageData, recognized: Any) -> None:
    made = study(tmp_path, f"method: scan_loss\npretext: {{checkpoint: {recognized(tiny_vit()).path}}}\n")
    part, changes = made.bounds[0]
    assert memory.need(part.stages, configs(part, changes), data).network.startswith("vit:px=8")


def test_the_plan_says_what_a_file_was_recognized_as(tmp_path: Path, data: ImageData, recognized: Any) -> None:
    made = study(tmp_path, f"method: kmeans\npretext: {{checkpoint: {recognized(tiny_vit()).path}}}\n")
    (line,) = study_checkpoints.rows(configs(*made.bounds[0]), data.shape)
    assert line == "checkpoint DINO (ViT), images at 8 px (bicubic), normalized as imagenet"
    plain = study(tmp_path, "method: kmeans\n")
    assert study_checkpoints.rows(configs(*plain.bounds[0]), data.shape) == []
