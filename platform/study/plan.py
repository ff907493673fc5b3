"""What a study will run, before it runs: how many trials, and which stages they share."""

from collections.abc import Mapping
from typing import Any

from trainables import pipeline, settings
from trainables.maths import metrics
from trainables.pipeline import name_of
from trainables.seeds import is_crossed, label, of_slot

from . import domains
from .file_schema import Share
from .hyperparameters import shared_prefix
from .resolved import resolved, stopping
from .resolved_types import selection_split
from .study import Study


def shared_slots(study: Study) -> tuple[str, ...]:
    """Slots of the stages that run once per seed: the longest prefix of the pipeline that no trial changes."""
    return shared_prefix(study.stages, study.touched)


Shared = tuple[Study, tuple[str, ...]]
"""A part of a study (one pipeline) and the slots that all of its trials share."""


def shared_parts(study: Study) -> list[Shared]:
    """The stages that are computed before the trials, for each pipeline of the study.

    Returns:
        Each part with the slots that its trials share; parts that share nothing are left out. A pipeline with a single
        row has its pretext prepared too: rows with another method on the same pretext share it.
    """
    if not (study.swept or study.ablate):
        return []
    parts = study.parts
    shared = []
    for part in parts:
        slots = shared_slots(part)
        if len(parts) > 1 and len(part.ablate) == 1:
            slots = slots[: min(1, len(part.stages) - 1)]
        shared.append((part, slots))
    return [(part, slots) for part, slots in shared if slots]


def rows(study: Study) -> list[str]:
    """The plan of a study as lines of plain text, each with a label of 10 letters in front."""
    shared, seeds = shared_slots(study), len(study.seeds)
    per_trial = [slot for slot in study.stages if slot not in shared]
    trials = study.num_settings * seeds
    once = len({tuple(of_slot(seed, slot) for slot in shared) for seed in study.seeds})
    work = [
        ("once", f"{', '.join(shared)}: {_count(once, 'run')}, one per seed" if shared else "no stage is shared"),
        (
            "per trial",
            f"{', '.join(per_trial)}: {_count(trials, 'run')}" if per_trial else "nothing beyond the shared stages",
        ),
    ]
    lines = [
        ("study", f"{study.name} ({study.file})"),
        ("method", f"{study.method}: {' -> '.join(study.stages)}" + _swapped(study)),
        ("data set", _data_set(study.dataset)),
        *([("probed on", _data_set(study.probe_dataset))] if study.probe_dataset else []),
        ("settings", _settings(study)),
        ("seeds", ", ".join(map(label, study.seeds)) + (" (pretext/method)" if is_crossed(study.seeds[0]) else "")),
        ("trials", f"{_count(study.num_settings, 'setting')} x {_count(seeds, 'seed')} = {trials:,}"),
        *(_pipelines(study) if len(study.parts) > 1 else work),
        ("objective", _objectives(study)),
        ("prepare", _share(study.resources.prepare)),
        ("trial", _share(study.resources.trial)),
        ("tracking", study.tracking.uri or "the storage's own MLflow database"),
    ]
    swept = [("grid", f"{name}: {domain.as_dict()}") for name, domain in study.grid.items()]
    swept += [("search", f"{name}: {domain.as_dict()}") for name, domain in study.search.items()]
    swept += [("start", ", ".join(f"{name}: {value}" for name, value in each.items())) for each in study.start]
    ablated = [("ablate", f"{row.name}: {row.params or 'the base'}") for row in study.ablate]
    limited = [("stops", f"{name}: {value}") for name, value in stopping(study).items()]
    changed = [("smoke", note) for note in study.notes]
    return [f"{label:<10} {text}" for label, text in lines + swept + ablated + limited + changed]


def _pipelines(study: Study) -> list[tuple[str, str]]:
    """What each pipeline of the rows shares and runs by itself; equal shared stages run once for all of them."""
    shared = {part.ablate[0].name: slots for part, slots in shared_parts(study)}
    lines, prepared = [], set()
    for part in study.parts:
        slots, names = shared.get(part.ablate[0].name, ()), {s: name_of(each) for s, each in part.stages.items()}
        stages = f"{part.method}: {' -> '.join(names.values())} ({_count(len(part.ablate), 'row')})"
        lines.append(("pipeline", f"{stages}; shared: {', '.join(names[slot] for slot in slots) or 'nothing'}"))
        values = [tuple((name, part.fixed.get(name)) for name in part.fixed if name.partition(".")[0] in slots)]
        prepared |= {(tuple(names[s] for s in slots), *values, *(of_slot(seed, s) for s in slots))
                     for seed in study.seeds if slots}  # fmt: skip
    return [*lines, ("once", f"{_count(len(prepared), 'run')} of shared stages, those of each pipeline once per seed")]


def _swapped(study: Study) -> str:
    sha256 = study.fixed.get("pretext.sha256", "")
    return f" (pretext by {study.pretext}{f', sha256 {sha256}' if sha256 else ''})" if study.pretext else ""


def _data_set(dataset: Mapping[str, Any]) -> str:
    fields = dict(dataset)
    name = fields.pop("name", "")
    return f"{name} ({', '.join(f'{key}: {value}' for key, value in fields.items() if value not in ('', None))})"


def _settings(study: Study) -> str:
    if study.ablate:
        return f"{_count(study.trials, 'row')} of an ablation"
    blocks = domains.grid_size(study.grid) or 1
    each = f" in each of {blocks:,} combinations" if study.grid else ""
    if not study.search:
        return f"all {blocks:,} combinations of the grid block" if study.grid else "one, the fixed one"
    sampler = study.sampler
    size = domains.grid_size(study.search)
    if sampler.name == "grid":
        twice = ", equal ones once" if _has_conditions(study) else ""
        return f"all {study.trials:,} of the grid{each}{twice}"
    return f"{study.trials:,} by {sampler.name} (seed {sampler.seed})" + (f" out of {size:,}" if size else "") + each


def _objectives(study: Study) -> str:
    named = " and ".join(f"{each.metric}, {each.mode}" for each in study.objectives)
    split = selection_split(resolved(study))
    images = f", chosen by the {split} images" if split else ""
    sees_test = split == "eval" and study.dataset.get("protocol") == "split"
    return named + _oracle(study) + images + (": those that it is judged on" if sees_test else "")


def _has_conditions(study: Study) -> bool:
    """Whether a swept setting counts only beside some values of another one."""
    for name in study.swept:
        slot, _, short_name = name.partition(".")
        needs = settings.rules(study.stages[slot].Config)[short_name].when
        if any(f"{slot}.{other}" in study.swept for other in needs):
            return True
    return False


def _oracle(study: Study) -> str:
    if not study.oracle:
        trained = {part.method for part in study.parts if pipeline.trains_on_labels(part.method)}
        return f" (label-free; {', '.join(sorted(trained))} trains on some labels)" if trained else " (label-free)"
    ranked = any(metrics.looks_at_labels(each.metric) for each in study.objectives)
    return " (ORACLE: it looks at labels)" if ranked else " (label-free, but an ORACLE: settings train on labels)"


def _count(number: int, thing: str) -> str:
    return f"{number:,} {thing}" + ("" if number == 1 else "s")


def _share(share: Share) -> str:
    each = f"{share.cpu:g} CPU, {share.gpu:g} GPU"
    return f"{_count(share.workers, 'worker')} of {each} each" if share.workers else f"one process, {each}"
