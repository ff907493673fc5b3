"""The best trial's features in two dimensions: figures that are put among its own in the store once it is known."""

import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import nn

from trainables import pipeline
from trainables.figures import clusters, embedding
from trainables.interfaces import ImageData, Result
from trainables.label_metrics import PROBE_SUFFIX
from trainables.store.artifacts import Store

from ..ledger.outcomes import closing_stages
from ..ledger.rows import DONE, Trial
from .figures import ROWS, best_trial
from .summary import Summary

NAMES = ("embedding_pca.png", "embedding_tsne.png")


def draw(summary: Summary, storage: Path, data: ImageData) -> list[Path]:
    """Draw the figures that are not in the store yet. If drawing fails there is a warning, and no figures.

    Args:
        storage: the folder of ``stages/``.

    Returns:
        The files of the best trial's embeddings; none without a clustering, and without features in the store.
    """
    trial = best_trial(summary)
    if trial is None:
        return []
    last = closing_stages(trial)[0]
    folder = storage / "stages" / last.result_name / "figures"
    paths = [folder / name for name in NAMES]
    if all(path.exists() for path in paths):
        return paths
    store = Store(storage)
    try:
        rows_N = embedding.chosen(data)
        found = _features(store, trial, data, rows_N)
        if found is None:
            return []
        result, features_ND = found
        clusters_N = np.array(result.arrays["probabilities_eval"][rows_N]).argmax(1)
        return clusters.save(embedding.drawn(features_ND, clusters_N, _labels(data, rows_N)), folder)
    except Exception as error:  # a figure that cannot be drawn must not cost the end of a sweep
        warnings.warn(f"the features of the best trial were not drawn: {error!r}", stacklevel=2)
        return []


def draw_rows(summary: Summary, storage: Path, data: ImageData) -> list[Path]:
    """Draw the features of an ablation's first and last row side by side, for the lowest seed that both finished.

    Args:
        storage: the folder of ``stages/``.

    Returns:
        The file; none without two rows, known classes and features of one width. If drawing fails there is a warning.
    """
    if len(summary.ablation) < 2 or not bool((data.eval.labels_N >= 0).any()):
        return []
    rows = [summary.ablation[place].row for place in (0, -1)]
    trials = [{trial.seed: trial for trial in row.trials if trial.state == DONE} for row in rows]
    seeds = sorted(trials[0].keys() & trials[1].keys())
    if not seeds:
        return []
    try:
        rows_N, store = embedding.chosen(data), Store(storage)
        found = [_features(store, of_row[seeds[0]], data, rows_N) for of_row in trials]
        features = {row.label: each[1] for row, each in zip(rows, found, strict=True) if each is not None}
        if len(features) < 2 or len({features_ND.shape for features_ND in features.values()}) > 1:
            return []
        path = storage / summary.study / ROWS
        return clusters.save({path.stem: embedding.side_by_side(features, _labels(data, rows_N))}, path.parent)
    except Exception as error:  # as above
        warnings.warn(f"the features of the rows were not drawn: {error!r}", stacklevel=2)
        return []


def _labels(data: ImageData, rows_N: NDArray[np.int64]) -> NDArray[np.int64]:
    labels_N: NDArray[np.int64] = data.eval.labels_N.cpu().numpy()[rows_N]
    return labels_N


def _features(
    store: Store, trial: Trial, data: ImageData, rows_N: NDArray[np.int64]
) -> tuple[Result, NDArray[np.float32]] | None:
    """The result of a trial's clustering, and the features that it clustered of some images; None without either."""
    last = closing_stages(trial)[0]
    earlier = [stage for stage in reversed(trial.stages) if stage != last and not stage.slot.endswith(PROBE_SUFFIX)]
    results = [store.get(stage.result_name) for stage in (last, *earlier)]
    if results[0] is None or "probabilities_eval" not in results[0].arrays:
        return None
    model = _classifier(last.name, results[0], data)
    features_ND = embedding.features([each for each in results if each is not None], data, rows_N, model)
    return None if features_ND is None else (results[0], features_ND)


def _classifier(stage: str, result: Result, data: ImageData) -> nn.Module | None:
    """The model of a clustering that left no features; None where it has none to give."""
    build = getattr(pipeline.load(stage), "classifier", None)
    if build is None or "features_eval" in result.arrays:
        return None
    try:
        model: nn.Module = build(result, data)
    except LookupError:
        return None
    return model
