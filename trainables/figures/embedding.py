"""The features of a clustering in two dimensions, by PCA and by t-SNE, colored by cluster and by true class.

Drawn once for the best trial of a launch: t-SNE takes about three seconds for a thousand images. Every seed is fixed.

Axes: N images, D feature width.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import nn

from ..interfaces import ImageData, Result
from ..maths import metrics
from ..nets import models

MOST_POINTS, MOST_LARGE = 1000, 300
"""Images that are drawn; of those above LARGE_PX fewer, since their features may have to be computed on a CPU."""
LARGE_PX = 64


def chosen(data: ImageData) -> NDArray[np.int64]:
    """Rows of the evaluation split that are drawn, by chance and in order."""
    most = MOST_LARGE if not data.shape.is_features and data.shape.image_size_px > LARGE_PX else MOST_POINTS
    return sampled(data.shape.num_eval, most)


def sampled(num_images: int, most: int = MOST_POINTS) -> NDArray[np.int64]:
    """Numbers of the images that are drawn: all, or so many of them by chance, in order and always the same."""
    return np.sort(np.random.default_rng(0).permutation(num_images)[:most])


def unit(features_ND: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows of length one; a row of zeros stays."""
    points_ND: NDArray[np.float32] = features_ND / np.maximum(np.linalg.norm(features_ND, axis=1, keepdims=True), 1e-12)
    return points_ND


def features(
    results: Sequence[Result], data: ImageData, rows_N: NDArray[np.int64], classifier: nn.Module | None
) -> NDArray[np.float32] | None:
    """The features that the last stage clustered, of some evaluation images; None where none can be had.

    Those it left as features_eval; else those of its model's backbone; else those of the space of an earlier stage that
    it names in facts["space"].

    Args:
        results: of the stages of a trial, the last one first.
        classifier: the last stage's model, or None.
    """
    last, *before = results
    if "features_eval" in last.arrays:
        return np.array(last.arrays["features_eval"][rows_N], dtype=np.float32)
    if isinstance(classifier, models.ClusterClassifier):
        images_NCHW = data.eval.images_NCHW
        picked_NCHW = images_NCHW[torch.from_numpy(rows_N).to(images_NCHW.device)]
        found: NDArray[np.float32] = models.predict(classifier.backbone, picked_NCHW, data.mean, data.std).cpu().numpy()
        return found
    array = f"{last.facts.get('space', '')}_eval"
    return next((np.array(each.arrays[array][rows_N], np.float32) for each in before if array in each.arrays), None)


def drawn(
    features_ND: NDArray[np.float32], clusters_N: NDArray[np.int64], labels_N: NDArray[np.int64]
) -> Mapping[str, Figure]:
    """Figures "embedding_pca" and "embedding_tsne"; the panel by class has the images whose class is known, if any.

    Args:
        labels_N: -1 where unknown.
    """
    points_ND = unit(features_ND)
    return {
        "embedding_pca": _figure("PCA", pca_places(points_ND), clusters_N, labels_N),
        "embedding_tsne": _figure("t-SNE", tsne_places(points_ND), clusters_N, labels_N),
    }


def side_by_side(features: Mapping[str, NDArray[np.float32]], labels_N: NDArray[np.int64]) -> Figure:
    """The same images as several models see them: a row of panels each, PCA and t-SNE, colored by class.

    One projection serves all of them, taken of their features together, so that places compare between rows.

    Args:
        features: name of the model -> (N, D), all of one shape.
        labels_N: at least one known.

    Source: the alternating-normalization paper, figure 2.
    """
    together = np.concatenate([unit(features_ND) for features_ND in features.values()])
    figure = Figure(figsize=(7.2, 3.6 * len(features)), dpi=100, layout="constrained")
    panels = figure.subplots(len(features), 2, squeeze=False)
    for column, (name, places) in enumerate((("PCA", pca_places(together)), ("t-SNE", tsne_places(together)))):
        for row, (whose, places_N2) in enumerate(zip(features, np.split(places, len(features)), strict=True)):
            axes: Axes = panels[row][column]
            axes.scatter(places_N2[:, 0], places_N2[:, 1], c=labels_N % 20, cmap="tab20", vmin=0, vmax=19, s=5)
            axes.set(xticks=[], yticks=[], xlim=_reach(places[:, 0]), ylim=_reach(places[:, 1]))
            axes.set_title(f"{whose}: {name}", fontsize=10)
    return figure


def _reach(values: NDArray[np.float64]) -> tuple[float, float]:
    """Limits of an axis that holds all values, with a small margin."""
    low, high = float(values.min()), float(values.max())
    margin = 0.05 * (high - low) or 1.0
    return low - margin, high + margin


def pca_places(points_ND: NDArray[np.float32]) -> NDArray[np.float64]:
    """(N, 2): the first two principal components. The largest weight of each is positive, or signs would be chance."""
    centered_ND = points_ND.astype(np.float64) - points_ND.mean(axis=0, dtype=np.float64)
    _, _, axes_KD = np.linalg.svd(centered_ND, full_matrices=False)
    axes_2D = axes_KD[:2]
    signs_2 = np.sign(axes_2D[np.arange(len(axes_2D)), np.abs(axes_2D).argmax(axis=1)])
    places_NK: NDArray[np.float64] = centered_ND @ (axes_2D * signs_2[:, None]).T
    return np.pad(places_NK, ((0, 0), (0, 2 - places_NK.shape[1])))


def tsne_places(points_ND: NDArray[np.float32]) -> NDArray[np.float64]:
    """(N, 2) by t-SNE of the first 50 principal components; all at the origin where the points have no directions."""
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    if len(points_ND) < 4 or np.ptp(points_ND, axis=0).max() < 1e-6:
        return np.zeros((len(points_ND), 2))
    reduced_ND = PCA(min(50, *points_ND.shape), random_state=0).fit_transform(points_ND)
    perplexity = min(30.0, (len(points_ND) - 1) / 3)
    places_N2: NDArray[np.float64] = TSNE(perplexity=perplexity, init="pca", random_state=0).fit_transform(reduced_ND)
    return places_N2


def colors(clusters_N: NDArray[np.int64], labels_N: NDArray[np.int64]) -> NDArray[np.int64]:
    """Cluster -> the class of the best one-to-one map, so that both panels have one color for it; (N,).

    Clusters left over come after the classes. Without any known class they keep their numbers.
    """
    if not (labels_N >= 0).any():
        return clusters_N
    num_classes = int(labels_N.max()) + 1
    class_C = metrics.hungarian_map(metrics.contingency(clusters_N, labels_N, int(clusters_N.max()) + 1, num_classes))
    left_C = class_C < 0
    class_C[left_C] = num_classes + np.arange(left_C.sum())
    colors_N: NDArray[np.int64] = class_C[clusters_N]
    return colors_N


def _figure(
    name: str, places_N2: NDArray[np.float64], clusters_N: NDArray[np.int64], labels_N: NDArray[np.int64]
) -> Figure:
    panels = [("cluster", colors(clusters_N, labels_N))] + ([("true class", labels_N)] if (labels_N >= 0).any() else [])
    figure = Figure(figsize=(3.6 * len(panels), 3.8), dpi=100, layout="constrained")
    all_axes: Sequence[Axes] = figure.subplots(1, len(panels), squeeze=False)[0]
    for axes, (what, groups_N) in zip(all_axes, panels, strict=True):
        places_K2, groups_K = places_N2[groups_N >= 0], groups_N[groups_N >= 0]
        axes.scatter(places_K2[:, 0], places_K2[:, 1], c=groups_K % 20, cmap="tab20", vmin=0, vmax=19, s=5)
        axes.set(xticks=[], yticks=[])
        axes.set_title(f"{name} of the features, by {what}", fontsize=10)
    return figure
