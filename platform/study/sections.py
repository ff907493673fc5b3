"""What stands under fixed, search, ablate, published and dataset, checked against the stages and the data sets."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from trainables import pipeline, settings
from trainables.data import datasets
from trainables.settings import Plain

from . import published
from .domains import Domain, read_domain
from .errors import StudyError, did_you_mean
from .file_schema import Page
from .hyperparameters import Stages, config_of, default, unknown, value_fault
from .pipelines import KEYS, chosen, identity
from .yaml_reader import Document, Where


@dataclass(frozen=True)
class Row:
    """One named setting of an ablation. published: metric -> value, as printed, and ``published.NOTES``.

    method, pretext: of the row's pipeline; None where it is the study's (see ``pipelines.chosen``).
    """

    name: str
    changes: Mapping[str, Plain]
    published: Mapping[str, Any] = field(default_factory=dict)
    method: str | None = None
    pretext: str | None = None

    @property
    def pipeline(self) -> dict[str, str]:
        """The row's ``pipelines.KEYS``, as far as it has them."""
        found = {"method": self.method, "pretext": self.pretext}
        return {key: value for key, value in found.items() if value is not None}

    @property
    def params(self) -> dict[str, Plain]:
        """Everything in which the row differs from the study: its pipeline, then its settings."""
        return {**self.pipeline, **self.changes}


@dataclass(frozen=True)
class Reading:
    """A page being judged: where it stands, the pipeline it names, and the faults found so far."""

    document: Document
    page: Page
    stages: Stages
    faults: list[StudyError]

    @property
    def dropped(self) -> set[str]:
        """Keys of the file that are at fault already, so that the page has a default in their place."""
        return set(self.document.data) - self.page.model_fields_set

    def note(self, where: Where, sentence: str, *, key: str = "", at_key: bool = False) -> None:
        self.faults.append(self.document.fault(where, sentence, key=key, at_key=at_key))


def for_row(reading: Reading, label: str) -> Reading:
    """The same page as a row of its ablation sees it, with the row's pipeline; faults go to the same list."""
    page = reading.page
    if not any(key in page.ablate[label] for key in KEYS):
        return reading
    method, pretext = chosen(page.method, page.pretext, page.ablate[label])
    own = page.model_copy(update={"method": method, "pretext": pretext})
    return replace(reading, page=own, stages=pipeline.stages(method, pretext, page.probes))


def for_pipelines(reading: Reading) -> list[Reading]:
    """The page as seen by each pipeline that is run, each once, in the order of the rows."""
    found: dict[tuple[str, ...], Reading] = {}
    for each in [for_row(reading, label) for label in reading.page.ablate] or [reading]:
        found.setdefault(identity(each.page.method, each.page.pretext), each)
    return list(found.values())


def read_values(
    reading: Reading, where: Where, given: Mapping[str, Any], pipelines: Sequence[Reading] = ()
) -> dict[str, Plain]:
    """The settings under ``where`` that are right; whole numbers become floats where a float is declared.

    ``pipelines``: where there are several, each of which may own a setting; all owners must take its value.
    """
    values: dict[str, Plain] = {}
    for name, value in given.items():
        views = pipelines or [reading]
        missing = [unknown(view.stages, name, view.page.method) for view in views]
        if all(missing):
            reading.note((*where, name), missing[0] or "", at_key=True)
            continue
        owners = [view.stages for view, sentence in zip(views, missing, strict=True) if not sentence]
        configs, own = [config_of(stages, name) for stages in owners], name.partition(".")[2]
        sentences = [each for config in configs if (each := value_fault(config, own, value, name))]
        if sentences:
            reading.note((*where, name), sentences[0])
        else:
            values[name] = float(value) if all(settings.kind_of(each, own) is float for each in configs) else value
    return values


def read_search(reading: Reading, section: str = "search") -> dict[str, Domain]:
    """The domains of a section that are right; those of ``grid`` must be countable."""
    domains = {}
    for name in getattr(reading.page, section):
        missing = unknown(reading.stages, name, reading.page.method)
        if missing:
            reading.note((section, name), missing, at_key=True)
            continue
        config = config_of(reading.stages, name)
        domain = read_domain(reading.document, (section, name), config, reading.faults)
        if domain is not None and section == "grid" and domain.size is None:
            sentence = f"{name} is continuous, so a grid over it has no end. Give it a step or a choice, or search it."
            reading.note((section, name), sentence)
        elif domain is not None:
            domains[name] = domain
    return domains


PAPER = "paper"
"""Under ``start``: the stages' own defaults, which are the published ones."""


def read_start(reading: Reading, search: Mapping[str, Domain]) -> tuple[Mapping[str, Plain], ...]:
    """The first settings: every searched name with the value given, or else its default.

    A value may lie outside of what is searched: it is run and ranked like any other, and no sampler learns from it.
    """
    start = []
    for index, written in enumerate(reading.page.start):
        where: Where = ("start", index)
        if written != PAPER and not isinstance(written, dict):
            reading.note(where, f"a start is {PAPER} or a mapping of searched settings to values, but is {written!r}.")
            continue
        given = {} if written == PAPER else written
        for name in [each for each in given if each not in reading.page.search]:
            sentence = f"{name} is not under search. {did_you_mean(name, list(reading.page.search))}"
            reading.note((*where, name), sentence, key=f"start.{index}.{name}", at_key=True)
        known = {name: value for name, value in given.items() if name in reading.page.search}
        values = read_values(reading, where, known)
        defaults = {name: default(reading.stages, name) for name in search}
        start.append({**defaults, **values})
    if reading.page.start and not reading.page.search:
        reading.note(("start",), "start gives the first settings of a search, but there is none. Take it out.")
    return tuple(start)


def read_row(reading: Reading, label: str) -> Row:
    """One row of an ablation, with what is right of it."""
    where: Where = ("ablate", label)
    if not 1 <= len(label) <= 100 or not label.isprintable():
        reading.note(where, "a row's name has 1 to 100 printable letters. Rename it.", at_key=True)
    given = dict(reading.page.ablate[label])
    printed = given.pop("published", {})
    own = for_row(reading, label)
    named = {key: given.pop(key) for key in KEYS if key in given}
    published = read_published(own, (*where, "published"), printed)
    return Row(label, read_values(own, where, given), published, named.get("method"), named.get("pretext"))


def read_published(reading: Reading, where: Where, given: Any) -> dict[str, Any]:
    """What is right of published values ("acc" or "spc/acc") and of what is said of them (``published.NOTES``)."""
    if not isinstance(given, dict):
        sentence = f"published must be a mapping of metrics to numbers, but is {given!r}. Write {{acc: 83.6}}."
        reading.note(where, sentence)
        return {}
    known = dict.fromkeys(metric for stage in reading.stages.values() for metric in stage.METRICS)
    known |= dict.fromkeys(f"{slot}/{metric}" for slot, stage in reading.stages.items() for metric in stage.METRICS)
    right: dict[str, Any] = {}
    for name, value in given.items():
        if name in published.NOTES:
            fault = published.note_fault(name, value, list(reading.stages), list(known))
        elif name not in known:
            sentence = f"{name} is no metric of this pipeline. {did_you_mean(name, [*known, *published.NOTES])}"
            reading.note((*where, name), sentence, at_key=True)
            continue
        else:
            fault = published.value_fault(name, value)
        if fault:
            reading.note((*where, name), fault)
        else:
            right[name] = value if name in published.NOTES else float(value)
    if isinstance(right.get("epochs"), int):
        with_epochs = [slot for slot, stage in reading.stages.items() if "epochs" in settings.rules(stage.Config)]
        right["epochs"] = {slot: right["epochs"] for slot in with_epochs[-1:]}
    return right


def read_probe_dataset(reading: Reading) -> dict[str, Plain]:
    """The data set of the probes alone, with every field of ``sets.Spec``; empty where it is the study's."""
    given = reading.page.probe_dataset
    if given and not reading.page.probes:
        sentence = "probe_dataset is what probes learn and judge on, but there are none. Add probes: [linear_probe]."
        reading.note(("probe_dataset",), sentence, at_key=True)
    return read_dataset(reading, "probe_dataset") if given else {}


def read_dataset(reading: Reading, section: str = "dataset") -> dict[str, Plain]:
    """Every field of ``sets.Spec``: what the page says, then defaults."""
    rules, right = settings.rules(datasets.Spec), {}
    for name, value in getattr(reading.page, section).items():
        where: Where = (section, name)
        if name not in rules:
            reading.note(where, f"{name} is not a key of {section}. {did_you_mean(name, list(rules))}", at_key=True)
            continue
        sentence = value_fault(datasets.Spec, name, value, f"{section}.{name}")
        choices = [str(choice) for choice in rules[name].choices]
        if sentence and choices and isinstance(value, str):
            sentence = f"{sentence} {did_you_mean(value, choices)}"
        if sentence:
            reading.note(where, sentence)
        else:
            right[name] = value
    try:
        spec = datasets.Spec(**right)
    except settings.SettingsError as error:
        for name, refused in error.faults:
            reading.note((section, name), f"{refused.rstrip('.')}.")
        return right
    return {name: getattr(spec, name) for name in rules}
