"""Figures of a correlation clustering (DCCM): its pseudo-graph over the epochs, its confidence, and its features.

Source: DCCM figures 3, 5 and 6a. The seed of the embedding is fixed.

Axes: N images, D feature width.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ..palette import BLUE, ORANGE
from .embedding import sampled, tsne_places, unit


def pseudo_graph(history: Sequence[Mapping[str, float]]) -> Figure:
    """BCubed precision and recall of the pseudo-graph by epoch; looks at labels."""
    figure = Figure(figsize=(5.6, 3.4), layout="constrained")
    axes = figure.add_subplot()
    for key, color, line in (("bcubed_precision", BLUE, "-"), ("bcubed_recall", ORANGE, "--")):
        points = [(row["epoch"], row[key]) for row in history if key in row]
        axes.plot(
            *zip(*points, strict=True), color=color, linestyle=line, marker=".", label=key.removeprefix("bcubed_")
        )
    axes.set(xlabel="epoch", ylabel="BCubed", ylim=(0.0, 1.02))
    axes.set_title("Pseudo-graph (looks at labels)", fontsize=10)
    axes.legend(loc="lower right")
    return figure


def confidence(untrained_N: NDArray[np.float32], last_N: NDArray[np.float32]) -> Figure:
    """Histograms of the largest probability of each image, before training and after the last epoch."""
    figure = Figure(figsize=(5.6, 3.4), layout="constrained")
    axes = figure.add_subplot()
    edges = np.linspace(0.0, 1.0, 21).tolist()
    for values_N, color, label in ((untrained_N, ORANGE, "before training"), (last_N, BLUE, "last epoch")):
        # A probability of one may be a rounding above it.
        axes.hist(np.clip(values_N, 0, 1), bins=edges, color=color, alpha=0.6, label=label)
    axes.set(xlabel="largest probability", ylabel="images")
    axes.legend(loc="upper left")
    return figure


def embedding(features_ND: NDArray[np.float32], labels_N: NDArray[np.int64]) -> Figure:
    """t-SNE of unit features of up to 1,000 images, colored by true class; looks at labels."""
    rows = sampled(len(features_ND))
    places_N2 = tsne_places(unit(features_ND[rows]))
    figure = Figure(figsize=(5.0, 5.0), layout="constrained")
    axes = figure.add_subplot()
    axes.scatter(places_N2[:, 0], places_N2[:, 1], c=labels_N[rows], cmap="tab20", s=6)
    axes.set(xticks=[], yticks=[])
    axes.set_title("t-SNE of the features, colored by true class", fontsize=10)
    return figure
