"""A study: a checked file, ready to be planned and run. Every fault of the file is found here, at once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trainables import checks, pipeline
from trainables.checks import Plain

from . import checkpoints, rules
from . import overrides as overriding
from .contents import Reading, Row, read_dataset, read_published, read_row, read_search, read_values
from .document import Document, read
from .domains import Domain
from .faults import Fault, StudyFaults, did_you_mean
from .pages import Objective, Page, Resources, Sampler, Share, Tracking, name_fault, read_page
from .settings import Given, Stages, build, extremes

__all__ = ["Objective", "Resources", "Row", "Sampler", "Share", "Study", "Tracking", "configs", "load_study"]


@dataclass(frozen=True, kw_only=True)
class Study:
    """What is run. Settings have full names, "<slot>.<name>"; metrics "<slot>/<name>".

    pretext: the stage in the slot "pretext"; empty for the method's own. dataset: every field of ``sets.Spec``.
    search and ablate: at most one is not empty; with neither there is one setting, the fixed one.
    trials: number of settings, each run with every seed. published: values for the whole study, as printed.
    notes: what a rehearsal changed. document: the file's data and lines, for faults found later.
    """

    name: str
    file: str
    question: str
    method: str
    pretext: str
    dataset: Mapping[str, Any]
    seeds: tuple[int, ...]
    fixed: Mapping[str, Plain]
    search: Mapping[str, Domain]
    ablate: tuple[Row, ...]
    sampler: Sampler
    trials: int
    objective: Objective
    oracle: bool
    resources: Resources
    tracking: Tracking
    retries: int
    published: Mapping[str, float]
    notes: tuple[str, ...] = ()
    document: Document = field(compare=False, repr=False)

    @property
    def stages(self) -> Stages:
        """Slot -> stage module, in the order in which they run."""
        stages: Stages = pipeline.stages(self.method, self.pretext)
        return stages

    @property
    def given(self) -> Given:
        """What the file says about each setting."""
        return Given(self.stages, self.fixed, self.search)

    @property
    def touched(self) -> tuple[str, ...]:
        """Full names of the swept or ablated settings, in the order of the file."""
        return tuple(dict.fromkeys([*self.search, *(name for row in self.ablate for name in row.changes)]))

    @property
    def extremes(self) -> tuple[Mapping[str, Plain], ...]:
        """Changes that bound the study; all of them can really be run."""
        return tuple(extremes(self.search, [row.changes for row in self.ablate]))


def configs(study: Study, changes: Mapping[str, Plain]) -> dict[str, Any]:
    """Slot -> Config of one setting: the defaults, then ``fixed``, then ``changes``.

    Raises:
        SettingsError: a stage refuses the values; the faults carry full names.
    """
    built, refused = build(study.stages, {**study.fixed, **changes})
    if refused:
        raise checks.SettingsError(refused)
    return built


def load_study(path: Path, overrides: Sequence[str] = ()) -> Study:
    """Read and check a study file, with ``KEY=VALUE`` overrides from the command line applied first.

    Raises:
        StudyFaults: anything is wrong; it carries all that could be found.
    """
    document, unpinned = checkpoints.pinned(overriding.apply(read(path), overrides))
    if unpinned:
        raise StudyFaults(unpinned)
    page, faults = read_page(document)
    if page is None:
        raise StudyFaults(faults)
    name = page.name or path.stem
    if sentence := name_fault(name):
        faults.append(document.fault(("name",), sentence))
    faults += _pipeline_faults(document, page)
    if any(fault.key in ("method", "pretext") for fault in faults):
        raise StudyFaults(faults)
    reading = Reading(document, page, pipeline.stages(page.method, page.pretext), faults)
    study = _assemble(reading, name)
    if not faults:
        rules.judge_together(reading, study.fixed, study.search, study.ablate)
    if faults:
        raise StudyFaults(faults)
    return study


def _pipeline_faults(document: Document, page: Page) -> list[Fault]:
    methods = list(pipeline.METHODS)
    if page.method not in methods:
        sentence = f"method {page.method!r} does not exist. {did_you_mean(page.method, methods)}"
        return [document.fault(("method",), sentence)]
    if not page.pretext:
        return []
    if "pretext" not in pipeline.stages(page.method):
        return [document.fault(("pretext",), f"method {page.method!r} has no pretext stage. Take the line out.")]
    if page.pretext not in pipeline.PRETEXTS:
        sentence = f"pretext {page.pretext!r} does not exist. {did_you_mean(page.pretext, pipeline.PRETEXTS)}"
        return [document.fault(("pretext",), sentence)]
    return []


def _assemble(reading: Reading, name: str) -> Study:
    """The study of a page; what is wrong is noted in ``reading``, and then the study must not be used."""
    page = reading.page
    search = read_search(reading)
    if page.search and page.ablate:
        reading.note(("ablate",), "search and ablate exclude each other. Keep one of them.", at_key=True)
    for both in [each for each in page.fixed if each in page.search]:
        sentence = f"{both} is under fixed and under search. Take it out of one of them."
        reading.note(("fixed", both), sentence, at_key=True)
    return Study(
        name=name,
        file=reading.document.file,
        question=page.question or reading.document.question,
        method=page.method,
        pretext=page.pretext,
        dataset=read_dataset(reading),
        seeds=tuple(page.seeds),
        fixed=read_values(reading, ("fixed",), page.fixed),
        search=search,
        ablate=tuple(read_row(reading, label) for label in page.ablate),
        sampler=page.sampler,
        trials=rules.read_trials(reading, search),
        objective=rules.read_objective(reading, tuple(search)),
        oracle=page.oracle,
        resources=rules.read_resources(reading),
        tracking=page.tracking,
        retries=page.retries,
        published=read_published(reading, ("published",), page.published),
        document=reading.document,
    )
