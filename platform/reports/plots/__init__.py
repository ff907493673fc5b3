"""The plots of the report. A new one is a module here with the names of ``plot.Plot``, and its name in PLOTS."""

from . import contour, history, importance, num_clusters, parallel_coordinates, pareto, sensitivity
from .plot import Plot

PLOTS: tuple[Plot, ...] = (pareto, num_clusters, sensitivity, history, importance, parallel_coordinates, contour)
"""In the order of the report."""
