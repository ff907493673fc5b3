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
from .hyperparameters import Stages, config_of, default, unknown, value_error
from .pipelines import KEYS, chosen, identity
from .yaml_reader import Document, Where


@dataclass(frozen=True)
class Row:
    """One named configuration of an ablation.

    Attributes:
        changes: full name -> value, over the study's fixed settings.
        published: metric -> value as printed, and ``published.NOTES``.
        method: of the row's pipeline; None for the study's (see ``pipelines.chosen``).
        pretext: the same.
    """

    name: str
    changes: Mapping[str, Plain]
    published: Mapping[str, Any] = field(default_factory=dict)
    method: str | None = None
    pretext: str | None = None

    @property
    def pipeline(self) -> dict[str, str]:
        """The row's ``pipelines.KEYS``, as far as it has them."""
        named = {"method": self.method, "pretext": self.pretext}
        return {key: value for key, value in named.items() if value is not None}

    @property
    def params(self) -> dict[str, Plain]:
        """Everything in which the row differs from the study: its pipeline, then its settings."""
        return {**self.pipeline, **self.changes}


@dataclass(frozen=True)
class Reading:
    """A page that is being checked.

    Attributes:
        document: the file with its lines.
        stages: the pipeline that the page names.
        errors: all errors so far.
    """

    document: Document
    page: Page
    stages: Stages
    errors: list[StudyError]

    @property
    def dropped(self) -> set[str]:
        """Keys of the file that have errors already; the page has their defaults."""
        return set(self.document.data) - self.page.model_fields_set

    def note(self, where: Where, sentence: str, *, key: str = "", at_key: bool = False) -> None:
        """Add an error; the arguments are those of ``Document.error``."""
        self.errors.append(self.document.error(where, sentence, key=key, at_key=at_key))


def for_row(reading: Reading, label: str) -> Reading:
    """The page with the pipeline of one row of its ablation; errors go to the same list.

    Args:
        label: the row's name.
    """
    page = reading.page
    if not any(key in page.ablate[label] for key in KEYS):
        return reading
    method, pretext = chosen(page.method, page.pretext, page.ablate[label])
    row_page = page.model_copy(update={"method": method, "pretext": pretext})
    return replace(reading, page=row_page, stages=pipeline.stages(method, pretext, page.probes))


def for_pipelines(reading: Reading) -> list[Reading]:
    """The page with each pipeline that its rows use, each pipeline once, in the order of the rows."""
    by_pipeline: dict[tuple[str, ...], Reading] = {}
    for view in [for_row(reading, label) for label in reading.page.ablate] or [reading]:
        by_pipeline.setdefault(identity(view.page.method, view.page.pretext), view)
    return list(by_pipeline.values())


def read_values(
    reading: Reading, where: Where, given: Mapping[str, Any], pipelines: Sequence[Reading] = ()
) -> dict[str, Plain]:
    """Read the settings of one section or row, and note what is wrong with them.

    Args:
        where: path of the section or row.
        given: full name -> value, as written.
        pipelines: several pipelines, of which at least one must have each setting, and all that have it must allow its
            value; empty for the pipeline of ``reading``.

    Returns:
        The settings without errors; whole numbers become floats where a setting is a float.
    """
    values: dict[str, Plain] = {}
    for name, value in given.items():
        views = pipelines or [reading]
        missing = [unknown(view.stages, name, view.page.method) for view in views]
        if all(missing):
            reading.note((*where, name), missing[0] or "", at_key=True)
            continue
        owners = [view.stages for view, sentence in zip(views, missing, strict=True) if not sentence]
        configs, field_name = [config_of(stages, name) for stages in owners], name.partition(".")[2]
        sentences = [sentence for config in configs if (sentence := value_error(config, field_name, value, name))]
        if sentences:
            reading.note((*where, name), sentences[0])
        else:
            values[name] = (
                float(value) if all(settings.kind_of(config, field_name) is float for config in configs) else value
            )
    return values


def read_search(reading: Reading, section: str = "search") -> dict[str, Domain]:
    """Read the domains under ``search`` or ``grid``, and note what is wrong with them.

    Returns:
        Full name -> domain, without those that have errors; a domain under ``grid`` is countable.
    """
    domains = {}
    for name in getattr(reading.page, section):
        missing = unknown(reading.stages, name, reading.page.method)
        if missing:
            reading.note((section, name), missing, at_key=True)
            continue
        config = config_of(reading.stages, name)
        domain = read_domain(reading.document, (section, name), config, reading.errors)
        if domain is not None and section == "grid" and domain.size is None:
            sentence = f"{name} is continuous, so a grid over it has no end. Give it a step or a choice, or search it."
            reading.note((section, name), sentence)
        elif domain is not None:
            domains[name] = domain
    return domains


PAPER = "paper"
"""Under ``start``: the stages' own defaults, which are the published ones."""


def read_start(reading: Reading, search: Mapping[str, Domain]) -> tuple[Mapping[str, Plain], ...]:
    """Read the configurations that run first.

    A value may lie outside of what is searched: it is run and ranked like any other, and no sampler learns from it.

    Returns:
        For each of them every searched setting with the value given, or else its default.
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
    """Read one row of an ablation, and note what is wrong with it.

    Args:
        label: the row's name.
    """
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
    """Read published values and the notes on them (``published.NOTES``), and note what is wrong.

    Args:
        where: path of the mapping.
        given: as written; a metric is "acc" or "spc/acc".

    Returns:
        The values and notes without errors; ``epochs`` always by slot.
    """
    if not isinstance(given, dict):
        sentence = f"published must be a mapping of metrics to numbers, but is {given!r}. Write {{acc: 83.6}}."
        reading.note(where, sentence)
        return {}
    known = dict.fromkeys(metric for stage in reading.stages.values() for metric in stage.METRICS)
    known |= dict.fromkeys(f"{slot}/{metric}" for slot, stage in reading.stages.items() for metric in stage.METRICS)
    right: dict[str, Any] = {}
    for name, value in given.items():
        if name in published.NOTES:
            error = published.note_error(name, value, list(reading.stages), list(known))
        elif name not in known:
            sentence = f"{name} is no metric of this pipeline. {did_you_mean(name, [*known, *published.NOTES])}"
            reading.note((*where, name), sentence, at_key=True)
            continue
        else:
            error = published.value_error(name, value)
        if error:
            reading.note((*where, name), error)
        else:
            right[name] = value if name in published.NOTES else float(value)
    if error := published.stds_error(right):
        reading.note((*where, "std"), error)
    if isinstance(right.get("epochs"), int):
        with_epochs = [slot for slot, stage in reading.stages.items() if "epochs" in settings.rules(stage.Config)]
        right["epochs"] = {slot: right["epochs"] for slot in with_epochs[-1:]}
    return right


def read_probe_dataset(reading: Reading) -> dict[str, Plain]:
    """Read the data set that only the probes use: every field of ``datasets.Spec``; empty if they use the study's."""
    given = reading.page.probe_dataset
    if given and not reading.page.probes:
        sentence = "probe_dataset is what probes learn and judge on, but there are none. Add probes: [linear_probe]."
        reading.note(("probe_dataset",), sentence, at_key=True)
    return read_dataset(reading, "probe_dataset") if given else {}


def read_dataset(reading: Reading, section: str = "dataset") -> dict[str, Plain]:
    """Read a data set: every field of ``datasets.Spec`` with the page's value, or else its default.

    Args:
        section: "dataset" or "probe_dataset".
    """
    rules, right = settings.rules(datasets.Spec), {}
    for name, value in getattr(reading.page, section).items():
        where: Where = (section, name)
        if name not in rules:
            reading.note(where, f"{name} is not a key of {section}. {did_you_mean(name, list(rules))}", at_key=True)
            continue
        sentence = value_error(datasets.Spec, name, value, f"{section}.{name}")
        choices = [str(choice) for choice in rules[name].choices]
        if sentence and choices and isinstance(value, str):
            sentence = f"{sentence} {did_you_mean(value, choices)}"
        if sentence:
            reading.note(where, sentence)
        else:
            right[name] = value
    try:
        spec = datasets.Spec(**right)
    except settings.SettingsError as refusal:
        for name, refused in refusal.faults:
            reading.note((section, name), f"{refused.rstrip('.')}.")
        return right
    return {name: getattr(spec, name) for name in rules}
