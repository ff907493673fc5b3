"""What alternating normalization did in each row of a study, and where it could not act."""

from collections.abc import Iterator

from trainables.training.normalization_metrics import OF_A_RUN, idle

from ...ledger.formatting import format_number
from ..summary import ConfigurationRow, Summary
from ..table import MISSING, Cell, Table, as_table

COLUMNS = ("row", "stage", "unsure", "with a sure row", "moved", "acc", "acc corrected", "remark")


def _stages(row: ConfigurationRow) -> Iterator[tuple[str, dict[str, float]]]:
    """(slot, mean of each of its metrics over the seeds) of the stages of a row that normalized anything."""
    counted = f"/{OF_A_RUN[0]}"
    for name in row.metrics:
        if name.endswith(counted):
            slot = name.removesuffix(counted)
            own = {key: spread.mean for key, spread in row.metrics.items() if key.startswith(f"{slot}/")}
            yield slot, {key.removeprefix(f"{slot}/"): value for key, value in own.items()}


def table(summary: Summary) -> Table:
    """Per row and stage, over all epochs and as means over the seeds: shares of rows, and accuracy at inference.

    unsure, moved: of all rows. with a sure row: of the unsure ones. acc, acc corrected: of the evaluated images at the
    end, as they are and after correction.
    """
    rows = []
    for row in summary.configurations:
        for slot, means in _stages(row):
            count, unsure, reference, moved, _ = (means[name] for name in OF_A_RUN)
            shares = [unsure / count, reference / unsure if unsure else None, moved / count]
            accuracies = [means.get(f"an_acc_{when}") for when in ("before", "after")]
            cells = [_number(value) for value in (*shares, *accuracies)]
            rows.append((Cell(row.label), Cell(slot), *cells, Cell("; ".join(idle(means)) or MISSING)))
    return as_table("What alternating normalization did", COLUMNS, rows)


def warnings(summary: Summary) -> list[str]:
    """A sentence for each row and stage whose normalization could not act, or hardly."""
    return [
        f"Beware: {row.label}: alternating normalization of {slot} could hardly act: {'; '.join(phrases)}."
        for row in summary.configurations
        for slot, means in _stages(row)
        if (phrases := idle(means))
    ]


def _number(value: float | None) -> Cell:
    return Cell(MISSING) if value is None else Cell(format_number(value), value)
