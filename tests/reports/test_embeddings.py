from pathlib import Path
from platform.ledger.rows import DONE
from platform.reports import embeddings
from platform.reports import figures as report_figures
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


class TwoRows:
    """A summary of an ablation whose two rows ended with these results."""

    def __init__(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *results: Result | None, seeds: int = 2
    ) -> None:
        by_name = {f"dccm-{letter * 16}": result for letter, result in zip("ab", results, strict=True)}
        monkeypatch.setattr(embeddings, "Store", lambda root: SimpleNamespace(get=by_name.__getitem__))
        rows = []
        for label, letter in (("SwAV", "a"), ("SwAV + AN", "b")):
            stage = StageRecord("dccm", "dccm", letter * 16, cached=False, seconds=1.0)
            trials = [SimpleNamespace(seed=seed, state=DONE, stages=[stage]) for seed in range(seeds)]
            rows.append(SimpleNamespace(row=SimpleNamespace(label=label, trials=trials)))
        self.summary = cast(Summary, SimpleNamespace(ablation=rows, study="pair"))
        self.folder = tmp_path


def test_two_rows_stand_side_by_side_under_one_projection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    moved = Result(arrays={**RESULT.arrays, "features_eval": FEATURES[:, ::-1]})
    pair = TwoRows(tmp_path, monkeypatch, RESULT, moved)
    (path,) = embeddings.draw_rows(pair.summary, tmp_path, DATA)
    assert path == tmp_path / "pair" / "figures" / "rows_side_by_side.png"
    (shown,) = report_figures.of_rows(pair.summary, tmp_path)
    assert shown.png == path.read_bytes() and "SwAV and of SwAV + AN" in shown.title


@pytest.mark.parametrize(
    ("other", "seeds"),
    [(None, 2), (Result(arrays={**RESULT.arrays, "features_eval": FEATURES[:, :4]}), 2), (RESULT, 0)],
)
def test_rows_that_do_not_compare_are_not_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, other: Result | None, seeds: int
) -> None:
    pair = TwoRows(tmp_path, monkeypatch, RESULT, other, seeds=seeds)
    assert embeddings.draw_rows(pair.summary, tmp_path, DATA) == []
    assert list(report_figures.of_rows(pair.summary, tmp_path)) == []
