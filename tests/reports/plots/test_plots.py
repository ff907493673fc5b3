"""What holds for every plot, and for the sections that their figures stand under."""

from dataclasses import replace
from pathlib import Path
from platform.reports import html, importance, markdown, plots
from platform.reports.figures import ReportFigure, of_plots
from platform.reports.plots.plot import Section
from platform.reports.summarize import summarize
from platform.reports.summary import ClusterNumber, Importance, Summary
from types import ModuleType
from typing import Any, cast

import pytest

HELPERS = {"__init__", "axes", "plot"}
DELTA, K2 = "spc.strong_threshold", "spc.graph_neighbors"
FIGURE = ReportFigure("A caption", "In words.", "figures/x.png", b"\x89PNG\r\n\x1a\n", Section.SEARCH)


def _name(plot: Any) -> str:
    return cast(ModuleType, plot).__name__.rpartition(".")[2]


@pytest.fixture
def every_plot(two_parameters: Any) -> Summary:
    """A summary to which every plot applies: two objectives, two parameters, enough settings, evidence on clusters."""
    two_objectives = [{"metric": "spc/selection_loss", "mode": "min"}, {"metric": "acc", "mode": "max"}]
    resolved = {**two_parameters.launch.resolved, "objective": two_objectives}
    ledger = two_parameters.ledger
    launch = ledger.open_launch("every", {}, resolved, lookahead=2, facts={})
    two_parameters.launch = launch
    for number, (delta, k2, acc) in enumerate([(0.9, 5, 0.6), (0.95, 5, 0.7), (0.9, 20, 0.8), (0.95, 20, 0.9)]):
        two_parameters.configuration(number, {0: {"acc": acc, "spc/selection_loss": -acc}}, {DELTA: delta, K2: k2})
    summary = summarize(ledger, launch.id)
    compared = tuple(ClusterNumber(number, (0.5, 0.7), (0.6, 0.4), None, 3) for number in (5, 10))
    importances = (Importance("acc", "fANOVA", {DELTA: 0.25, K2: 0.75}),)
    return replace(summary, importances=importances, cluster_numbers=compared)


def test_every_module_of_the_folder_is_among_the_plots() -> None:
    files = {path.stem for path in Path(plots.__file__).parent.glob("*.py")} - HELPERS
    assert len(plots.PLOTS) == len(files) == len({_name(plot) for plot in plots.PLOTS})
    assert {_name(plot) for plot in plots.PLOTS} == files


@pytest.mark.parametrize("plot", plots.PLOTS, ids=_name)
def test_a_plot_draws_figures_with_words_of_its_section(plot: plots.Plot, every_plot: Summary) -> None:
    assert plot.applies(every_plot) and plot.SECTION in Section
    figures = list(plot.draw(every_plot))
    assert figures
    for figure in figures:
        assert figure.name and figure.title and len(figure.alt) > 25


@pytest.mark.parametrize("plot", plots.PLOTS, ids=_name)
def test_no_plot_applies_where_nothing_has_a_result(plot: plots.Plot, book: Any) -> None:
    made = book(search={DELTA: {"choice": [0.9, 0.95]}, K2: {"choice": [5, 20]}})
    for number in range(5):
        made.configuration(number, {0: None}, {DELTA: 0.9, K2: 5})
    assert not plot.applies(summarize(made.ledger, made.launch.id))


def test_the_figures_of_a_report_have_their_order_paths_and_equal_bytes(every_plot: Summary) -> None:
    first, second = of_plots(every_plot), of_plots(every_plot)
    assert [figure.path.removeprefix("figures/") for figure in first] == [
        "pareto.png",
        "num_clusters.png",
        "sensitivity_spc.strong_threshold.png",
        "sensitivity_spc.graph_neighbors.png",
        "history.png",
        "importance.png",
        "parallel.png",
        "pair_spc.strong_threshold_spc.graph_neighbors.png",
    ]
    assert [figure.png for figure in first] == [figure.png for figure in second]
    assert all(figure.png.startswith(b"\x89PNG") and b"Software" not in figure.png for figure in first)


def test_every_section_has_one_place_on_the_page() -> None:
    assert sorted([*html.AFTER_MAIN_TABLE, *html.AFTER_ALL_TABLES], key=str) == sorted(Section, key=str)


@pytest.mark.parametrize("section", Section)
def test_a_figure_of_any_section_is_in_the_page_and_the_document(section: Section, sweep: Any) -> None:
    summary, figure = summarize(sweep.ledger, sweep.launch.id), replace(FIGURE, section=section)
    page = html.report(summary, [figure])
    assert f"<h2>{section.value}</h2>" in page and page.count("<figcaption>A caption</figcaption>") == 1
    assert markdown.report(summary, [figure]).count("](figures/x.png)") == 1


@pytest.mark.parametrize("section", ["Sensitivity", "Sensitvity", ""])
def test_a_figure_of_an_unknown_section_is_refused(section: Any, sweep: Any) -> None:
    summary = summarize(sweep.ledger, sweep.launch.id)
    with pytest.raises(ValueError, match="figures/x.png: the page has no place for section"):
        html.report(summary, [replace(FIGURE, section=section)])


def test_without_enough_settings_nothing_is_evaluated(sweep: Any) -> None:
    def evaluate(*arguments: Any) -> Any:
        raise AssertionError("called")

    summary = summarize(sweep.ledger, sweep.launch.id)
    assert importance.with_importances(summary, evaluate) is summary
