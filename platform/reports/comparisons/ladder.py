"""What each stage of the pipeline added: the numbers after every one of its clusterings, compared seed by seed.

A refinement is worth what it adds to what it starts from, in the same trial. So each clustering of a trial (k-means on
the pretext's features, SCAN, and what follows it) stands beside the one before it: accuracy, NMI and ARI, and the
label-free loss that SCAN and all that follow it share. Where clusters outnumber classes, they are those of the clusters
merged into classes (see ``trainables.maths.metrics.merged``).

A search has two ladders: of its best setting, and of all its settings together. There a seed is one observation, the
mean over the settings, for settings that share a stage's result say nothing new of it.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from trainables.label_metrics import PROBE_SUFFIX

from ...ledger.aggregate import spread
from ...ledger.formatting import format_number, format_spread
from ...ledger.outcomes import counts_as_result
from ...ledger.rows import Trial
from ..summary import ACCURACY, MERGED, Summary
from ..table import MISSING, Cell, Table, as_table
from . import significance
from .significance import Paired

SELECTION_LOSS = "selection_loss"
"""The label-free number that SCAN and every stage after it report, on one scale; lower is better."""
SHOWN = (ACCURACY, "nmi", "ari", SELECTION_LOSS)
COLUMNS = ("setting", "after", *SHOWN, f"added {ACCURACY}", "95 % interval", "p", "better in", "verdict")
MOST_SENTENCES = 8


@dataclass(frozen=True)
class Step:
    """A stage and the one before it, over the trials that have both.

    pair: their accuracies, seed by seed. num_better, num_worse: trials in which the accuracy rose or fell.
    loss_better, loss_worse: the same of the selection loss, which falls where it is better; of 0 trials where one of
    the two stages has none.
    """

    before: str
    pair: Paired
    num_better: int
    num_worse: int
    num_trials: int
    loss_better: int
    loss_worse: int
    loss_trials: int


@dataclass(frozen=True)
class Rung:
    """What a group of trials came to after one stage. values: metric of SHOWN -> by seed. step: None for the first."""

    group: str
    slot: str
    values: Mapping[str, Mapping[int, float]]
    step: Step | None


def rungs(summary: Summary) -> list[Rung]:
    """Every group's stages in their order; none of a group whose trials have fewer than two clusterings.

    p is corrected over all steps, each of them once: two groups that share both stages share the step too.
    """
    found = [rung for label, trials in _groups(summary) for rung in _of_group(label, trials)]
    steps = {(rung.slot, rung.step.pair): rung.step.pair for rung in found if rung.step is not None}
    corrected = dict(zip(steps, significance.corrected(list(steps.values())), strict=True))
    return [rung if rung.step is None else _with_pair(rung, corrected[rung.slot, rung.step.pair]) for rung in found]


def table(summary: Summary) -> Table:
    """Group by group, stage by stage."""
    rows = []
    for rung in rungs(summary):
        cells = [_spread_cell(rung.values[metric]) for metric in SHOWN]
        rows.append((Cell(rung.group), Cell(rung.slot), *cells, *_step_cells(rung.step)))
    note = (
        "Each stage against the one before it in the same trials. Accuracy, NMI and ARI look at labels; "
        f"{SELECTION_LOSS} does not, and is better lower. p is a paired t-test over seeds after Holm's correction."
    )
    return as_table("What each stage added", COLUMNS, rows, [note] if rows else [])


def sentences(summary: Summary) -> list[str]:
    """What each stage added, in words: for the first screen of a report."""
    said: dict[tuple[str, Step], str] = {}
    for rung in rungs(summary):
        if rung.step is not None:
            said.setdefault((rung.slot, rung.step), _sentence(rung, rung.step))
    lines = list(said.values())
    more = len(lines) - MOST_SENTENCES
    return [
        *lines[:MOST_SENTENCES],
        *([f"{more} more steps stand in the table of what each stage added."] * (more > 0)),
    ]


def _groups(summary: Summary) -> Iterator[tuple[str, Sequence[Trial]]]:
    """Label and trials of what has a ladder of its own: every row of an ablation; the best and all settings else."""
    if summary.ablation:
        yield from ((each.row.label, each.row.trials) for each in summary.ablation)
        return
    if len(summary.configurations) > 1:
        trials = {trial.key: trial for row in summary.configurations for trial in row.trials}
        yield f"all {len(summary.configurations)} settings", list(trials.values())
    if summary.best is not None:
        yield summary.best.label, summary.best.trials


def _of_group(label: str, trials: Sequence[Trial]) -> Iterator[Rung]:
    counting = [trial for trial in trials if counts_as_result(trial)]
    in_order = dict.fromkeys(stage.slot for trial in counting for stage in trial.stages)
    slots = [slot for slot in in_order if not slot.endswith(PROBE_SUFFIX) and _with(counting, f"{slot}/{ACCURACY}")]
    if len(slots) < 2:
        return
    for place, slot in enumerate(slots):
        values = {metric: _by_seed(counting, _name(counting, slot, metric)) for metric in SHOWN}
        yield Rung(label, slot, values, _step(counting, slots[place - 1], slot) if place else None)


def _name(trials: Sequence[Trial], slot: str, metric: str) -> str:
    """The metric's full name: of the clusters merged into classes where every trial that has the stage has that."""
    with_stage, merged = _with(trials, f"{slot}/{ACCURACY}"), f"{slot}/{metric}{MERGED}"
    return merged if with_stage and len(_with(with_stage, merged)) == len(with_stage) else f"{slot}/{metric}"


def _step(trials: Sequence[Trial], before: str, slot: str) -> Step | None:
    names = [_name(trials, each, ACCURACY) for each in (before, slot)]
    if names[0].endswith(MERGED) != names[1].endswith(MERGED):
        return None  # of more clusters than classes and of as many: no comparison
    both = _with(trials, *names)
    pair = significance.paired(_by_seed(both, names[1]), _by_seed(both, names[0]))
    if pair is None:
        return None
    rises = [trial.metrics[names[1]] - trial.metrics[names[0]] for trial in both]
    losses = [f"{each}/{SELECTION_LOSS}" for each in (before, slot)]
    falls = [trial.metrics[losses[0]] - trial.metrics[losses[1]] for trial in _with(both, *losses)]
    counts = [
        (sum(each > 0 for each in gains), sum(each < 0 for each in gains), len(gains)) for gains in (rises, falls)
    ]
    return Step(before, pair, *counts[0], *counts[1])


def _with_pair(rung: Rung, pair: Paired | None) -> Rung:
    assert rung.step is not None and pair is not None
    return replace(rung, step=replace(rung.step, pair=pair))


def _with(trials: Sequence[Trial], *names: str) -> list[Trial]:
    return [trial for trial in trials if all(name in trial.metrics for name in names)]


def _by_seed(trials: Sequence[Trial], name: str) -> dict[int, float]:
    """The mean over the trials of each seed that have the metric."""
    values: dict[int, list[float]] = {}
    for trial in _with(trials, name):
        values.setdefault(trial.seed, []).append(trial.metrics[name])
    return {seed: fmean(each) for seed, each in values.items()}


def _spread_cell(by_seed: Mapping[int, float]) -> Cell:
    if not by_seed:
        return Cell(MISSING)
    found = spread(list(by_seed.values()))
    return Cell(format_spread(found.mean, found.std, found.n), found.mean)


def _step_cells(step: Step | None) -> list[Cell]:
    if step is None:
        return [Cell(MISSING)] * 5
    pair = step.pair
    interval = f"{pair.interval.low:+.3f} to {pair.interval.high:+.3f}" if pair.interval else MISSING
    p = Cell(MISSING) if pair.p_adjusted is None else Cell(format_number(pair.p_adjusted), pair.p_adjusted)
    return [
        Cell(f"{pair.difference:+.4f}", pair.difference),
        Cell(interval),
        p,
        Cell(f"{step.num_better} of {step.num_trials}", step.num_better / step.num_trials),
        Cell(significance.verdict(pair)),
    ]


def _sentence(rung: Rung, step: Step) -> str:
    """ "δ=0.95: spc takes 0.0033 acc from scan (no evidence of a difference; better in 6 and worse in 28 of 36 trials);
    its selection_loss, which needs no labels, is better in 0 and worse in 36 of 36." """
    difference = step.pair.difference
    verb, preposition = ("adds", "to") if difference >= 0 else ("takes", "from")
    text = (
        f"{rung.group}: {rung.slot} {verb} {abs(difference):.4f} {ACCURACY} {preposition} {step.before} "
        f"({significance.verdict(step.pair)}; better in {step.num_better} and worse in {step.num_worse} of "
        f"{step.num_trials} {'trial' if step.num_trials == 1 else 'trials'})"
    )
    if not step.loss_trials:
        return f"{text}."
    return (
        f"{text}; its {SELECTION_LOSS}, which needs no labels, is better in {step.loss_better} and worse in "
        f"{step.loss_worse} of {step.loss_trials}."
    )
