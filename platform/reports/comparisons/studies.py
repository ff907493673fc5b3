"""Several studies side by side: methods on one data set, one method over data sets, or both, with what each one spent.

Each study stands with the configuration that its own rule picked. Who tries more of them, or spends more hours,
has more chances to find a good one, so the budgets stand beside the results, and a difference is said in words.
"""

from collections.abc import Mapping, Sequence

from trainables import pipeline

from ...ledger.aggregate import Spread
from ...ledger.formatting import format_number, format_seconds
from ...ledger.rows import COLLAPSED, DONE, PRUNED
from .. import content
from ..summary import ACCURACY, Summary
from ..table import MISSING, Cell, Table, as_table
from . import differences, significance

_UNEQUAL = 1.25
"""Device hours that differ by more than this factor are not called equal."""


def tables(summaries: Sequence[Summary]) -> list[Table]:
    """The tables that have any row, in the order of the page."""
    shown = [matrix(summaries), studies(summaries), paired(summaries), budgets(summaries)]
    return [table for table in shown if table.rows]


def studies(summaries: Sequence[Summary]) -> Table:
    """Each study's best configuration by its own rule."""
    rows = []
    for summary in summaries:
        best = summary.best
        metrics: Mapping[str, Spread] = best.metrics if best else {}
        cells = [Cell(method(summary)), Cell(summary.study), Cell(content.data_set(summary))]
        cells += [content.spread_cell(metrics.get(metric)) for metric in content.LABEL_METRICS]
        rows.append((*cells, Cell(best.label if best else MISSING)))
    columns = ("method", "study", "data set", *content.LABEL_METRICS, "setting")
    return as_table("Studies side by side", columns, rows)


def matrix(summaries: Sequence[Summary]) -> Table:
    """Accuracy by method and data set; empty for a single data set, and if two studies share method and data set."""
    methods = list(dict.fromkeys(method(summary) for summary in summaries))
    data = list(dict.fromkeys(content.data_set(summary) for summary in summaries))
    by_place = {(method(summary), content.data_set(summary)): summary for summary in summaries}
    if len(data) < 2 or len(by_place) < len(summaries):
        return as_table("", (), ())
    rows = []
    for name in methods:
        row = [by_place.get((name, each)) for each in data]
        spreads = [_accuracy(each) if each else None for each in row]
        rows.append((Cell(name), *map(content.spread_cell, spreads)))
    return as_table(f"{ACCURACY} by method and data set", ("method", *data), rows)


def budgets(summaries: Sequence[Summary]) -> Table:
    """What each study spent, and the rule by which it picked its configuration."""
    rows = []
    for summary in summaries:
        spent_h, device = device_hours(summary)
        states = [trial.state for row in summary.configurations for trial in row.trials]
        stopped = sum(state in (PRUNED, COLLAPSED) for state in states)
        rows.append(
            (
                Cell(summary.study),
                Cell(str(len(summary.configurations)), len(summary.configurations)),
                Cell(str(len(summary.seeds)), len(summary.seeds)),
                Cell(str(states.count(DONE)), states.count(DONE)),
                Cell(str(stopped), stopped),
                Cell(f"{_hours(spent_h)} {device}", spent_h),
                Cell(format_seconds(_spent_s(summary)), _spent_s(summary)),
                Cell(str(summary.cost.reused), summary.cost.reused),
                Cell(content.criterion(summary)),
            )
        )
    columns = ("study", "settings", "seeds", "trials", "stopped", "device hours", "time", "reused", "picked by")
    note = (
        "trials: finished ones, a setting with one seed each. device hours: time of shared stages and trials, times "
        "the devices each asks for. reused: stage results that were in the store already; their hours count where they "
        "were computed."
    )
    return as_table("What each study spent", columns, rows, [note])


def paired(summaries: Sequence[Summary]) -> Table:
    """The other studies against the first, by seed, where all are on one data set; empty otherwise."""
    with_best = [summary for summary in summaries if summary.best is not None]
    if len(with_best) < 2 or len({content.data_set(summary) for summary in summaries}) > 1:
        return as_table("", differences.COLUMNS, ())
    base, *rest = with_best
    pairs = significance.compare_to_base([_accuracies(each) for each in rest], _accuracies(base))
    rows = [differences.cells(each.study, pair, True) for each, pair in zip(rest, pairs, strict=True)]
    note = (
        f"Each study's picked setting against that of {base.study}, over the seeds both have; p after Holm's "
        "correction. The settings were picked with these seeds, which flatters whoever tried more of them."
    )
    return as_table(
        f"Differences in {ACCURACY} to {base.study}, paired by seed", ("study", *differences.COLUMNS[1:]), rows, [note]
    )


def sentences(summaries: Sequence[Summary]) -> list[str]:
    """What keeps the rows from being compared as they stand."""
    lines = []
    data = sorted({content.data_set(summary) for summary in summaries})
    if len(data) > 1:
        lines.append(f"Rows on different data sets are not comparable with each other: {', '.join(data)}.")
    lines += _budget_sentences(summaries)
    rules = dict.fromkeys("labels" if summary.looks_at_labels else "no labels" for summary in summaries)
    if "labels" in rules:
        lines.append(
            "A setting chosen by a metric that looks at labels is an oracle's: it cannot be chosen in practice."
        )
    if len(rules) > 1:
        oracles = ", ".join(summary.study for summary in summaries if summary.looks_at_labels)
        lines.append(f"Chosen with labels: {oracles}; the others without, so the two kinds are not comparable.")
    return lines


def device_hours(summary: Summary) -> tuple[float, str]:
    """Hours times devices, and which: "GPU h" where the trials ask for GPUs, else "CPU h" for cores."""
    resources = summary.launch.resolved.get("resources", {})
    shares = {kind: resources.get(kind) or {} for kind in ("prepare", "trial")}
    device = "gpu" if any(share.get("gpu") for share in shares.values()) else "cpu"
    spent = {"prepare": summary.cost.prepare_s, "trial": summary.cost.trials_s}
    hours = 0.0
    for kind, share in shares.items():
        # Where a study says nothing of a phase, a process has one core.
        each = share.get(device, 1.0 if device == "cpu" else 0.0)
        hours += spent[kind] / 3600 * each * max(1, share.get("workers", 0))
    return hours, f"{device.upper()} h"


def method(summary: Summary) -> str:
    """The method, and its pretext where it is another than the one of its own."""
    own = pipeline.stage_names(summary.method)[0] if pipeline.is_method(summary.method) else ""
    return summary.method + (f" ({summary.pretext})" if summary.pretext not in ("", own) else "")


def _budget_sentences(summaries: Sequence[Summary]) -> list[str]:
    lines = []
    tried = {summary.study: len(summary.configurations) for summary in summaries}
    seeds = {summary.study: len(summary.seeds) for summary in summaries}
    for counts, what in ((tried, "settings"), (seeds, "seeds")):
        if len(set(counts.values())) > 1:
            listed = ", ".join(f"{study} {number}" for study, number in counts.items())
            lines.append(f"Budgets are not equal in {what}: {listed}.")
    hours = [device_hours(summary) for summary in summaries]
    least, most = min(each for each, _ in hours), max(each for each, _ in hours)
    if len({device for _, device in hours}) > 1:
        lines.append("Budgets are not equal in device hours: some studies ran on GPUs, some on CPUs.")
    elif least > 0 and most > _UNEQUAL * least:
        lines.append(f"Budgets are not equal in device hours: the most is {most / least:.1f} times the least.")
    return lines or ["Budgets are equal: as many settings and seeds, and about as many device hours, for each study."]


def _accuracy(summary: Summary) -> Spread | None:
    """Of the best setting, one to one; None where it has more clusters than there are classes."""
    best = summary.best
    return None if best is None or best.is_overclustered else best.metrics.get(ACCURACY)


def _accuracies(summary: Summary) -> Mapping[int, float]:
    assert summary.best is not None
    if summary.best.is_overclustered:
        return {}
    return differences.by_seed(summary.best, ACCURACY)


def _spent_s(summary: Summary) -> float:
    return summary.cost.prepare_s + summary.cost.trials_s


def _hours(hours: float) -> str:
    return f"{hours:.1f}" if hours >= 10 else format_number(hours)
