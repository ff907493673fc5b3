"""Published values beside ours: the difference, and in what the two did not come about in the same way.

Where the study file says how a published value was obtained (``study.published.NOTES``), it is compared with how ours
was: data set, protocol, backbone, epochs and number of runs. Where the best of several runs was published, the best of
ours stands beside it, for a mean would not compare with it. What differs is named; a difference between values that
were not obtained alike is no reproduction gone wrong. What the file does not say is not compared.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ...ledger.aggregate import results
from ...ledger.formatting import format_number, format_spread
from ...ledger.rows import Trial
from ...study.published import kind_of_statistic, notes_of, num_runs, std_of
from ..summarize import on_our_scale
from ..summary import ACCURACY, ConfigurationRow, Summary
from ..table import MISSING, Cell, Table, as_table

UNLIKE = "*"
"""Behind a difference between values that were not obtained alike."""
COLUMNS = ("row", "metric", "ours", "published", "difference", "published for", "unlike ours in")
_FIRST = ("acc", "nmi", "ari")
_CHOSEN = "auto"
"""A backbone that the pretext chooses by image size, as the published recipes do: compared with none."""


@dataclass(frozen=True)
class PublishedValue:
    """One published value beside ours.

    value: on our scale. notes: what the file says of it. unlike: how the two were obtained differently, as "protocol:
    split there, union here". doubt: what speaks against the value, or nothing. std: published beside it, on our scale.
    """

    row: ConfigurationRow
    metric: str
    value: float
    notes: Mapping[str, Any]
    unlike: tuple[str, ...]
    doubt: str
    std: float | None = None

    @property
    def is_best(self) -> bool:
        """Whether the best of several runs was published, so that the best of ours stands beside it."""
        return kind_of_statistic(self.notes.get("statistic", "mean")) == "best"

    @property
    def ours(self) -> float | None:
        """Our mean over the seeds; where the best run was published, the metric of our best run."""
        if not self.is_best:
            spread = self.row.metrics.get(self.metric)
            return None if spread is None else spread.mean
        best = _best_run(self.row, self.metric)
        return None if best is None else best.metrics[self.metric]

    @property
    def shown_ours(self) -> str:
        if self.ours is None:
            return MISSING
        if self.is_best:
            return f"{format_number(self.ours)} (best of {len(results(self.row.trials, self.metric))})"
        spread = self.row.metrics[self.metric]
        return format_spread(spread.mean, spread.std, spread.n)

    @property
    def shown_published(self) -> str:
        return shown(self.value) + ("" if self.std is None else f" ± {shown(self.std)}")

    @property
    def difference(self) -> float | None:
        return None if self.ours is None else self.ours - self.value


def _best_run(row: ConfigurationRow, metric: str) -> Trial | None:
    """The run whose accuracy, after the metric's stage, is best: a run's numbers belong together."""
    slot, bar, _ = metric.rpartition("/")
    runs = results(row.trials, metric)
    by = f"{slot}{bar}{ACCURACY}"
    by = by if all(by in run.metrics for run in runs) else metric
    return max(runs, key=lambda run: run.metrics[by], default=None)


def published_values(summary: Summary) -> list[PublishedValue]:
    """Every published value: those of the study beside its best configuration, then those of the rows."""
    return [*of_study(summary), *of_rows(summary)]


def of_study(summary: Summary) -> list[PublishedValue]:
    """The values of the whole study beside its best configuration; none without one."""
    if summary.best is None:
        return []
    printed = summary.launch.resolved.get("published", {})
    return list(_of_row(summary, summary.best, printed, summary.published, _general(summary)))


def of_rows(summary: Summary) -> list[PublishedValue]:
    """The values of an ablation's rows."""
    rows = summary.launch.resolved["ablate"]
    values: list[PublishedValue] = []
    for each in summary.ablation:
        printed = rows.get(each.row.variant, {}).get("published", {})
        notes = {**_general(summary), **notes_of(printed)}
        values += _of_row(summary, each.row, printed, each.published, notes)
    return values


def table(summary: Summary) -> Table:
    """Our values and the published ones, row by row; empty where nothing was published. Doubts are footnotes."""
    values = published_values(summary)
    doubts = list(dict.fromkeys(each.doubt for each in values if each.doubt))
    rows = []
    for each in values:
        note = f" [{doubts.index(each.doubt) + 1}]" if each.doubt else ""
        rows.append(
            (
                Cell(each.row.label),
                Cell(each.metric),
                Cell(each.shown_ours, each.ours),
                Cell(each.shown_published + note, each.value),
                difference_cell(each),
                Cell(", ".join(_words(each.notes)) or MISSING),
                Cell("; ".join(each.unlike) or MISSING),
            )
        )
    notes = [f"[{number}] {text}" for number, text in enumerate(doubts, start=1)]
    if any(each.unlike for each in values):
        notes.insert(0, f"{UNLIKE} not obtained as ours was; see the last column.")
    return as_table("Published values beside ours", COLUMNS, [*rows, *_not_run(summary)], notes)


def _not_run(summary: Summary) -> Iterator[tuple[Cell, ...]]:
    """The rows of the published table that the study has no row for, with the reason in the last column."""
    resolved = summary.launch.resolved
    printed = [resolved.get("published", {}), *(row.get("published", {}) for row in resolved["ablate"].values())]
    for name, row in (entry for each in printed for entry in each.get("not_run", {}).items()):
        values = {metric: on_our_scale(metric, value) for metric, value in row.items() if metric != "why"}
        for metric, value in sorted(values.items(), key=_order):
            cells = (Cell(name), Cell(metric), Cell("not run"), Cell(shown(value), value), Cell(MISSING), Cell(MISSING))
            yield (*cells, Cell(row["why"]))


def difference_cell(each: PublishedValue) -> Cell:
    """Ours minus published, marked where the two were not obtained alike."""
    if each.difference is None:
        return Cell(MISSING)
    return Cell(f"{each.difference:+.3f}{UNLIKE if each.unlike else ''}", each.difference)


def sentences(summary: Summary) -> Iterator[str]:
    """The study's own published values beside its best configuration, one sentence each."""
    for each in of_study(summary):
        ours = "" if each.difference is None else f"; ours differs by {each.difference:+.3f}"
        unlike = f", but is not comparable: {'; '.join(each.unlike)}" if each.unlike else ""
        doubt = f" In doubt: {each.doubt.rstrip('.')}." if each.doubt else ""
        yield f"Published {each.metric}: {each.shown_published}{ours}{unlike}.{doubt}"


def shown(value: float) -> str:
    """With as many digits as were printed, at least three decimals for a share."""
    exact = f"{value:.6g}"
    return exact if len(exact.partition(".")[2]) >= 3 else format_number(value)


def _general(summary: Summary) -> Mapping[str, Any]:
    return notes_of(summary.launch.resolved.get("published", {}))


def _of_row(
    summary: Summary,
    row: ConfigurationRow,
    printed: Mapping[str, Any],
    values: Mapping[str, float],
    notes: Mapping[str, Any],
) -> Iterator[PublishedValue]:
    """printed: what the file says; values: its numbers on our scale."""
    unlike, doubt = tuple(_unlike(summary, row, notes)), notes.get("doubt", "")
    for metric, value in sorted(values.items(), key=_order):
        about = doubt.get(metric, "") if isinstance(doubt, Mapping) else doubt
        std = std_of(notes, metric)
        if std is not None and printed.get(metric) != value:  # both were printed in percent
            std /= 100
        yield PublishedValue(row, metric, value, notes, unlike, about, std)


def _unlike(summary: Summary, row: ConfigurationRow, notes: Mapping[str, Any]) -> Iterator[str]:
    settings = {**summary.launch.resolved.get("fixed", {}), **row.params}
    for name in ("dataset", "protocol"):
        ours = summary.dataset.get("name" if name == "dataset" else name)
        if name in notes and ours and notes[name] != ours:
            yield f"{'data set' if name == 'dataset' else name}: {notes[name]} there, {ours} here"
    if "backbone" in notes:
        networks = dict.fromkeys(str(value) for name, value in settings.items() if name.endswith(".network"))
        here = [name for name in networks if name != _CHOSEN]
        # "resnet18" covers resnet18_cifar, the same network with a stem for small images.
        if not all(f"{name}_".startswith(f"{notes['backbone']}_") for name in here):
            yield f"backbone: {notes['backbone']} there, {' and '.join(here)} here"
    for slot, theirs in notes.get("epochs", {}).items():
        ours = settings.get(f"{slot}.epochs", theirs)
        if ours != theirs:
            yield f"epochs of {slot}: {theirs} there, {ours} here"
    if "statistic" in notes:
        theirs, kind, runs = notes["statistic"], kind_of_statistic(notes["statistic"]), num_runs(notes["statistic"])
        here_kind = "one run" if row.wanted == 1 else "best" if kind == "best" else "mean"
        is_alike = kind == here_kind and (kind == "mean" or runs in (None, row.wanted))
        if not is_alike:
            yield f"statistic: {theirs} there, {here_kind if row.wanted == 1 else f'{here_kind} of {row.wanted}'} here"


def _order(entry: tuple[str, float]) -> tuple[str, int, str]:
    """By stage, and there as the tables of the field have them; the ledger keeps names sorted by letter."""
    slot, _, name = entry[0].rpartition("/")
    return slot, _FIRST.index(name) if name in _FIRST else len(_FIRST), name


def _words(notes: Mapping[str, Any]) -> Iterator[str]:
    yield from (notes[name] for name in ("dataset", "protocol", "backbone") if name in notes)
    if notes.get("epochs"):
        yield " + ".join(f"{number} epochs of {slot}" for slot, number in notes["epochs"].items())
    yield from (notes[name] for name in ("statistic", "source") if name in notes)
