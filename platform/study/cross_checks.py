"""What the keys of a study file mean together: objective, trials, resources, settings that never count."""

from collections.abc import Container, Mapping, Sequence
from typing import Any

from trainables import settings
from trainables.maths import metrics
from trainables.pipeline import is_probe
from trainables.settings import Plain

from .domains import Domain, grid_size
from .errors import did_you_mean
from .file_schema import Objective, Resources, Scheduler
from .hyperparameters import Given, Stages, build, extremes, shared_prefix
from .pipelines import identity, settings_of
from .sections import Reading, Row, for_pipelines, for_row
from .yaml_reader import Where

MAX_TRIALS = 100_000
DEFAULT_TRIALS = 20
_SMALLEST_POPULATION = 4
"""CMA-ES keeps the better half as parents; with one parent the covariance is undefined."""


def read_objectives(reading: Reading, swept: Sequence[str]) -> tuple[Objective, ...]:
    """Read the objectives, and note those that do not exist, look at labels or cannot differ between trials.

    Args:
        swept: full names of the settings under ``grid`` and ``search``.

    Returns:
        The page's objectives, or else the criterion of the last stage that has one; never empty.
    """
    criterion = _criterion(reading)
    objectives = tuple(reading.page.objective) or (() if criterion is None else (criterion,))
    if objectives and "objective" in reading.dropped:
        return objectives
    if not objectives:
        method = reading.page.method
        sentence = f"method {method!r} has no criterion of its own. Write objective: {{metric: ..., mode: ...}}."
        reading.note(("method",), sentence, key="objective")
        return (Objective(metric="", mode="min"),)
    listed = isinstance(reading.document.data.get("objective"), list)
    for index, objective in enumerate(objectives):
        where: Where = ("objective", index, "metric") if listed else ("objective", "metric")
        if sentence := _objective_error(reading, objective, swept) or "":
            reading.note(where, sentence)
        if objective.metric in [each.metric for each in objectives[:index]]:
            reading.note(where, f"{objective.metric!r} stands twice under objective. Take one out.")
    trained = _trained_on_labels(reading)
    if trained and not reading.page.oracle:
        where, name = trained[0]
        sentence = (
            f"{name} trains on labels with this value, so what it reaches is an upper bound. "
            "Write oracle: true to have the study called an oracle, or take it out."
        )
        reading.note(where, sentence)
    if reading.page.oracle and not trained and not any(metrics.looks_at_labels(each.metric) for each in objectives):
        shown = objectives[0].metric if len(objectives) == 1 else "the objectives"
        quoted = repr(shown) if len(objectives) == 1 else shown
        verb = "looks" if len(objectives) == 1 else "look"
        sentence = f"oracle is true, but {quoted} {verb} at no labels. Take oracle out, or choose by a label metric."
        reading.note(("oracle",), sentence)
    return objectives


def _trained_on_labels(reading: Reading) -> list[tuple[Where, str]]:
    """Path and full name of every setting that gets a value with which its stage trains on labels."""
    page, trained = reading.page, []
    blocks: list[tuple[Where, Mapping[str, Any], Reading]] = [
        ((section,), getattr(page, section), view)
        for section in ("fixed", "grid", "search")
        for view in for_pipelines(reading)
    ]
    blocks += [(("ablate", label), row, for_row(reading, label)) for label, row in page.ablate.items()]
    for where, block, view in blocks:
        for name, written in block.items():
            stage = view.stages.get(name.partition(".")[0])
            rule = settings.rules(stage.Config).get(name.partition(".")[2]) if stage else None
            if rule and any(
                each == value and type(each) is type(value) for each in _scalars(written) for value in rule.oracle
            ):
                trained.append(((*where, name), name))
    return trained


def _scalars(written: Any) -> list[Any]:
    """Every value that stands in what a file says about a setting."""
    if isinstance(written, dict | list):
        inner = written.values() if isinstance(written, dict) else written
        return [value for each in inner for value in _scalars(each)]
    return [written]


def _criterion(reading: Reading) -> Objective | None:
    for slot, stage in reversed(list(reading.stages.items())):
        if stage.CRITERION:
            return Objective(metric=f"{slot}/{stage.CRITERION[0]}", mode=stage.CRITERION[1])
    return None


def _objective_error(reading: Reading, objective: Objective, swept: Sequence[str]) -> str | None:
    metric, oracle = objective.metric, reading.page.oracle
    views = [reading, *for_pipelines(reading)]
    names = (f"{slot}/{name}" for view in views for slot, stage in view.stages.items() for name in stage.METRICS)
    known = list(dict.fromkeys(names))
    if "/" not in metric and metric in _of_last_stages(reading):
        return None if oracle or not metrics.looks_at_labels(metric) else _looks_at_labels(metric, "")
    if metric not in known:
        return f"metric {metric!r} does not exist in this pipeline. {did_you_mean(metric, known)}"
    slot, looks = metric.partition("/")[0], metrics.looks_at_labels(metric)
    if looks and not oracle:
        free = [name for name in known if name.startswith(f"{slot}/") and not metrics.looks_at_labels(name)]
        return _looks_at_labels(metric, ", ".join(free))
    if swept and slot in shared_prefix(reading.stages, swept):
        return (
            f"{metric!r} is the same in every trial, because nothing under search touches its stage. "
            "Choose a metric of a later stage."
        )
    return None


def _of_last_stages(reading: Reading) -> set[str]:
    """Metrics that an ablation may rank by without naming a stage: each row then has that of its own last stage."""
    if not reading.page.ablate:
        return set()
    closing = [[stage for stage in view.stages.values() if not is_probe(stage)][-1] for view in for_pipelines(reading)]
    return {name for stage in closing for name in stage.METRICS}


def _looks_at_labels(metric: str, free: str) -> str:
    others = f"Take one of {free}" if free else "Take a metric of the method's own stages"
    return (
        f"objective.metric must be label-free, but {metric!r} looks at labels, so the answers would choose. "
        f"{others}, or write oracle: true to have the study called an oracle."
    )


def read_trials(reading: Reading, search: Mapping[str, Domain], grid: Mapping[str, Domain]) -> int:
    """Read how many configurations each combination of the grid block has, and note a number that cannot be.

    The grid sampler, an ablation and a study without search have a number of their own, which the page may repeat.

    Args:
        search: full name -> domain.
        grid: the same of the grid block.
    """
    page = reading.page
    if reading.dropped & {"grid", "search", "ablate", "sampler", "trials"}:
        return page.trials or DEFAULT_TRIALS
    gridded = bool(page.search) and page.sampler.name == "grid"
    endless = [name for name, domain in search.items() if domain.size is None]
    if gridded and endless:
        sentence = (
            f"a grid needs countable values, but {', '.join(endless)} is continuous. "
            "Give it a step or a choice, or take another sampler."
        )
        reading.note(("sampler",), sentence)
        return 1
    own, why = _own_number(reading, search, gridded)
    trials, seeds = own or page.trials or DEFAULT_TRIALS, len(page.seeds)
    if len(page.start) > trials:
        reading.note(("start",), f"start lists {len(page.start)} settings, but trials is {trials}. Raise trials.")
    everything = trials * (grid_size(grid) or 1)
    each = f"{seeds} seed" if seeds == 1 else f"{seeds} seeds"
    where: Where = ("trials",) if page.trials else ("sampler",)
    if own is not None and page.trials not in (None, own):
        way_out = "Take trials out, or take sampler: random." if gridded else "Take trials out."
        reading.note(where, f"{why}, here {own:,}, but trials is {page.trials:,}. {way_out}")
    elif everything * seeds > MAX_TRIALS:
        sentence = (
            f"{everything:,} settings with {each} are {everything * seeds:,} trials, but at most {MAX_TRIALS:,} run. "
            "Use fewer values or seeds, or sampler: random with trials: N."
        )
        reading.note(where, sentence)
    return trials


def _own_number(reading: Reading, search: Mapping[str, Domain], gridded: bool) -> tuple[int | None, str]:
    if reading.page.ablate:
        return len(reading.page.ablate), "an ablation runs each of its rows"
    if not reading.page.search:
        return 1, "without search or ablate there is one setting" + (" a combination" if reading.page.grid else "")
    return (grid_size(search), "a grid runs all of its settings") if gridded else (None, "")


def judge_sampler(reading: Reading, search: Mapping[str, Domain]) -> None:
    """Note what CMA-ES cannot do: several objectives, texts, a single dimension, a population below 4."""
    name, where = reading.page.sampler.name, ("sampler",)
    if name != "cmaes" or not search:
        return
    if len(reading.page.objective) > 1:
        reading.note(where, "cmaes follows one objective. Keep one, or take sampler: nsga2, tpe or gp.")
    if reading.page.sampler.population < _SMALLEST_POPULATION:
        way_out = "Write sampler: {name: cmaes, population: 8}."
        reading.note(where, f"cmaes needs a population of at least {_SMALLEST_POPULATION}. {way_out}")
    if len(search) < 2:
        reading.note(where, "cmaes needs at least two searched settings. Take sampler: tpe or gp.")
    for each, domain in search.items():
        if any(isinstance(value, bool | str) for value in domain.extremes):
            sentence = f"cmaes moves in numbers, but {each} is a choice of words. Take it to grid, or sampler: tpe."
            reading.note(where, sentence)


def read_scheduler(reading: Reading) -> Scheduler | None:
    """Read the scheduler, and note where trials must not be stopped early: in ablations and in worker groups."""
    page = reading.page
    if page.scheduler is None:
        return None
    if page.ablate:
        sentence = "scheduler stops trials early, but every row of an ablation is wanted whole. Take scheduler out."
        reading.note(("scheduler",), sentence, at_key=True)
    elif not page.search:
        sentence = "scheduler compares settings, but there is only one. Write search, or take scheduler out."
        reading.note(("scheduler",), sentence, at_key=True)
    elif page.resources.trial.workers:
        sentence = (
            "scheduler stops trials that report epoch by epoch, which worker groups do not. "
            "Take scheduler out, or write resources.trial.workers: 0."
        )
        reading.note(("scheduler",), sentence, at_key=True)
    return page.scheduler


def read_resources(reading: Reading) -> Resources:
    """Read the resources, and note those that could never be given: none at all, or GPU shares in a worker group."""
    for part in ("prepare", "trial"):
        share, key = getattr(reading.page.resources, part), f"resources.{part}"
        if share.cpu == 0 and share.gpu == 0:
            reading.note(("resources", part), f"{key} asks for nothing, so all would start at once. Give it cpu: 1.")
        if share.workers > 1 and 0 < share.gpu < 1:
            sentence = (
                f"{key} has {share.workers} workers with {share.gpu:g} GPU each, but workers of one group cannot share "
                "a GPU. Write gpu: 1 (it counts per worker), or workers: 0."
            )
            reading.note(("resources", part, "gpu"), sentence)
    return reading.page.resources


def judge_together(
    reading: Reading, fixed: Mapping[str, Plain], search: Mapping[str, Domain], rows: Sequence[Row]
) -> None:
    """Note settings that are right alone but not together: without effect, in equal rows, or refused by their Config.

    Args:
        fixed: full name -> value.
        search: full name -> domain, of the grid block too.
        rows: of the ablation.
    """
    stages = {row.name: for_row(reading, row.name).stages for row in rows} or {"": reading.stages}
    changed = {row.name: row.changes for row in rows}
    views = {
        name: Given(own, {**settings_of(own, fixed), **changed.get(name, {})}, search) for name, own in stages.items()
    }
    # What a preset says and a value of the page switches off is no error: nobody wrote it.
    for name in reading.page.fixed:
        obstacles = [view.obstacle(name) for view in views.values() if settings_of(view.stages, {name: None})]
        if all(obstacles):
            reading.note(("fixed", name), obstacles[0] or "", at_key=True)
    for name in search:
        if obstacle := Given(reading.stages, fixed, search).obstacle(name):
            reading.note(("grid" if name in reading.page.grid else "search", name), obstacle, at_key=True)
    for row in rows:
        for name in row.changes:
            if obstacle := views[row.name].obstacle(name):
                reading.note(("ablate", row.name, name), obstacle, at_key=True)
    for label, own in stages.items():
        mine = [row for row in rows if row.name == label]
        _judge_built(reading, own, fixed, search, mine)
    _judge_rows(reading, fixed, rows)


def _judge_built(
    reading: Reading, stages: Stages, fixed: Mapping[str, Plain], search: Mapping[str, Domain], rows: Sequence[Row]
) -> None:
    """Note what the Configs of one row, or of a study without rows, refuse."""
    for changes in extremes(search, [row.changes for row in rows]):
        _, refused = build(stages, {**settings_of(stages, fixed), **changes})
        for name, sentence in refused:
            where = place_of(name, changes, fixed, search, rows, reading.page.grid)
            reading.note(where, f"{sentence.rstrip('.')}.")


def _judge_rows(reading: Reading, fixed: Mapping[str, Plain], rows: Sequence[Row]) -> None:
    first: dict[str, str] = {}
    for row in rows:
        own = for_row(reading, row.name)
        stages, named = own.stages, identity(own.page.method, own.page.pretext)
        configs, _ = build(stages, {**settings_of(stages, fixed), **row.changes})
        meaning = repr((named, {slot: settings.effective(config) for slot, config in configs.items()}))
        if meaning in first:
            sentence = f"the row {row.name!r} has the same settings as {first[meaning]!r}. Take one of them out."
            reading.note(("ablate", row.name), sentence, at_key=True)
        first.setdefault(meaning, row.name)


def place_of(
    name: str,
    changes: Mapping[str, Plain],
    fixed: Mapping[str, Plain],
    search: Mapping[str, Domain],
    rows: Sequence[Row],
    grid: Container[str] = (),
) -> Where:
    """The path at which the file gives a setting its value.

    Args:
        name: full name of the setting.
        changes: of the configuration that is looked at.
        fixed: full name -> value.
        search: full name -> domain, of the grid block too.
        rows: of the ablation.
        grid: names under ``grid``.

    Returns:
        The path; that of ``method`` if the setting has its default.
    """
    if name in grid:
        return ("grid", name)
    if name in search:
        return ("search", name)
    for row in rows:
        if name in row.changes and row.changes == changes:
            return ("ablate", row.name, name)
    return ("fixed", name) if name in fixed else ("method",)
