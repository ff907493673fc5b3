"""Figures of how far pseudo-labels are trusted, how they settle, and what a probe reads from each layer.

Axes: N images, C clusters, H height, W width.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from ..interfaces import Images, Result
from ..palette import BLUE, ORANGE
from .clusters import framed, tile

MOST_CLUSTERS = 30
"""Clusters that are drawn side by side, the largest first."""


def weights_by_cluster(weights_N: NDArray[np.float32], labels_N: NDArray[np.int64]) -> Figure:
    """The distribution of the weights U within each of the largest clusters: median, quartiles, 5 and 95 %."""
    clusters, sizes = _largest(labels_N, MOST_CLUSTERS)
    figure, axes = framed(max(4.0, 0.28 * len(clusters)), 2.6, left=0.8, right=0.2, top=0.4, bottom=0.7)
    axes.boxplot(
        [weights_N[labels_N == cluster] for cluster in clusters],
        whis=(5, 95),
        showfliers=False,
        medianprops={"color": ORANGE},
        boxprops={"color": BLUE},
    )
    axes.set_xticks(range(1, len(clusters) + 1), [str(cluster) for cluster in clusters], fontsize=7, rotation=90)
    axes.set(xlabel="cluster, largest first", ylabel="weight U")
    axes.set_title(f"{len(clusters)} of {len(np.unique(labels_N))} clusters, {sizes[0]:,} images or fewer", fontsize=10)
    axes.grid(axis="y", alpha=0.3)
    return figure


def trusted_and_not(
    images_NCHW: Images, weights_N: NDArray[np.float32], labels_N: NDArray[np.int64], *, each: int = 6, most: int = 20
) -> Figure:
    """One row per cluster: the images of largest weight from the left, and those of smallest weight to the right.

    Args:
        images_NCHW: uint8, one or three channels.
        each: images of either kind; a cluster of fewer than twice as many shows each of its images once.
        most: rows at most, the largest clusters first.
    """
    clusters, sizes = _largest(labels_N, most)
    slots_RC = np.full((len(clusters), 2 * each + 1), -1, dtype=np.int64)
    order_N = np.lexsort((np.arange(len(labels_N)), -weights_N))
    for row, cluster in enumerate(clusters):
        own = order_N[labels_N[order_N] == cluster]
        best, worst = own[:each], own[each:][-each:]
        slots_RC[row, : len(best)] = best
        if len(worst):
            slots_RC[row, -len(worst) :] = worst
    sheet_HWC, (step_y, _) = tile(images_NCHW, slots_RC)
    figure, axes = framed(0.6 * slots_RC.shape[1], 0.6 * len(clusters), left=1.2, right=0.2, top=0.4, bottom=0.4)
    axes.imshow(sheet_HWC, interpolation="nearest")
    names = [f"{cluster} ({size:,})" for cluster, size in zip(clusters, sizes, strict=True)]
    axes.set_yticks(np.arange(len(clusters)) * step_y + step_y / 2, names, fontsize=8)
    axes.set_xticks([])
    axes.set(ylabel="cluster (images)", xlabel="largest weight first" + 20 * " " + "smallest weight last")
    axes.set_title("Most and least trusted images of each cluster", fontsize=10)
    return figure


def agreement(history: Sequence[Mapping[str, float]]) -> Figure:
    """NMI of the pseudo-labels with those of the epoch before, and with the classes where these are known."""
    figure, axes = framed(5.6, 3.0, left=0.7, right=0.2, top=0.2, bottom=0.6)
    lines = (
        ("assignment_nmi", "with the epoch before", BLUE, "o", "-"),
        ("pseudo_nmi", "with the classes", ORANGE, "s", "--"),
    )
    for key, label, color, marker, line in lines:
        points = [(row.get("epoch", place), row[key]) for place, row in enumerate(history, 1) if key in row]
        if points:
            numbers, values = zip(*points, strict=True)
            every = max(1, len(points) // 20)
            axes.plot(numbers, values, color=color, marker=marker, markevery=every, linestyle=line, label=label)
    axes.set(xlabel="epoch", ylabel="NMI of the pseudo-labels", ylim=(0.0, 1.02))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    return figure


def accuracy_by_layer(result: Result) -> Figure:
    """What a probe got right from each layer, on evaluation and on training images."""
    layers = list(result.facts["layers"])
    figure, axes = framed(max(3.0, 0.9 * len(layers)), 2.6, left=0.7, right=0.2, top=0.4, bottom=0.5)
    places = np.arange(len(layers))
    for key, label, color, aside in (("acc", "evaluation", BLUE, -0.2), ("train_acc", "training", ORANGE, 0.2)):
        shares = [result.metrics[f"{layer}_{key}"] for layer in layers]
        bars = axes.bar(places + aside, shares, width=0.38, color=color, label=label)
        axes.bar_label(bars, [f"{100 * share:.1f}" for share in shares], fontsize=7)
    axes.set_xticks(places, layers, fontsize=8)
    axes.set(ylabel="accuracy", ylim=(0.0, 1.1))
    axes.set_title("Probe of the frozen network, by layer", fontsize=10)
    axes.legend(loc="lower right", fontsize=8)
    return figure


def _largest(labels_N: NDArray[np.int64], most: int) -> tuple[list[int], list[int]]:
    """The numbers and sizes of the largest clusters, the lower number first where two are equal."""
    sizes_C = torch.bincount(torch.as_tensor(labels_N)).numpy()
    order_C = np.lexsort((np.arange(len(sizes_C)), -sizes_C))[:most]
    kept = [int(cluster) for cluster in order_C if sizes_C[cluster]]
    return kept, [int(sizes_C[cluster]) for cluster in kept]
