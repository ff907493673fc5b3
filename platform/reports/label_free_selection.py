"""How well a setting could have been chosen without labels: each label-free criterion of the method, judged by them."""

from dataclasses import dataclass

from scipy import stats

from ..ledger import stage_metadata
from ..ledger.formatting import format_number
from .summary import ACCURACY, ConfigurationRow, Summary, ranked
from .table import MISSING, Cell, Table, as_table

COLUMNS = ("criterion", "rank correlation", "settings", f"{ACCURACY} of its pick", "regret", "picks")


@dataclass(frozen=True)
class Judged:
    """One criterion over the settings that have it and an accuracy.

    correlation: Spearman's, of the criterion's means (turned so that more is better) with the mean accuracy; None where
    either does not vary. regret: best mean accuracy minus that of what the criterion picks.
    """

    name: str
    mode: str
    correlation: float | None
    num_settings: int
    picked: ConfigurationRow
    accuracy: float
    regret: float


def judged(summary: Summary) -> list[Judged]:
    """Every stage's criterion, the study's own first; of one setting or without accuracies, none."""
    own = () if summary.looks_at_labels else ((summary.metric, summary.mode),)
    offered = stage_metadata.of(summary.method, summary.pretext).criteria
    found = (_judge(summary, name, mode) for name, mode in dict.fromkeys((*own, *offered)))
    return [each for each in found if each is not None]


def table(summary: Summary) -> Table:
    """The criteria side by side; empty where there is nothing to choose."""
    rows = []
    for each in judged(summary):
        rows.append(
            (
                Cell(f"{each.name} ({each.mode})"),
                Cell(MISSING) if each.correlation is None else Cell(f"{each.correlation:+.2f}", each.correlation),
                Cell(str(each.num_settings), each.num_settings),
                Cell(format_number(each.accuracy), each.accuracy),
                Cell(format_number(each.regret), each.regret),
                Cell(each.picked.label),
            )
        )
    return as_table("Choosing without labels", COLUMNS, rows)


def advice(summary: Summary) -> list[str]:
    """Which criterion one should have used, if another than the study's; nothing where there was no choice."""
    found = judged(summary)
    if len(found) < 2 or summary.looks_at_labels:
        return []
    own, best = found[0], min(found, key=lambda each: each.regret)
    if own.name != summary.metric or best.regret >= own.regret:
        return []
    gained = f"{ACCURACY} {format_number(best.accuracy)}, not {format_number(own.accuracy)}"
    return [f"{best.name} would have been the better criterion here: its pick has {gained}."]


def _judge(summary: Summary, name: str, mode: str) -> Judged | None:
    rows = [row for row in summary.configurations if name in row.metrics and ACCURACY in row.metrics]
    values = [row.metrics[name].mean for row in rows]
    # A stage that all settings share has one value: it cannot choose.
    if len(set(values)) < 2:
        return None
    accuracies = [row.metrics[ACCURACY].mean for row in rows]
    picked = ranked([(row, row.metrics[name]) for row in rows], mode == "max")[0]
    accuracy = picked.metrics[ACCURACY].mean
    turned = values if mode == "max" else [-value for value in values]
    correlation = float(stats.spearmanr(turned, accuracies).statistic) if len(set(accuracies)) > 1 else None
    return Judged(name, mode, correlation, len(rows), picked, accuracy, max(accuracies) - accuracy)
