from pathlib import Path
from platform.reports import embeddings
from platform.reports.summary import Summary
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch

from trainables.interfaces import ImageData, Result, Split
from trainables.runner.messages import StageRecord

NAME = "dccm-" + "a" * 16
IMAGES, LABELS = torch.zeros(30, 1, 8, 8, dtype=torch.uint8), torch.arange(30) % 3
DATA = ImageData("made up", Split(IMAGES, LABELS), Split(IMAGES, LABELS), ("a", "b", "c"), (0.0,), (1.0,), "made up")
FEATURES = np.random.default_rng(0).random((30, 8), np.float32)
RESULT = Result(arrays={"probabilities_eval": np.eye(3, dtype=np.float32)[LABELS.numpy()], "features_eval": FEATURES})


@pytest.fixture
def draw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """draw(result): the figures of a launch whose best trial ended with this result."""
    stage = StageRecord("dccm", "dccm", "a" * 16, cached=False, seconds=1.0)
    monkeypatch.setattr(embeddings, "best_trial", lambda summary: SimpleNamespace(stages=[stage]))

    def run(result: Result | None) -> list[Path]:
        monkeypatch.setattr(embeddings, "Store", lambda root: SimpleNamespace(get=lambda name: result))
        return embeddings.draw(cast(Summary, None), tmp_path, DATA)

    return run


def test_both_are_put_among_the_figures_of_the_best_trial(draw: Any, tmp_path: Path) -> None:
    folder = tmp_path / "stages" / NAME / "figures"
    assert draw(RESULT) == [folder / "embedding_pca.png", folder / "embedding_tsne.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in folder.iterdir())


def test_what_is_there_is_not_drawn_again(draw: Any) -> None:
    first = draw(RESULT)
    assert draw(None) == first


@pytest.mark.parametrize(
    "result", [None, Result(arrays={"features_eval": FEATURES}), Result(arrays={"probabilities_eval": FEATURES})]
)
def test_without_a_clustering_or_its_features_there_is_nothing_to_draw(draw: Any, result: Result | None) -> None:
    assert draw(result) == []


def test_a_failure_costs_the_figures_alone(draw: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: Any) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(embeddings.clusters, "save", full)
    with pytest.warns(UserWarning, match="were not drawn: OSError"):
        assert draw(RESULT) == []
