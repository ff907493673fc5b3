"""What a plot of the report is: a module of this folder with the names of ``Plot``."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from matplotlib.figure import Figure

from ..summary import Summary


class Section(Enum):
    """The heading under which a figure stands in the report."""

    SENSITIVITY = "Sensitivity"
    SEARCH = "The search"
    ROWS = "The rows side by side"
    BEST_TRIAL = "The best trial"


@dataclass(frozen=True)
class PlotFigure:
    """One figure of a plot. name: of its file, without ending. title: its caption. alt: the same in words and numbers.

    Equal summaries must give equal figures, to the byte of the PNG.
    """

    name: str
    title: str
    alt: str
    figure: Figure


class Plot(Protocol):
    """One kind of plot. A module satisfies it; ``plots.PLOTS`` lists those of the report."""

    SECTION: Section
    """The heading of all its figures."""

    def applies(self, summary: Summary) -> bool:
        """Whether the launch has what the plot shows; ``draw`` is called only then."""

    def draw(self, summary: Summary) -> Iterable[PlotFigure]:
        """Its figures, in the order of the report."""
