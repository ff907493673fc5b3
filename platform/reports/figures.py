"""The pictures of a report: sensitivity plots drawn from the ledger, and what the best trial left in the store."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

from trainables.seeds import label

from ..ledger.outcomes import closing_stages
from ..ledger.rows import DONE, Trial
from . import pareto
from .parameters import swept
from .plots import importance, landscape
from .plots import sensitivity as sensitivity_plot
from .summary import Summary

_EMBEDDINGS = {
    "embedding_pca": "The features in two dimensions (PCA), colored by cluster and by true class",
    "embedding_tsne": "The features in two dimensions (t-SNE), colored by cluster and by true class",
}
"""Captions of what ``embeddings`` puts among a result's figures."""


@dataclass(frozen=True)
class Picture:
    """path: relative to the study's folder, with forward slashes. drawn: made for this report, so written with it.
    section: the heading it stands under."""

    title: str
    alt: str
    path: str
    png: bytes
    drawn: bool
    section: str = "Sensitivity"


def sensitivity(summary: Summary) -> list[Picture]:
    """One picture per swept parameter."""
    if not sensitivity_plot.drawable(summary):
        return []
    return [
        Picture(
            title=sensitivity_plot.caption(summary, parameter),
            alt=sensitivity_plot.alt_text(summary, parameter),
            path=f"figures/sensitivity_{parameter.name}.png",
            png=sensitivity_plot.png(sensitivity_plot.sensitivity(summary, parameter)),
            drawn=True,
        )
        for parameter in swept(summary)
    ]


def pareto_front(summary: Summary) -> list[Picture]:
    """The plane of the first two objectives, where there are several and any setting has both."""
    if not pareto.front(summary):
        return []
    return [
        Picture(
            title="Pareto front",
            alt=pareto.alt_text(summary),
            path="figures/pareto.png",
            png=sensitivity_plot.png(pareto.figure(summary)),
            drawn=True,
        )
    ]


def landscape_of(summary: Summary) -> Iterator[Picture]:
    """The search as a whole: its course, what mattered in it, all settings as lines, and parameters two at a time."""

    def picture(title: str, alt: str, name: str, figure: Figure) -> Picture:
        return Picture(
            title, alt, f"figures/{name}.png", sensitivity_plot.png(figure), drawn=True, section="The search"
        )

    if landscape.has_history(summary):
        title = "The search: every setting, and the best so far"
        yield picture(title, landscape.history_text(summary), "history", landscape.history(summary))
    if importance.found(summary):
        title = "What mattered: importance of each parameter"
        yield picture(title, importance.alt_text(summary), "importance", importance.figure(summary))
    if landscape.has_lines(summary):
        title = "All settings as parallel coordinates"
        yield picture(title, landscape.parallel_text(summary), "parallel", landscape.parallel(summary))
    for across, up in landscape.pairs(summary):
        alt = landscape.heat_text(summary, across, up)
        name = f"pair_{across.name}_{up.name}"
        yield picture(f"{across.symbol} and {up.symbol} together", alt, name, landscape.heat_map(summary, across, up))


def of_best_trial(summary: Summary, storage: Path) -> Iterator[Picture]:
    """What the closing stages of the best trial drew, as far as it is in the store."""
    trial = best_trial(summary)
    if trial is None or summary.best is None:
        return
    for path in files_of_best_trial(summary, storage):
        what = _caption(path)
        whose = f"{summary.best.label}, seed {label(trial.seed)}"
        place = f"../{path.relative_to(storage).as_posix()}"
        yield Picture(f"{what} ({whose})", f"{what}.", place, path.read_bytes(), False, "The best trial")


def _caption(path: Path) -> str:
    """What a figure of a result shows, as its stage said when it was drawn."""
    try:
        captions = json.loads((path.parent.parent / "meta.json").read_text()).get("captions", {})
    except (OSError, ValueError):
        captions = {}
    return str({**_EMBEDDINGS, **captions}.get(path.stem, path.stem.replace("_", " ")))


def files_of_best_trial(summary: Summary, storage: Path) -> list[Path]:
    """Where those pictures are."""
    trial = best_trial(summary)
    folders = [
        storage / "stages" / f"{stage['name']}-{stage['address']}" / "figures"
        for stage in (closing_stages(trial) if trial else ())
    ]
    return [path for folder in folders for path in sorted(folder.glob("*.png"))]


def best_trial(summary: Summary) -> Trial | None:
    """Of the best setting the trial that the objective likes most; of equal ones the lower seed."""
    if summary.best is None:
        return None
    done = [trial for trial in summary.best.trials if trial.state == DONE and summary.metric in trial.metrics]
    sign = -1.0 if summary.mode == "max" else 1.0
    return min(done, key=lambda trial: (sign * trial.metrics[summary.metric], trial.seed))
