"""A study: a checked file, ready to be planned and run. Every error of the file is found here, at once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from trainables import pipeline, registry, settings
from trainables.settings import Plain

from . import ablation, checkpoints, cross_checks, pipelines
from . import overrides as overriding
from .domains import Domain, grid_size
from .errors import StudyError, StudyErrors, did_you_mean
from .file_schema import Guard, Objective, Page, Resources, Sampler, Scheduler, Share, Tracking, name_error, read_page
from .hyperparameters import Given, Stages, build, extremes
from .presets import read_preset
from .sections import (
    Reading,
    Row,
    for_pipelines,
    read_dataset,
    read_probe_dataset,
    read_published,
    read_row,
    read_search,
    read_start,
    read_values,
)
from .yaml_reader import Document, Where, read

__all__ = ["Objective", "Resources", "Row", "Sampler", "Share", "Study", "Tracking", "configs", "load_study"]


@dataclass(frozen=True, kw_only=True)
class Study:
    """A checked study. Settings have full names, "<slot>.<name>"; metrics "<slot>/<name>".

    preset: the published recipe under ``fixed``, which holds its values too.
    pretext: the stage in the slot "pretext"; empty for the method's own. probes: stages that follow it.
    dataset: every field of ``datasets.Spec``. probe_dataset: the same for the probes, empty where theirs is no other.
    search and ablate: at most one is not empty; with neither there is one setting, the fixed one.
    grid: every combination of it has a search of its own. start: the searched values of the first settings of each.
    trials: number of settings, of each combination, each run with every seed. objectives: the first one ranks.
    published: values for the whole study, as printed, and what is said of them and of the rows' (``published.NOTES``).
    time_limit: seconds that one attempt at a trial may take. max_failures: after so many failures no trial starts.
    notes: what ``--smoke`` changed. document: the file's data and lines, for errors found later.
    """

    name: str
    file: str
    question: str
    method: str
    pretext: str
    preset: str = ""
    probes: tuple[str, ...]
    dataset: Mapping[str, Any]
    probe_dataset: Mapping[str, Any] = field(default_factory=dict)
    seeds: tuple[int, ...]
    fixed: Mapping[str, Plain]
    grid: Mapping[str, Domain] = field(default_factory=dict)
    search: Mapping[str, Domain]
    start: tuple[Mapping[str, Plain], ...] = ()
    ablate: tuple[Row, ...]
    sampler: Sampler
    trials: int
    objectives: tuple[Objective, ...]
    oracle: bool
    resources: Resources
    tracking: Tracking
    retries: int
    published: Mapping[str, Any]
    scheduler: Scheduler | None = None
    guard: Guard = Guard()
    max_failures: int | None = None
    time_limit: float | None = None
    notes: tuple[str, ...] = ()
    document: Document = field(compare=False, repr=False)

    @property
    def stages(self) -> Stages:
        """Slot -> stage module, in the order in which they run."""
        stages: Stages = pipeline.stages(self.method, self.pretext, self.probes)
        return stages

    @property
    def parts(self) -> "tuple[Study, ...]":
        """The study cut into parts of one pipeline each, in the order of its rows; itself where it has only one.

        A part has its own method, pretext and rows, and those of the fixed settings that its pipeline knows.
        """
        if not any(row.pipeline for row in self.ablate):
            return (self,)
        grouped: dict[tuple[str, ...], list[Row]] = {}
        chosen = {row.name: pipelines.chosen(self.method, self.pretext, row.pipeline) for row in self.ablate}
        for row in self.ablate:
            grouped.setdefault(pipelines.identity(*chosen[row.name]), []).append(row)
        parts = []
        for rows in grouped.values():
            method, pretext = chosen[rows[0].name]
            fixed = pipelines.settings_of(pipeline.stages(method, pretext, self.probes), self.fixed)
            plain = tuple(replace(row, method=None, pretext=None) for row in rows)
            parts.append(replace(self, method=method, pretext=pretext, fixed=fixed, ablate=plain, trials=len(rows)))
        return tuple(parts)

    @property
    def objective(self) -> Objective:
        """The objective that ranks: the first one."""
        return self.objectives[0]

    @property
    def swept(self) -> Mapping[str, Domain]:
        """The settings in which configurations differ: those of the grid block, then the searched ones."""
        return {**self.grid, **self.search}

    @property
    def num_settings(self) -> int:
        """Number of configurations, over all combinations of the grid block."""
        return (grid_size(self.grid) or 1) * self.trials

    @property
    def given(self) -> Given:
        """The values that the study gives to the settings of its own pipeline."""
        return Given(self.stages, self.fixed, self.swept)

    @property
    def touched(self) -> tuple[str, ...]:
        """Full names of the swept or ablated settings, in the order of the file."""
        return tuple(dict.fromkeys([*self.swept, *(name for row in self.ablate for name in row.changes)]))

    @property
    def extremes(self) -> tuple[Mapping[str, Plain], ...]:
        """The changes at which a study of one pipeline is checked (see ``hyperparameters.extremes``)."""
        return tuple(extremes(self.swept, [*self.start, *(row.changes for row in self.ablate)]))

    @property
    def bounds(self) -> "tuple[tuple[Study, Mapping[str, Plain]], ...]":
        """The extremes of every part, each with its part."""
        return tuple((part, changes) for part in self.parts for changes in part.extremes)


def configs(study: Study, changes: Mapping[str, Plain]) -> dict[str, Any]:
    """Build the Configs of one configuration: the defaults, then ``fixed``, then ``changes``.

    Args:
        study: of one pipeline (see ``Study.parts``).
        changes: full name -> value.

    Returns:
        Slot -> Config.

    Raises:
        SettingsError: a stage refuses the values; the errors carry full names.
    """
    built, refused = build(study.stages, {**study.fixed, **changes})
    if refused:
        raise settings.SettingsError(refused)
    return built


def _nothing_ran(study: str) -> Mapping[str, Plain]:
    raise LookupError(f"the best setting of {study!r} is only known beside the storage it ran in.")


def load_study(path: Path, overrides: Sequence[str] = (), best_of: ablation.BestOf = _nothing_ran) -> Study:
    """Read and check a study file.

    Args:
        overrides: ``KEY=VALUE`` from the command line, applied first.
        best_of: returns the best configuration of another study, for ``ablate: {from: STUDY}``.

    Raises:
        StudyErrors: the file has errors; all that could be found are reported together.
    """
    document, refused = checkpoints.written_out(overriding.apply(read(path), overrides))
    document, unexpanded = ablation.expanded(document, best_of)
    if refused + unexpanded:
        raise StudyErrors(refused + unexpanded)
    page, errors = read_page(document)
    if page is None:
        raise StudyErrors(errors)
    if not errors:  # a weight file is large, and not read for a page that is refused anyway
        document, page, errors = checkpoints.pinned(document, page)
    name = page.name or path.stem
    if sentence := name_error(name):
        errors.append(document.error(("name",), sentence))
    page, misplaced = pipelines.with_until(document, page)
    errors += misplaced
    if misplaced:
        raise StudyErrors(errors)
    unusable = _pipeline_errors(document, page)
    errors += unusable
    if unusable or any(error.key.partition(".")[0] in ("method", "pretext", "probes") for error in errors):
        raise StudyErrors(errors)
    reading = Reading(document, page, pipeline.stages(page.method, page.pretext, page.probes), errors)
    study = _assemble(reading, name)
    if not errors:
        cross_checks.judge_together(reading, study.fixed, study.swept, study.ablate)
        cross_checks.judge_sampler(reading, study.search)
    if errors:
        raise StudyErrors(errors)
    return study


def _pipeline_errors(document: Document, page: Page) -> list[StudyError]:
    errors = pipelines.pipeline_errors(document, page.method, page.pretext)
    if errors and errors[0].key == "method":
        return errors
    rows = [error for label in page.ablate for error in pipelines.row_errors(document, page, label)]
    return errors + rows + _probe_errors(document, page)


def _probe_errors(document: Document, page: Page) -> list[StudyError]:
    errors = []
    for index, name in enumerate(page.probes):
        if name not in registry.probes():
            sentence = f"probe {name!r} does not exist. {did_you_mean(name, registry.probes())}"
            errors.append(document.error(("probes", index), sentence))
        elif name in page.probes[:index]:
            errors.append(document.error(("probes", index), f"probe {name!r} stands twice. Take one out."))
    for method, where in _probed_methods(page).items() if not errors else ():
        if not any(map(registry.leaves_backbone, pipeline.stage_names(method))):
            sentence = f"no stage of {method!r} leaves a backbone for a probe to judge. Take probes out."
            errors.append(document.error(where, sentence))
    return errors


def _probed_methods(page: Page) -> dict[str, Where]:
    """Each known method that probes follow, the study's or that of a row, and the place where it is said."""
    if not page.probes:
        return {}
    places: dict[str, Where] = {} if page.ablate else {page.method: ("probes",)}
    for label, row in page.ablate.items():
        method = row.get("method", page.method)
        if pipeline.is_method(method):
            places.setdefault(method, ("ablate", label, "method") if "method" in row else ("probes",))
    return places


def _fixed(reading: Reading) -> dict[str, Plain]:
    return read_values(reading, ("fixed",), reading.page.fixed, for_pipelines(reading))


def _assemble(reading: Reading, name: str) -> Study:
    """The study of a page. Errors are noted in ``reading``; if there are any, the study must not be used."""
    page = reading.page
    search, grid = read_search(reading, "search"), read_search(reading, "grid")
    for section in ("grid", "search"):
        if getattr(page, section) and page.ablate:
            sentence = f"{section} and ablate exclude each other. Keep one of them."
            reading.note(("ablate",), sentence, at_key=True)
    for first, second in (("fixed", "search"), ("fixed", "grid"), ("grid", "search")):
        for both in [name for name in getattr(page, first) if name in getattr(page, second)]:
            sentence = f"{both} is under {first} and under {second}. Take it out of one of them."
            reading.note((first, both), sentence, at_key=True)
    return Study(
        name=name,
        file=reading.document.file,
        question=page.question or reading.document.question,
        method=page.method,
        pretext=page.pretext,
        preset=page.preset,
        probes=tuple(page.probes),
        dataset=read_dataset(reading),
        probe_dataset=read_probe_dataset(reading),
        seeds=tuple(page.seeds),
        fixed={**read_preset(reading), **_fixed(reading)},
        grid=grid,
        search=search,
        start=read_start(reading, search),
        ablate=tuple(read_row(reading, label) for label in page.ablate),
        sampler=page.sampler,
        trials=cross_checks.read_trials(reading, search, grid),
        objectives=cross_checks.read_objectives(reading, (*grid, *search)),
        oracle=page.oracle,
        resources=cross_checks.read_resources(reading),
        tracking=page.tracking,
        retries=page.retries,
        scheduler=cross_checks.read_scheduler(reading),
        guard=page.guard,
        max_failures=page.max_failures,
        time_limit=page.time_limit,
        published=read_published(reading, ("published",), page.published),
        document=reading.document,
    )
