"""The evidence for a number of clusters in a table and in a sentence that claims no more than the table shows."""

import statistics
from collections.abc import Sequence

from trainables.label_metrics import looks_at_labels

from ...ledger.formatting import format_number, format_spread
from ..summary import ClusterNumber, Summary
from ..table import MISSING, Cell, Table, as_table

FIELD = "num_clusters"
_CAUTION = (
    "Agreement says how repeatable a clustering is, not that there are so many groups: two clusters that are easily "
    "told apart agree well in any data."
)


def parameter(summary: Summary) -> str:
    """Full name of the searched number of clusters; empty where there is not exactly one."""
    names = [name for name in summary.search if name.rpartition(".")[2] == FIELD]
    return names[0] if len(names) == 1 else ""


def table(summary: Summary) -> Table:
    """One row per number of clusters; empty without evidence."""
    shows_criterion = bool(summary.cluster_numbers) and not looks_at_labels(summary.objective.metric)
    criterion = summary.objective.metric
    columns = ["clusters", "seeds agree (adjusted Rand)", "seeds agree, merged from the largest"]
    columns += [criterion, "change from the number before"] if shows_criterion else []
    rows: list[tuple[Cell, ...]] = []
    before: float | None = None
    for each in summary.cluster_numbers:
        cells = [Cell(str(each.number), each.number), _agreement(each.agreements), _agreement(each.merged_agreements)]
        if shows_criterion:
            spread = each.criterion
            cells.append(
                Cell(format_spread(spread.mean, spread.std, spread.n), spread.mean) if spread else Cell(MISSING)
            )
            change = spread.mean - before if spread and before is not None else None
            cells.append(Cell(MISSING) if change is None else Cell(format_number(change), change))
            before = spread.mean if spread else None
        rows.append(tuple(cells))
    return as_table("How many clusters", tuple(columns), rows, _notes(summary) if rows else [])


def _notes(summary: Summary) -> list[str]:
    pairs = {len(each.agreements) for each in summary.cluster_numbers}
    counted = f"{min(pairs)}" if len(pairs) == 1 else f"{min(pairs)} to {max(pairs)}"
    return [
        f"Adjusted Rand index of the clusterings of every pair of seeds on the same images, {counted} pairs: mean and "
        "standard deviation over the pairs, which share seeds. 0 is chance, 1 the same clusters. No label is used. Of "
        "each number the setting with the best objective counts; collapsed trials are left out.",
        f"Merged: the clustering with {summary.cluster_numbers[-1].number} clusters of each seed, where the two that "
        "share most of their images are merged until so many are left.",
    ]


def sentences(summary: Summary) -> list[str]:
    """At which number the seeds agree most, and which others are as good; nothing without evidence."""
    measured = [each for each in summary.cluster_numbers if each.agreements]
    if not summary.cluster_numbers:
        return []
    if len(measured) < 2:
        return ["How many clusters: seeds cannot be compared, because no two numbers have two finished seeds each."]
    best = max(measured, key=lambda each: each.mean)
    std = statistics.stdev(best.agreements) if len(best.agreements) > 1 else 0.0
    others = [each.number for each in measured if each is not best and each.mean >= best.mean - std]
    count = len(best.agreements)
    spread = f" ± {format_number(std)} over {count} pairs" if count > 1 else " for one pair"
    shown = f"adjusted Rand {format_number(best.mean)}{spread} of seeds"
    text = f"How many clusters: seeds agree most at {best.number} ({shown})"
    if others:
        text += f"; {_listed(others)} within one standard deviation of it, so this study does not tell them apart"
    elif best in (measured[0], measured[-1]):
        text += ", which is an end of the numbers tried: more of them may do better"
    return [f"{text}.", _CAUTION]


def _listed(numbers: Sequence[int]) -> str:
    if len(numbers) == 1:
        return f"{numbers[0]} lies"
    return f"{', '.join(map(str, numbers[:-1]))} and {numbers[-1]} lie"


def _agreement(values: Sequence[float]) -> Cell:
    if not values:
        return Cell(MISSING)
    mean = statistics.fmean(values)
    return Cell(format_spread(mean, statistics.stdev(values) if len(values) > 1 else None, len(values)), mean)


def alt_text(numbers: Sequence[ClusterNumber]) -> str:
    """The agreement at each number, in words."""
    shown = [f"{each.number}: {format_number(each.mean)}" for each in numbers if each.agreements]
    return f"Adjusted Rand index between seeds by number of clusters: {', '.join(shown) or 'not measured'}."
