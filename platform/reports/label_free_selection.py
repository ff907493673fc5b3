"""How well one could have chosen without labels: each label-free criterion of the method, by its pick's accuracy."""

from dataclasses import dataclass

from scipy import stats

from ..ledger import stage_metadata
from ..ledger.aggregate import Objective
from ..ledger.formatting import format_number
from .ranking import ranked
from .summary import ACCURACY, ConfigurationRow, Summary
from .table import MISSING, Cell, Table, as_table

COLUMNS = ("criterion", "rank correlation", "settings", f"{ACCURACY} of its pick", "regret", "picks")


@dataclass(frozen=True)
class CriterionResult:
    """One criterion over the configurations that have it and an accuracy.

    correlation: Spearman's, of the criterion's means (turned so that more is better) with the mean accuracy; None where
    either does not vary. picked: the best one by the criterion. regret: best mean accuracy minus that of the pick.
    """

    criterion: Objective
    correlation: float | None
    num_configurations: int
    picked: ConfigurationRow
    accuracy: float
    regret: float


def criterion_results(summary: Summary) -> list[CriterionResult]:
    """Every stage's criterion, the study's own objective first.

    Returns:
        Empty for a single configuration, and without accuracies.
    """
    own = () if summary.looks_at_labels else (summary.objective,)
    offered = (Objective(*each) for each in stage_metadata.of(summary.method, summary.pretext).criteria)
    results = (_result(summary, criterion) for criterion in dict.fromkeys((*own, *offered)))
    return [each for each in results if each is not None]


def table(summary: Summary) -> Table:
    """The criteria side by side; empty where there is nothing to choose."""
    rows = []
    for each in criterion_results(summary):
        rows.append(
            (
                Cell(f"{each.criterion.metric} ({each.criterion.mode})"),
                Cell(MISSING) if each.correlation is None else Cell(f"{each.correlation:+.2f}", each.correlation),
                Cell(str(each.num_configurations), each.num_configurations),
                Cell(format_number(each.accuracy), each.accuracy),
                Cell(format_number(each.regret), each.regret),
                Cell(each.picked.label),
            )
        )
    return as_table("Choosing without labels", COLUMNS, rows)


def advice(summary: Summary) -> list[str]:
    """Which criterion one should have used, if another than the study's; nothing where there was no choice."""
    results = criterion_results(summary)
    if len(results) < 2 or summary.looks_at_labels:
        return []
    own, best = results[0], min(results, key=lambda each: each.regret)
    if own.criterion.metric != summary.objective.metric or best.regret >= own.regret:
        return []
    gained = f"{ACCURACY} {format_number(best.accuracy)}, not {format_number(own.accuracy)}"
    return [f"{best.criterion.metric} would have been the better criterion here: its pick has {gained}."]


def _result(summary: Summary, criterion: Objective) -> CriterionResult | None:
    name = criterion.metric
    accuracy_name = summary.accuracy
    rows = [row for row in summary.configurations if name in row.metrics and accuracy_name in row.metrics]
    rows = [row for row in rows if accuracy_name != ACCURACY or not row.is_overclustered]
    values = [row.metrics[name].mean for row in rows]
    # A stage that all configurations share has one value: it cannot choose.
    if len(set(values)) < 2:
        return None
    accuracies = [row.metrics[accuracy_name].mean for row in rows]
    picked = ranked([(row, row.metrics[name]) for row in rows], criterion)[0]
    accuracy = picked.metrics[accuracy_name].mean
    goodness = [-criterion.sign * value for value in values]
    correlation = float(stats.spearmanr(goodness, accuracies).statistic) if len(set(accuracies)) > 1 else None
    return CriterionResult(criterion, correlation, len(rows), picked, accuracy, max(accuracies) - accuracy)
