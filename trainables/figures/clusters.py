"""Figures of one trial, drawn without pyplot and without global state; equal numbers give equal PNG bytes.

Sheets of images are one tiled picture each, which is what makes them fast.

Axes: N images, C clusters, Y classes, H height, W width; in a picture the channels come last.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from torch import Tensor

from ..interfaces import Images
from ..maths import metrics
from ..palette import BLUE, ORANGE

_MOST_LABELS = 30


def confusion(counts_CY: NDArray[np.int64], class_names: Sequence[str], class_groups: Sequence[int] = ()) -> Figure:
    """Which clusters the images of each class went to.

    Args:
        counts_CY: from ``metrics.contingency``.
        class_names: Y names.
        class_groups: the super-class of each class; then classes of one stand together, with a line between two. With
            classes in none (-1) the figure is of the others, and of their clusters, alone.

    Rows are true classes, each divided by its images (a class without images stays white). Columns are clusters, in the
    order of the classes that the best one-to-one map gives them; clusters left over come last.
    """
    groups_Y = np.asarray(class_groups or np.zeros(counts_CY.shape[1]), dtype=np.int64)
    order_Y = np.argsort(groups_Y, kind="stable")
    place_Y = np.argsort(order_Y)
    class_C = metrics.hungarian_map(counts_CY)
    order_C = np.argsort(np.where(class_C < 0, counts_CY.shape[1], place_Y[class_C]), kind="stable")
    num_hidden = int((groups_Y < 0).sum())
    if num_hidden:  # these classes come first, and their clusters
        is_shown_C = (class_C[order_C] >= 0) & (groups_Y[class_C[order_C]] >= 0)
        order_C = order_C[is_shown_C] if is_shown_C.any() else order_C
        order_Y, place_Y = order_Y[num_hidden:], place_Y - num_hidden
    share_YC = (counts_CY / np.maximum(counts_CY.sum(axis=0), 1)).T[order_Y][:, order_C]
    rows, columns = share_YC.shape
    figure, axes = framed(_inches(columns), _inches(rows), left=1.5, right=1.1, top=0.4, bottom=0.75)
    picture = axes.imshow(share_YC, cmap="Blues", vmin=0.0, vmax=1.0, aspect="auto", interpolation="nearest")
    mapped_C = class_C[order_C][class_C[order_C] >= 0]
    for border in np.nonzero(np.diff(groups_Y[order_Y]))[0] + 0.5:
        axes.axhline(border, color=ORANGE, linewidth=0.8)
        # A group's clusters stand below one another as its classes do, as far as each class has one.
        axes.axvline((place_Y[mapped_C] < border).sum() - 0.5, color=ORANGE, linewidth=0.8)
    _name_ticks(axes, "y", [class_names[each] for each in order_Y])
    _name_ticks(axes, "x", [str(cluster) for cluster in order_C])
    axes.set(xlabel="cluster (best one-to-one order)", ylabel="true class")
    of_all = f" of all {len(groups_Y):,}" if rows < len(groups_Y) else ""
    axes.set_title(f"Share of each class, accuracy{of_all} {metrics.accuracy(counts_CY):.1%}", fontsize=10)
    figure.colorbar(picture, cax=axes.inset_axes((1.03, 0.0, 0.05, 1.0)), label="share of the class")
    if max(rows, columns) <= 12:
        _write_shares(figure, axes, share_YC)
    return figure


def cluster_sheet(
    images_NCHW: Images, probabilities_NC: Tensor, *, per_cluster: int = 12, most_clusters: int = 20
) -> Figure:
    """The most confident images of each cluster, one row per cluster.

    Args:
        images_NCHW: uint8, one or three channels.
        probabilities_NC: rows are probabilities.
        per_cluster: images in a row; a smaller cluster leaves the rest of its row empty.
        most_clusters: rows at most; the title says how many clusters there are.
    """
    confidence_N, cluster_N = (part.cpu().numpy() for part in probabilities_NC.max(dim=1))
    num_clusters = probabilities_NC.shape[1]
    shown = min(num_clusters, most_clusters)
    order_N = np.lexsort((np.arange(len(cluster_N)), -confidence_N))
    slots = np.full((shown, per_cluster), -1, dtype=np.int64)
    for cluster in range(shown):
        best = order_N[cluster_N[order_N] == cluster][:per_cluster]
        slots[cluster, : len(best)] = best
    sizes_C = np.bincount(cluster_N, minlength=num_clusters)
    sheet_HWC, (step_y, step_x) = tile(images_NCHW, slots)
    figure, axes = framed(0.6 * per_cluster, 0.6 * shown, left=1.2, right=0.2, top=0.4, bottom=0.4)
    axes.imshow(sheet_HWC, interpolation="nearest")
    axes.set_yticks(np.arange(shown) * step_y + step_y / 2)
    axes.set_yticklabels([f"{cluster} ({sizes_C[cluster]:,})" for cluster in range(shown)], fontsize=8)
    axes.set_xticks([])
    axes.set(ylabel="cluster (images)", xlabel="most confident images, best first")
    of = f"{num_clusters} clusters" if shown == num_clusters else f"first {shown} of {num_clusters} clusters"
    axes.set_title(of, fontsize=10)
    return figure


def least_confident(
    images_NCHW: Images, probabilities_NC: Tensor, labels_N: Tensor, class_names: Sequence[str], *, count: int = 20
) -> Figure:
    """The images with the lowest largest probability, lowest first, with that probability, cluster and true class.

    Args:
        labels_N: integers, -1 where unknown (shown as "?").
        count: images at most.
    """
    confidence_N, cluster_N = (part.cpu() for part in probabilities_NC.max(dim=1))
    lowest = torch.sort(confidence_N, stable=True).indices[:count]
    columns = min(10, len(lowest))
    rows = math.ceil(len(lowest) / columns)
    slots = np.full(rows * columns, -1, dtype=np.int64)
    slots[: len(lowest)] = lowest.numpy()
    sheet_HWC, (step_y, step_x) = tile(images_NCHW, slots.reshape(rows, columns), caption_share=0.6)
    sheet_height, sheet_width = sheet_HWC.shape[:2]
    inches = 1.0 * columns * sheet_height / sheet_width
    figure, axes = framed(max(4.0, 1.0 * columns), inches, left=0.1, right=0.1, top=0.4, bottom=0.1)
    axes.imshow(sheet_HWC, interpolation="nearest")
    axes.set_axis_off()
    axes.set_title("Least confident images: probability, cluster, true class", fontsize=10)
    labels, (height, width) = labels_N.cpu(), images_NCHW.shape[2:]
    for place, image in enumerate(lowest.tolist()):
        label = int(labels[image])
        name = _short(class_names[label]) if label >= 0 else "?"
        text = f"{confidence_N[image]:.2f}\ncluster {int(cluster_N[image])}\n{name}"
        x, y = place % columns * step_x + width / 2, place // columns * step_y + height
        figure.text(x, y, text, transform=axes.transData, ha="center", va="top", fontsize=7)
    return figure


def epochs(rows: Sequence[Mapping[str, float]]) -> Figure:
    """Accuracy and the share of confident images over the epochs.

    Args:
        rows: one mapping per epoch, in order; "epoch" counts from 0 and defaults to the place in the list, "acc" and
            "confident_fraction" are drawn where they are present.
    """
    figure, axes = framed(5.6, 3.0, left=0.7, right=0.2, top=0.2, bottom=0.6)
    drawn = (("acc", "accuracy", BLUE, "o", "-"), ("confident_fraction", "confident images", ORANGE, "s", "--"))
    for key, label, color, marker, line in drawn:
        points = [(row.get("epoch", place), row[key]) for place, row in enumerate(rows) if key in row]
        if points:
            every = max(1, len(points) // 20)
            numbers, values = zip(*points, strict=True)
            axes.plot(numbers, values, color=color, marker=marker, markevery=every, linestyle=line, label=label)
    axes.set(xlabel="epoch", ylabel="share of the images", ylim=(0.0, 1.02))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    if axes.lines:
        axes.legend(loc="lower right")
    return figure


def confidence_curve(thresholds: Sequence[float], points: Sequence[tuple[float, float]]) -> Figure:
    """The share of images above each threshold and the accuracy among them, from ``metrics.confidence_curve``."""
    figure, axes = framed(5.6, 3.0, left=0.7, right=0.2, top=0.2, bottom=0.6)
    shares, accuracies = zip(*points, strict=True)
    axes.plot(thresholds, accuracies, color=BLUE, marker="o", label="accuracy of the confident images")
    axes.plot(thresholds, shares, color=ORANGE, marker="s", linestyle="--", label="confident images")
    axes.set(xlabel="confidence above", ylabel="share of the images", ylim=(0.0, 1.02))
    axes.grid(alpha=0.3)
    axes.legend(loc="lower left")
    return figure


def save(figures: Mapping[str, Figure], folder: Path) -> list[Path]:
    """Write each figure as ``<name>.png`` into a folder, which is made where it is missing.

    No date and no version goes into the files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{name}.png" for name in figures]
    for path, figure in zip(paths, figures.values(), strict=True):
        figure.savefig(path, format="png", metadata={"Software": None}, pil_kwargs={"compress_level": 1})
    return paths


def tile(
    images_NCHW: Images, slots_RC: NDArray[np.int64], caption_share: float = 0.0
) -> tuple[NDArray[np.uint8], tuple[int, int]]:
    """One white picture with the image of each slot in its place (-1 stays white), and the rows and columns per slot.

    ``caption_share`` of an image's height is left white below it.
    """
    shown_NCHW = images_NCHW[torch.from_numpy(np.maximum(slots_RC, 0).ravel()).to(images_NCHW.device)].cpu()
    _, _, height, width = shown_NCHW.shape
    images_NHW3 = shown_NCHW.expand(-1, 3, -1, -1).permute(0, 2, 3, 1).numpy()
    gap = max(1, width // 16)
    step_y, step_x = height + round(height * caption_share) + gap, width + gap
    rows, columns = slots_RC.shape
    sheet_RyCxc = np.full((rows, step_y, columns, step_x, 3), 255, dtype=np.uint8)
    filled_RCyxc = sheet_RyCxc.transpose(0, 2, 1, 3, 4)[:, :, :height, :width]
    filled_RCyxc[...] = images_NHW3.reshape(rows, columns, height, width, 3)
    filled_RCyxc[slots_RC < 0] = 255
    return sheet_RyCxc.reshape(rows * step_y, columns * step_x, 3), (step_y, step_x)


def _name_ticks(axes: Axes, which: str, names: Sequence[str]) -> None:
    """Label every row or column, or every n-th where there are too many to read."""
    every = math.ceil(len(names) / _MOST_LABELS)
    places = list(range(0, len(names), every))
    labels = [_short(names[place]) for place in places]
    if which == "y":
        axes.set_yticks(places, labels, fontsize=8)
    else:
        axes.set_xticks(places, labels, fontsize=8, rotation=90 if len(places) > 15 else 0)


def framed(width: float, height: float, *, left: float, right: float, top: float, bottom: float) -> tuple[Figure, Axes]:
    """A figure with one plot of the given size and margins, all in inches; automatic layouts draw everything twice."""
    whole_width, whole_height = left + width + right, bottom + height + top
    figure = Figure(figsize=(whole_width, whole_height), dpi=100)
    place = (left / whole_width, bottom / whole_height, width / whole_width, height / whole_height)
    return figure, figure.add_axes(place)


def _write_shares(figure: Figure, axes: Axes, share_YC: NDArray[np.float64]) -> None:
    for row, column in zip(*np.nonzero(share_YC >= 0.005), strict=True):
        share = share_YC[row, column]
        color = "white" if share > 0.5 else "black"
        # Axes.text clips to the axes, which costs more than all the rest of the figure.
        text = figure.text(column, row, f"{100 * share:.0f}", fontsize=7, color=color, transform=axes.transData)
        text.set(ha="center", va="center")


def _inches(count: int) -> float:
    return min(10.0, max(2.4, 0.36 * count))


def _short(name: str) -> str:
    return name if len(name) <= 14 else name[:13] + "…"
