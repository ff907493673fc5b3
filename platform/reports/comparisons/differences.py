"""The rows of an ablation against its first one, seed by seed: differences, intervals and what they allow to say."""

from collections.abc import Mapping

from ...ledger.formatting import format_number
from ...ledger.rows import DONE
from ..summary import ACCURACY, ConfigurationRow, Summary
from ..table import MISSING, Cell, Table, as_table
from . import significance
from .significance import Paired

COLUMNS = ("row", "seeds", "difference", "95 % interval", "p", "p exact", "effect", "verdict")


def metric(summary: Summary) -> str:
    """What rows are compared by: the accuracy where there is one, or else the objective."""
    has_accuracy = any(summary.accuracy in row.metrics for row in summary.configurations)
    return summary.accuracy if has_accuracy else summary.objective.metric


def differences(summary: Summary) -> Table:
    """Every row but the base. An empty table where there is no ablation of two rows.

    p is of the paired t-test, with Holm's correction over the table; for a metric to be minimized "better" is a fall.
    """
    name = metric(summary)
    title = f"Differences in {name} to {_base(summary).label}, paired by seed" if summary.ablation else ""
    if len(summary.ablation) < 2:
        return as_table(title, COLUMNS, [])
    base, *rest = [each.row for each in summary.ablation]
    unlike = [row.is_overclustered != base.is_overclustered and name.startswith(ACCURACY) for row in rest]
    values = [{} if other else by_seed(row, name) for row, other in zip(rest, unlike, strict=True)]
    pairs = significance.compare_to_base(values, by_seed(base, name))
    is_higher_better = summary.objective_of(name).mode == "max"
    rows = [
        _not_compared(row.label) if other else cells(row.label, pair, is_higher_better)
        for row, pair, other in zip(rest, pairs, unlike, strict=True)
    ]
    return as_table(title, COLUMNS, rows)


def _not_compared(label: str) -> tuple[Cell, ...]:
    verdict = "clusters outnumber the classes in one of the two rows: not compared"
    return (Cell(label), *[Cell(MISSING)] * (len(COLUMNS) - 2), Cell(verdict))


def note(summary: Summary) -> list[str]:
    """How the table was made and what its number of seeds can show; nothing where there is no such table."""
    if len(summary.ablation) < 2:
        return []
    lines = [
        f"Differences are to the first row, {_base(summary).label}, over the seeds both have; p is a paired t-test "
        "after Holm's correction over the rows, effect is the mean difference over its deviation (n - 1)."
    ]
    exact = significance.exact_note(len(summary.seeds)) if len(summary.seeds) > 1 else ""
    return [*lines, *([exact] if exact else [])]


def _base(summary: Summary) -> ConfigurationRow:
    return summary.ablation[0].row


def by_seed(row: ConfigurationRow, name: str) -> Mapping[int, float]:
    """A metric of the finished trials of a configuration, by seed."""
    return {trial.seed: trial.metrics[name] for trial in row.trials if trial.state == DONE and name in trial.metrics}


def cells(label: str, pair: Paired | None, is_higher_better: bool) -> tuple[Cell, ...]:
    """One row of a table of differences. pair: None if the two have no seed in common."""
    if pair is None:
        return (Cell(label), Cell("0", 0), *[Cell(MISSING)] * (len(COLUMNS) - 3), Cell("no seed in common"))
    interval = pair.interval
    shown = f"{interval.low:+.3f} to {interval.high:+.3f}" if interval else MISSING
    return (
        Cell(label),
        Cell(str(pair.n), pair.n),
        Cell(f"{pair.difference:+.3f}", pair.difference),
        Cell(shown),
        _number(pair.p_adjusted),
        _number(pair.p_exact),
        _number(pair.effect),
        Cell(significance.verdict(pair, is_higher_better=is_higher_better)),
    )


def _number(value: float | None) -> Cell:
    return Cell(MISSING) if value is None else Cell(format_number(value), value)
