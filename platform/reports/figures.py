"""The figures of a report: plots drawn from its summary, and what the stages of the best trial drew."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from trainables.seeds import label
from trainables.store import manifest

from ..ledger.outcomes import closing_stages
from ..ledger.rows import DONE, Trial
from .plots import PLOTS
from .plots.axes import png
from .plots.plot import Section
from .summary import Summary

ROWS = "figures/rows_side_by_side.png"
"""Place in the study's folder of what ``embeddings.draw_rows`` draws."""
_EMBEDDINGS = {
    "embedding_pca": "The features in two dimensions (PCA), colored by cluster and by true class",
    "embedding_tsne": "The features in two dimensions (t-SNE), colored by cluster and by true class",
}
"""Captions of what ``embeddings`` puts among a result's figures."""


@dataclass(frozen=True)
class ReportFigure:
    """A figure as the report has it. title: its caption. alt: the same in words and numbers.

    path: relative to the study's folder, with forward slashes. section: the heading it stands under.
    """

    title: str
    alt: str
    path: str
    png: bytes
    section: Section


def of_plots(summary: Summary) -> list[ReportFigure]:
    """The figures of every plot that applies, in the order of ``PLOTS``."""
    return [
        ReportFigure(each.title, each.alt, f"figures/{each.name}.png", png(each.figure), plot.SECTION)
        for plot in PLOTS
        if plot.applies(summary)
        for each in plot.draw(summary)
    ]


def of_rows(summary: Summary, storage: Path) -> Iterator[ReportFigure]:
    """What ``embeddings.draw_rows`` drew of an ablation, if it did."""
    path = storage / summary.study / ROWS
    if len(summary.ablation) > 1 and path.exists():
        first, last = (summary.ablation[place].row.label for place in (0, -1))
        what = f"Features of {first} and of {last} in two dimensions, under one projection, colored by class"
        yield ReportFigure(what, f"{what}.", ROWS, path.read_bytes(), Section.ROWS)


def of_best_trial(summary: Summary, storage: Path) -> Iterator[ReportFigure]:
    """What the closing stages of the best trial drew, as far as it is in the store."""
    trial = best_trial(summary)
    if trial is None or summary.best is None:
        return
    for path in files_of_best_trial(summary, storage):
        what = _caption(path)
        whose = f"{summary.best.label}, seed {label(trial.seed)}"
        place = f"../{path.relative_to(storage).as_posix()}"
        yield ReportFigure(f"{what} ({whose})", f"{what}.", place, path.read_bytes(), Section.BEST_TRIAL)


def _caption(path: Path) -> str:
    """What a figure of a result shows, as its stage said when it was drawn."""
    try:
        captions = manifest.read(path.parent.parent).get("captions", {})
    except (OSError, ValueError):
        captions = {}
    return str({**_EMBEDDINGS, **captions}.get(path.stem, path.stem.replace("_", " ")))


def files_of_best_trial(summary: Summary, storage: Path) -> list[Path]:
    """The files of those figures."""
    trial = best_trial(summary)
    folders = [storage / "stages" / stage.result_name / "figures" for stage in (closing_stages(trial) if trial else ())]
    return [path for folder in folders for path in sorted(folder.glob("*.png"))]


def best_trial(summary: Summary) -> Trial | None:
    """Of the best configuration the trial with the best objective; of equal ones the lower seed."""
    if summary.best is None:
        return None
    metric, sign = summary.objective.metric, summary.objective.sign
    done = [trial for trial in summary.best.trials if trial.state == DONE and metric in trial.metrics]
    return min(done, key=lambda trial: (sign * trial.metrics[metric], trial.seed))
