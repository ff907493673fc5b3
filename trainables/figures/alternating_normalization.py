"""Figures of refined assignments (AN): clusters against classes, and clusters among the features, before and after.

Only results that carry refined assignments have them. The images are those of the evaluation split; how they lie is
decided by their features alone, so that both halves of a figure show the same places.

Axes: N images, P of them that are drawn, C clusters, D feature width.
"""

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ..interfaces import ImageData, Result
from ..maths import metrics
from . import clusters, embedding

_KEPT = ("features_eval", "embedding_eval")
"""Arrays in which a stage may have left its features."""


def drawn(result: Result, data: ImageData) -> dict[str, Figure]:
    """Name -> figure; empty for a result without refined assignments."""
    if "refined_eval" not in result.arrays:
        return {}
    refined_NC = np.asarray(result.arrays["refined_eval"])
    before_N, after_N = (np.asarray(rows_NC).argmax(1) for rows_NC in (result.arrays["probabilities_eval"], refined_NC))
    labels_N, names = data.eval.labels_N.cpu().numpy(), data.class_names
    found: dict[str, Figure] = {}
    counts_CY = metrics.contingency(after_N, labels_N, refined_NC.shape[1], len(names))
    if counts_CY.any():
        found["confusion_refined"] = clusters.confusion(counts_CY, names, data.class_groups)
    rows_P = embedding.sampled(len(before_N))
    features_PD = embedding.features([result], data, rows_P, kept=_KEPT)
    if features_PD is not None:
        points_PD = embedding.unit(features_PD)
        pair = (before_N[rows_P], after_N[rows_P])
        places_P2, explained = pca(points_PD)
        title = f"PCA of the features ({explained:.0%} of their variance)"
        found["refined_pca"] = before_and_after(places_P2, *pair, title)
        places_P2 = embedding.tsne_places(points_PD)
        found["refined_tsne"] = before_and_after(places_P2, *pair, "t-SNE of the features")
    return found


def pca(points_PD: NDArray[np.float32]) -> tuple[NDArray[np.float64], float]:
    """Places (P, 2) along the two directions of largest variance, and the share of the variance that they hold."""
    places_P2 = embedding.pca_places(points_PD)
    total = float(np.square(points_PD - points_PD.mean(axis=0, dtype=np.float64)).sum())
    return places_P2, float(np.square(places_P2).sum()) / total if total else 1.0


def before_and_after(
    places_P2: NDArray[np.float64], before_P: NDArray[np.int64], after_P: NDArray[np.int64], title: str
) -> Figure:
    """The same places twice, colored by cluster before and after; images that changed theirs are ringed on the right.

    Colors repeat from twenty clusters on.
    """
    figure = Figure(figsize=(9.0, 4.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    changed_P = before_P != after_P
    for axes, clusters_P, name in ((left, before_P, "before"), (right, after_P, "after")):
        axes.scatter(places_P2[:, 0], places_P2[:, 1], c=clusters_P % 20, cmap="tab20", vmin=0, vmax=19, s=6)
        axes.set(xticks=[], yticks=[])
        axes.set_title(name, fontsize=10)
    ringed_P2 = places_P2[changed_P]
    right.scatter(ringed_P2[:, 0], ringed_P2[:, 1], s=28, facecolors="none", edgecolors="black", linewidths=0.6)
    right.set_title(f"after: {changed_P.sum():,} of {len(changed_P):,} changed their cluster", fontsize=10)
    figure.suptitle(f"{title}, colored by cluster, before and after refinement", fontsize=11)
    return figure
