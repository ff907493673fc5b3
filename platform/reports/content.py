"""A summary as tables and sentences of text, whatever they are then written into: the terminal, Markdown or a page."""

import re

from trainables import pipeline
from trainables.runner.messages import StageRecord
from trainables.seeds import is_crossed, label, parts

from ..ledger.aggregate import Spread
from ..ledger.formatting import format_number, format_seconds, format_spread, format_value, param_labels
from ..ledger.outcomes import status
from ..ledger.rows import COLLAPSED, DONE, PRUNED
from ..study.resolved_types import selection_split
from . import flat_regions, importance, label_free_selection, pareto
from .comparisons import differences, ladder, normalization, published, significance
from .num_clusters import words as num_clusters
from .summary import ACCURACY, MERGED, ConfigurationRow, Summary
from .table import MISSING, Cell, Table, as_table

LABEL_METRICS = ("acc", "nmi", "ari")
"""The three that every table of the field has, in its order."""

_ENTRY = re.compile(r"([A-Z][a-z]+):\s+(\S.*)")


def ranking(summary: Summary, *, by_param: bool, limit: int | None = None) -> Table:
    """All configurations, ranked ones first.

    Args:
        by_param: one column per searched parameter; otherwise one with the configuration's label.
        limit: as many rows at most.
    """
    ranks = {row.number: place for place, row in enumerate(summary.ranking, start=1)}
    rest = [row for row in summary.configurations if row.number not in ranks]
    names = _param_names(summary) if by_param else {}
    shown = _table_metrics(summary)
    columns = ("rank", *(names.values() or ("setting",)), *shown, "seeds")
    rows = []
    for row in [*summary.ranking, *rest][:limit]:
        rank = ranks.get(row.number)
        configuration = [_value_cell(row, name) for name in names] or [Cell(row.label)]
        cells = [Cell(str(rank) if rank else MISSING, rank), *configuration]
        cells += [spread_cell(row.metrics.get(metric)) for metric in shown]
        rows.append((*cells, Cell(f"{row.done} of {row.wanted}", row.done)))
    return as_table(f"Settings by {criterion(summary)}", columns, rows)


def ablation(summary: Summary) -> Table:
    """The rows of the file in its order, with what was published and the difference to it (see ``published``)."""
    shown = _table_metrics(summary)
    compared = [metric for metric in dict.fromkeys(m for row in summary.ablation for m in row.published)]
    values = {(each.row.number, each.metric): each for each in published.of_rows(summary)}
    columns = ["row", *shown, "seeds"]
    for metric in compared:
        columns += [f"{metric} published", f"{metric} difference"]
    rows = []
    for each in summary.ablation:
        cells = [Cell(each.row.label), *(spread_cell(each.row.metrics.get(metric)) for metric in shown)]
        cells.append(Cell(f"{each.row.done} of {each.row.wanted}", each.row.done))
        for metric in compared:
            cells += _published_cells(values.get((each.row.number, metric)))
        rows.append(tuple(cells))
    return as_table("Ablation", tuple(columns), rows)


def prepare(summary: Summary) -> Table:
    """The shared stages of each seed: computed, or reused from the store."""
    slots = list(dict.fromkeys(stage.slot for row in summary.prepare for stage in row.stages))
    names = {slot: {each.name for row in summary.prepare for each in row.stages if each.slot == slot}
             for slot in slots}  # fmt: skip
    rows = []
    for row in summary.prepare:
        by_slot = {stage.slot: stage for stage in row.stages}
        origins = [_origin(by_slot.get(slot), is_named=len(names[slot]) > 1) for slot in slots]
        rows.append((Cell(label(row.seed), row.seed), Cell(row.status.lower()), *map(Cell, origins)))
    return as_table("Shared stages, once per seed", ("seed", "status", *slots), rows)


def _origin(stage: StageRecord | None, *, is_named: bool) -> str:
    """Where a stage's result came from; with its name where rows of an ablation fill a slot with several."""
    if stage is None:
        return MISSING
    origin = "reused" if stage.cached else "computed"
    return f"{stage.name} {origin}" if is_named else origin


def failures(summary: Summary) -> Table:
    """Every trial that failed, with its reason."""
    rows = [(Cell(each.label), Cell(label(each.seed), each.seed), Cell(each.error)) for each in summary.failures]
    return as_table("Failed", ("setting", "seed", "reason"), rows)


def stopped(summary: Summary) -> Table:
    """Every trial that the scheduler pruned or whose clustering collapsed, with the reason."""
    rows = []
    for row in summary.configurations:
        states = {trial.seed: trial.state.lower() for trial in row.trials}
        for each in row.stopped:
            rows.append(
                (Cell(each.label), Cell(label(each.seed), each.seed), Cell(states[each.seed]), Cell(each.error))
            )
    return as_table("Stopped early", ("setting", "seed", "outcome", "reason"), rows)


def all_tables(summary: Summary) -> list[Table]:
    """The tables of a report that have any row, in its order."""
    if summary.ablation:
        main = [ablation(summary), differences.differences(summary)]
    else:
        main = [ranking(summary, by_param=True), num_clusters.table(summary), pareto.table(summary)]
        main.append(flat_regions.table(summary))
        main += [importance.table(summary), label_free_selection.table(summary)]
    main += [ladder.table(summary), published.table(summary), normalization.table(summary)]
    return [table for table in (*main, prepare(summary), failures(summary), stopped(summary)) if table.rows]


def headline(summary: Summary) -> list[str]:
    """The results in sentences: the best configuration, the oracle's pick, what choosing without labels cost."""
    lines = []
    if summary.is_smoke:
        lines.append("A smoke test: few epochs and settings, so these numbers mean nothing by themselves.")
    lines += summary.launch.facts.get("data", [])
    collapsed = _collapsed(summary)
    ends = [f"Collapsed to one cluster: {collapsed} of {_count_done(summary)} finished trials."] if collapsed else []
    if summary.best is None:
        none = "No setting has a result that counts yet." if ends else "No setting has a result yet."
        return [*lines, none, *ends]
    lines.append(f"Best by {criterion(summary)}: {_with_metrics(summary.best, summary.objective.metric)}.")
    lines += [*ladder.sentences(summary), *_few_seeds(summary, summary.best), *_use_of_labels(summary)]
    lines += [*published.sentences(summary), *differences.note(summary), *normalization.warnings(summary)]
    return [*lines, *num_clusters.sentences(summary), *_split(summary), *ends]


def _few_seeds(summary: Summary, best: ConfigurationRow) -> list[str]:
    """Warnings that the best configuration lacks seeds, and that rows have few."""
    lines = []
    if best.missing:
        lines.append(f"Beware: it lacks {best.missing} of {best.wanted} seeds.")
    few = [row for row in summary.configurations if 0 < row.done < significance.FEW_SEEDS]
    if few:
        lines.append(
            f"{len(few)} of {len(summary.configurations)} rows have fewer than {significance.FEW_SEEDS} seeds: "
            "their deviations say little."
        )
    return lines


def _use_of_labels(summary: Summary) -> list[str]:
    """Whether labels trained or chose, and otherwise what choosing without them cost."""
    lines = []
    if pipeline.trains_on_labels(summary.method):
        lines.append(
            f"{summary.method} is semi-supervised: labels of some images train, and accuracy is of the unlabeled "
            "training images. It does not compare with a clustering without labels."
        )
    if summary.looks_at_labels:
        lines.append(
            "An oracle study: labels trained or chose this setting, so its accuracy is no estimate for unlabeled data."
        )
    elif summary.oracle and summary.regret is not None and len(summary.configurations) > 1 and not summary.ablation:
        lines += _cost_of_no_labels(summary, summary.oracle, summary.regret) + label_free_selection.advice(summary)
    return lines


def _split(summary: Summary) -> list[str]:
    """Where the variance of the best configuration's accuracy comes from, if the study crosses two seeds."""
    best = summary.best
    if best is None or not is_crossed(summary.seeds[0]):
        return []
    split = significance.variance_split(
        {parts(t.seed): t.metrics[ACCURACY] for t in best.trials if t.state == DONE and ACCURACY in t.metrics}
    )
    if split is None:
        return []
    pretext, method, rest = (f"{100 * share:.0f} %" for share in split.shares)
    return [
        f"Of the best setting's variance of {ACCURACY} lie {pretext} between pretext seeds, {method} between method "
        f"seeds, and {rest} in neither."
    ]


def cost(summary: Summary) -> str:
    """What the launch took, in one sentence: the only place in a report where times stand."""
    spent = summary.cost
    return (
        f"{format_seconds(spent.prepare_s)} for shared stages and {format_seconds(spent.trials_s)} for trials, summed "
        f"over processes; {spent.computed} stage results computed, {spent.reused} reused."
    )


def criterion(summary: Summary) -> str:
    """ "spc/selection_loss (min, label-free)"."""
    first, *rest = summary.objectives
    how = "looks at labels" if summary.looks_at_labels else "label-free"
    split = selection_split(summary.launch.resolved)
    images = f", of {split} images" if split else ""
    shown = f"{first.metric} ({first.mode}, {how}{images})"
    others = [f"{objective.metric} ({objective.mode})" for objective in rest]
    return f"Pareto rank in {' and '.join([shown, *others])}" if others else shown


def counts(summary: Summary) -> str:
    """How far the launch has come, in one sentence."""
    wanted = sum(row.wanted for row in summary.configurations)
    failed = sum(len(row.failed) for row in summary.configurations)
    text = f"{_count_done(summary)} of {wanted} trials done"
    ends = [(failed, "failed")]
    ends += [(sum(row.count(state) for row in summary.configurations), state.lower()) for state in (PRUNED, COLLAPSED)]
    return text + "".join(f", {number} {word}" for number, word in ends if number)


def data_set(summary: Summary) -> str:
    """ "digits (union)"."""
    protocol = summary.dataset.get("protocol", "")
    return str(summary.dataset["name"]) + (f" ({protocol})" if protocol else "")


def question(summary: Summary) -> list[tuple[str, str]]:
    """What stands on top of the study file, as (label, text): "Source: T3" has a label, a paragraph the empty one."""
    entries: list[tuple[str, str]] = []
    ended = True
    for line in str(summary.launch.resolved.get("question", "")).splitlines():
        entry = _ENTRY.fullmatch(line)
        if entry:
            entries.append((entry[1].lower(), entry[2]))
        elif line and ended:
            entries.append(("", line))
        elif line:
            entries[-1] = (entries[-1][0], f"{entries[-1][1]} {line}")
        ended = not line
    return entries


def about(summary: Summary) -> list[tuple[str, str]]:
    """What was run, as (label, text)."""
    facts = summary.launch.facts
    commit = str(facts.get("commit", ""))[:12]
    rows = [
        ("method", summary.method + (f" (pretext {summary.pretext})" if summary.pretext else "")),
        ("checkpoint", _checkpoint(summary)),
        ("data set", data_set(summary)),
        ("seeds", ", ".join(map(label, summary.seeds)) + (" (pretext/method)" if is_crossed(summary.seeds[0]) else "")),
        ("objective", criterion(summary)),
        ("state", f"{summary.launch.status.lower()}: {counts(summary)}"),
        ("launch", str(summary.launch.number)),
        ("commit", commit + (" with uncommitted changes" if commit and facts.get("dirty") else "")),
        ("versions", ", ".join(f"{name} {version}" for name, version in sorted(facts.get("versions", {}).items()))),
    ]
    return [(label, text) for label, text in rows if text]


def _checkpoint(summary: Summary) -> str:
    """The file a pretext was read from, by its content; empty without one."""
    sha256 = summary.launch.resolved.get("fixed", {}).get("pretext.sha256", "")
    return f"sha256 {sha256}" if sha256 else ""


def _cost_of_no_labels(summary: Summary, oracle: ConfigurationRow, regret: float) -> list[str]:
    assert summary.best is not None
    if oracle.number == summary.best.number:
        return [f"Labels would have picked the same setting: choosing without them cost no {summary.accuracy}."]
    return [
        f"Best by {summary.accuracy} (looks at labels): {_with_metrics(oracle, summary.accuracy)}.",
        f"Choosing without labels cost {format_number(regret)} {summary.accuracy}.",
    ]


def _with_metrics(row: ConfigurationRow, metric: str) -> str:
    """The configuration's label, with a metric and the accuracy."""
    names = dict.fromkeys((metric, ACCURACY, *([ACCURACY + MERGED] if row.is_overclustered else [])))
    values = [f"{name} {spread_cell(row.metrics[name]).text}" for name in names if name in row.metrics]
    return ", ".join([row.label, *values])


def _collapsed(summary: Summary) -> int:
    """Finished trials whose last stage put nearly all images into one cluster; a shared one counts once."""
    trials = {trial.key: trial for row in summary.configurations for trial in row.trials}
    return sum(trial.state == DONE and status(trial) == "collapsed" for trial in trials.values())


def _count_done(summary: Summary) -> int:
    return sum(row.done for row in summary.configurations)


def _table_metrics(summary: Summary) -> list[str]:
    present = {metric for row in summary.configurations for metric in row.metrics}
    names = [objective.metric for objective in summary.objectives]
    # Behind each metric that of the clusters merged into classes, where some row has more clusters than classes.
    of_labels = [each for metric in LABEL_METRICS for each in (metric, metric + MERGED)]
    return list(dict.fromkeys([*names, *(metric for metric in of_labels if metric in present)]))


def _param_names(summary: Summary) -> dict[str, str]:
    """Full name -> column head of every parameter that some configuration changes."""
    changed = dict.fromkeys(name for row in summary.configurations for name in row.params)
    return {} if summary.ablation else param_labels(summary.method, summary.pretext, changed)


def _value_cell(row: ConfigurationRow, name: str) -> Cell:
    if name not in row.params:
        return Cell(MISSING)
    value = row.params[name]
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return Cell(format_value(value), value if number else None)


def spread_cell(spread: Spread | None) -> Cell:
    """Mean, deviation and number of seeds."""
    if spread is None:
        return Cell(MISSING)
    return Cell(format_spread(spread.mean, spread.std, spread.n), spread.mean)


def _published_cells(value: published.PublishedValue | None) -> list[Cell]:
    if value is None:
        return [Cell(MISSING), Cell(MISSING)]
    return [Cell(value.shown_published, value.value), published.difference_cell(value)]
