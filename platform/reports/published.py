"""Published values beside ours: the difference, and in what the two did not come about in the same way.

Where the study file says how a published value was obtained (``study.published.NOTES``), it is compared with how ours
was: data set, protocol, backbone, epochs and statistic. What differs is named; a difference between values that were
not obtained alike is no reproduction gone wrong. What the file does not say is not compared.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ..ledger.aggregate import Spread
from ..ledger.formatting import format_number
from ..study.published import kind_of_statistic, notes_of
from .summary import ConfigurationRow, Summary
from .table import MISSING, Cell, Table, as_table

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
    split there, union here". doubt: what speaks against the value, or nothing.
    """

    row: ConfigurationRow
    metric: str
    value: float
    notes: Mapping[str, Any]
    unlike: tuple[str, ...]
    doubt: str

    @property
    def ours(self) -> Spread | None:
        return self.row.metrics.get(self.metric)

    @property
    def difference(self) -> float | None:
        return None if self.ours is None else self.ours.mean - self.value


def published_values(summary: Summary) -> list[PublishedValue]:
    """Every published value: those of the study beside its best configuration, then those of the rows."""
    return [*of_study(summary), *of_rows(summary)]


def of_study(summary: Summary) -> list[PublishedValue]:
    """The values of the whole study beside its best configuration; none without one."""
    if summary.best is None:
        return []
    return list(_of_row(summary, summary.best, summary.published, _general(summary)))


def of_rows(summary: Summary) -> list[PublishedValue]:
    """The values of an ablation's rows."""
    rows = summary.launch.resolved["ablate"]
    values: list[PublishedValue] = []
    for each in summary.ablation:
        own = notes_of(rows.get(each.row.variant, {}).get("published", {}))
        values += _of_row(summary, each.row, each.published, {**_general(summary), **own})
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
                Cell(MISSING) if each.ours is None else Cell(format_number(each.ours.mean), each.ours.mean),
                Cell(shown(each.value) + note, each.value),
                difference_cell(each),
                Cell(", ".join(_words(each.notes)) or MISSING),
                Cell("; ".join(each.unlike) or MISSING),
            )
        )
    notes = [f"[{number}] {text}" for number, text in enumerate(doubts, start=1)]
    if any(each.unlike for each in values):
        notes.insert(0, f"{UNLIKE} not obtained as ours was; see the last column.")
    return as_table("Published values beside ours", COLUMNS, rows, notes)


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
        yield f"Published {each.metric}: {shown(each.value)}{ours}{unlike}.{doubt}"


def shown(value: float) -> str:
    """With as many digits as were printed, at least three decimals for a share."""
    exact = f"{value:.6g}"
    return exact if len(exact.partition(".")[2]) >= 3 else format_number(value)


def _general(summary: Summary) -> Mapping[str, Any]:
    return notes_of(summary.launch.resolved.get("published", {}))


def _of_row(
    summary: Summary, row: ConfigurationRow, values: Mapping[str, float], notes: Mapping[str, Any]
) -> Iterator[PublishedValue]:
    unlike, doubt = tuple(_unlike(summary, row, notes)), notes.get("doubt", "")
    for metric, value in sorted(values.items(), key=_order):
        about = doubt.get(metric, "") if isinstance(doubt, Mapping) else doubt
        yield PublishedValue(row, metric, value, notes, unlike, about)


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
        here_kind = "mean" if row.wanted > 1 else "one run"
        if kind_of_statistic(notes["statistic"]) != here_kind:
            here_words = f"mean of {row.wanted}" if row.wanted > 1 else here_kind
            yield f"statistic: {notes['statistic']} there, {here_words} here"


def _order(entry: tuple[str, float]) -> tuple[str, int, str]:
    """By stage, and there as the tables of the field have them; the ledger keeps names sorted by letter."""
    slot, _, name = entry[0].rpartition("/")
    return slot, _FIRST.index(name) if name in _FIRST else len(_FIRST), name


def _words(notes: Mapping[str, Any]) -> Iterator[str]:
    yield from (notes[name] for name in ("dataset", "protocol", "backbone") if name in notes)
    if notes.get("epochs"):
        yield " + ".join(f"{number} epochs of {slot}" for slot, number in notes["epochs"].items())
    yield from (notes[name] for name in ("statistic", "source") if name in notes)
