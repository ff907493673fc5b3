"""The best trial's features in two dimensions: figures that are put among its own in the store once it is known."""

import warnings
from pathlib import Path

import numpy as np
from torch import nn

from trainables import pipeline
from trainables.figures import clusters, embedding
from trainables.interfaces import ImageData, Result
from trainables.label_metrics import PROBE_SUFFIX
from trainables.store.artifacts import Store

from ..ledger.outcomes import closing_stages
from .figures import best_trial
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
    earlier = [stage for stage in reversed(trial.stages) if stage != last and not stage.slot.endswith(PROBE_SUFFIX)]
    results = [store.get(stage.result_name) for stage in (last, *earlier)]
    if results[0] is None or "probabilities_eval" not in results[0].arrays:
        return []
    try:
        rows_N = embedding.chosen(data)
        features_ND = embedding.features(
            [result for result in results if result is not None],
            data,
            rows_N,
            _classifier(last.name, results[0], data),
        )
        if features_ND is None:
            return []
        clusters_N = np.array(results[0].arrays["probabilities_eval"][rows_N]).argmax(1)
        labels_N = data.eval.labels_N.cpu().numpy()[rows_N]
        return clusters.save(embedding.drawn(features_ND, clusters_N, labels_N), folder)
    except Exception as error:  # a figure that cannot be drawn must not cost the end of a sweep
        warnings.warn(f"the features of the best trial were not drawn: {error!r}", stacklevel=2)
        return []


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
