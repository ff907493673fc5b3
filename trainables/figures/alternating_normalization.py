"""Figures of refined assignments (AN): clusters against classes, and clusters among the features, before and after.

How images lie is decided by their features alone, so that both halves of a figure show the same places.

Axes: P images that are drawn, D feature width.
"""

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from . import embedding


def by_pca(points_PD: NDArray[np.float32], before_P: NDArray[np.int64], after_P: NDArray[np.int64]) -> Figure:
    """Clusters before and after along the two directions of largest variance."""
    places_P2, explained = pca(points_PD)
    return before_and_after(places_P2, before_P, after_P, f"PCA of the features ({explained:.0%} of their variance)")


def by_tsne(points_PD: NDArray[np.float32], before_P: NDArray[np.int64], after_P: NDArray[np.int64]) -> Figure:
    """Clusters before and after where t-SNE puts the images."""
    return before_and_after(embedding.tsne_places(points_PD), before_P, after_P, "t-SNE of the features")


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
