"""A pretext from a file: from the study file to the stage's result."""

import shutil
from collections.abc import Callable
from pathlib import Path
from platform.study import plan
from platform.study.data_limits import data_errors
from platform.study.errors import StudyErrors
from platform.study.resolved import difference, meaning, resolved
from platform.study.smoke import smoke_study
from platform.study.study import Study, load_study
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from trainables.data import datasets
from trainables.interfaces import DataShape, ImageData
from trainables.nets import backbones, checkpoints, models
from trainables.runner import pipeline_runner
from trainables.stages import checkpoint
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
    assert result.facts == {"network": "small", "mining_space": "backbone", "sobel": False, "checkpoint_sha256": sha256}
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
