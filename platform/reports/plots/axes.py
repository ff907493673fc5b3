"""What the plots' axes have in common: sizes of figures and text, legends, color bars, and the PNG. Without pyplot."""

import io

from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure

WIDTH_IN = 4.0
"""Three figures stand side by side in a report, where an inch is about 90 pixels of the page."""
TEXT_PT, SMALL_PT, TINY_PT = 9, 8, 7
COLORS = "viridis"
LEAST_CONFIGURATIONS = 4
"""With fewer comparable configurations a plot of the whole search shows nothing worth a look."""

_DOTS_PER_IN = 180


def new_figure(height_in: float, width_in: float = WIDTH_IN) -> Figure:
    return Figure(figsize=(width_in, height_in), dpi=_DOTS_PER_IN, layout="constrained")


def png(figure: Figure) -> bytes:
    """The figure as PNG, without date and version: equal figures give equal bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def add_color_bar(figure: Figure, axes: Axes, colored: ScalarMappable, label: str) -> None:
    bar = figure.colorbar(colored, ax=axes)
    bar.set_label(label, fontsize=TEXT_PT)
    bar.ax.tick_params(labelsize=TINY_PT)


def add_legend(figure: Figure, axes: Axes, text_pt: float, column_spacing: float | None = None) -> None:
    """The legend of one panel, in two columns above all of them."""
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(
        handles,
        labels,
        loc="outside upper center",
        ncols=2,
        frameon=False,
        fontsize=text_pt,
        columnspacing=column_spacing,
    )
