"""A study in full, as plain data: everything with its defaults, the part that makes it this study, and differences."""

from collections.abc import Iterator, Mapping
from typing import Any

from trainables import pipeline, seeds, settings
from trainables.data import datasets

from .hyperparameters import Given, config_of, names
from .pipelines import settings_of
from .resolved_types import ObjectiveFields, Resolved, Stopping
from .study import Row, Study


def resolved(study: Study) -> Resolved:
    """The study with every default written out, fit for JSON and YAML; as a study file it gives the same study again.

    ``fixed`` holds every setting that can count and is not swept. ``tracking.uri`` keeps its ``${ENV:NAME}``.
    """
    rows = {
        row.name: {**row.params, **({"published": dict(row.published)} if row.published else {})}
        for row in study.ablate
    }
    full: Resolved = {
        "name": study.name,
        "question": study.question,
        "method": study.method,
        "pretext": _stage_names(study).get("pretext", ""),
        "probes": list(study.probes),
        "dataset": dict(study.dataset),
        "seeds": seeds.written(study.seeds),
        "fixed": {name: values[0] for name, values in _settings(study).items() if _agree(study, name, values)},
        "search": {name: domain.as_dict() for name, domain in study.search.items()},
        "ablate": rows,
        "sampler": study.sampler.model_dump(),
        "trials": study.trials,
        "objective": _objectives(study),
        "oracle": study.oracle,
        "resources": study.resources.model_dump(),
        "tracking": study.tracking.model_dump(),
        "retries": study.retries,
        "published": dict(study.published),
    }
    if study.preset:
        full["preset"] = study.preset
    if study.probe_dataset:
        full["probe_dataset"] = dict(study.probe_dataset)
    if study.grid:
        full["grid"] = {name: domain.as_dict() for name, domain in study.grid.items()}
    if study.start:
        full["start"] = [dict(each) for each in study.start]
    return {**full, **stopping(study)}


def meaning(study: Study) -> dict[str, Any]:
    """The part whose change makes it another study; see ``compatibility`` for changes that go on with it."""
    full = resolved(study)
    part: dict[str, Any] = {
        "method": study.method,
        "stages": _stage_names(study),
        "dataset": datasets.meaning(study.dataset),
        "fixed": {name: value for name, (value, *_) in _settings(study).items() if not _is_place(study, name)},
        "search": full["search"],
        "ablate": {row.name: row.params for row in study.ablate},
        "objective": full["objective"],
    }
    if "grid" in full:
        part["grid"] = full["grid"]
    if "start" in full:
        part["start"] = full["start"]
    if study.probe_dataset:
        part["probe_dataset"] = datasets.meaning(study.probe_dataset)
    # Without a search nothing is sampled, so a change of sampler changes nothing.
    return part | ({"sampler": full["sampler"]} if study.search else {})


def _is_place(study: Study, name: str) -> bool:
    """Whether a setting says where something is, not what it is."""
    stages = next(part.stages for part in study.parts if settings_of(part.stages, {name: None}))
    return settings.rules(config_of(stages, name))[name.partition(".")[2]].place


def difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """What changed from one ``meaning`` to another, one sentence each; empty if they are the same study."""
    before, after = dict(_flat(old)), dict(_flat(new))
    sentences = []
    for key in dict.fromkeys([*before, *after]):
        if key not in after:
            sentences.append(f"{key} was {before[key]!r} and is gone")
        elif key not in before:
            sentences.append(f"{key} is new: {after[key]!r}")
        elif before[key] != after[key]:
            sentences.append(f"{key} was {before[key]!r} and is now {after[key]!r}")
    return sentences


def _flat(part: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for section, value in part.items():
        if isinstance(value, Mapping):
            yield from ((f"{section}.{name}", inner) for name, inner in value.items())
        else:
            yield section, value


def _objectives(study: Study) -> ObjectiveFields | list[ObjectiveFields]:
    """As a study file has it: one by itself, several in a list."""
    written: list[ObjectiveFields] = [{"metric": each.metric, "mode": each.mode} for each in study.objectives]
    return written[0] if len(written) == 1 else written


def stopping(study: Study) -> Stopping:
    """What stops trials or the launch, as far as the study says anything of it."""
    written: Stopping = {}
    if study.scheduler is not None:
        written["scheduler"] = study.scheduler.model_dump(exclude_none=True)
    if guard := study.guard.model_dump(exclude_none=True):
        written["guard"] = guard
    if study.max_failures is not None:
        written["max_failures"] = study.max_failures
    if study.time_limit is not None:
        written["time_limit"] = study.time_limit
    return written


def _stage_names(study: Study) -> dict[str, str]:
    own = dict(zip(study.stages, (*pipeline.stage_names(study.method), *study.probes), strict=True))
    return own | ({"pretext": study.pretext} if study.pretext else {})


def _settings(study: Study) -> dict[str, list[Any]]:
    """What every setting that can count and is not swept is given, by each pipeline that knows it."""
    found: dict[str, list[Any]] = {}
    counting: set[str] = set()
    for part in study.parts:
        views = [Given(part.stages, {**part.fixed, **row.changes}, part.swept) for row in part.ablate or (Row("", {}),)]
        counting |= {name for view in views for name in view.counting()} - set(study.swept)
        for name in names(part.stages):
            found.setdefault(name, []).append(part.fixed.get(name, part.given.default(name)))
    return {name: values for name, values in found.items() if name in counting}


def _agree(study: Study, name: str, values: list[Any]) -> bool:
    """Whether a value under ``fixed`` says the same; where two pipelines have two defaults, none is written."""
    return name in study.fixed or all(repr(value) == repr(values[0]) for value in values)
