"""What a study will run, before it runs: how many trials, and which stages they share."""

from . import domains
from .pages import Share
from .schema import Study
from .settings import shared_prefix


def shared_slots(study: Study) -> tuple[str, ...]:
    """The stages that run once per seed: the longest prefix of the pipeline that nothing swept or ablated touches."""
    return shared_prefix(study.stages, study.touched)


def grid_size(study: Study) -> int | None:
    """Settings in the full grid over ``search``, counted and not expanded; None if a range is continuous."""
    return domains.grid_size(study.search)


def rows(study: Study) -> list[str]:
    """The plan as lines of plain text."""
    shared, seeds = shared_slots(study), len(study.seeds)
    own = [slot for slot in study.stages if slot not in shared]
    trials = study.trials * seeds
    lines = [
        ("study", f"{study.name} ({study.file})"),
        ("method", f"{study.method}: {' -> '.join(study.stages)}" + _swapped(study)),
        ("data set", _data_set(study)),
        ("settings", _settings(study)),
        ("seeds", ", ".join(map(str, study.seeds))),
        ("trials", f"{_count(study.trials, 'setting')} x {_count(seeds, 'seed')} = {trials:,}"),
        ("once", f"{', '.join(shared)}: {_count(seeds, 'run')}, one per seed" if shared else "no stage is shared"),
        ("per trial", f"{', '.join(own)}: {_count(trials, 'run')}" if own else "nothing beyond the shared stages"),
        ("objective", f"{study.objective.metric}, {study.objective.mode}" + _oracle(study)),
        ("prepare", _share(study.resources.prepare)),
        ("trial", _share(study.resources.trial)),
        ("tracking", study.tracking.uri or "the storage's own MLflow database"),
    ]
    swept = [("search", f"{name}: {domain.as_dict()}") for name, domain in study.search.items()]
    ablated = [("ablate", f"{row.name}: {dict(row.changes) or 'the base'}") for row in study.ablate]
    changed = [("rehearsal", note) for note in study.notes]
    return [f"{label:<10} {text}" for label, text in lines + swept + ablated + changed]


def _swapped(study: Study) -> str:
    sha256 = study.fixed.get("pretext.sha256", "")
    return f" (pretext by {study.pretext}{f', sha256 {sha256}' if sha256 else ''})" if study.pretext else ""


def _data_set(study: Study) -> str:
    fields = dict(study.dataset)
    name = fields.pop("name", "")
    return f"{name} ({', '.join(f'{key}: {value}' for key, value in fields.items() if value not in ('', None))})"


def _settings(study: Study) -> str:
    if study.ablate:
        return f"{_count(study.trials, 'row')} of an ablation"
    if not study.search:
        return "one, the fixed one"
    sampler = study.sampler
    size = grid_size(study)
    if sampler.name == "grid":
        return f"all {study.trials:,} of the grid"
    return f"{study.trials:,} by {sampler.name} (seed {sampler.seed})" + (f" out of {size:,}" if size else "")


def _oracle(study: Study) -> str:
    return " (ORACLE: it looks at labels)" if study.oracle else " (label-free)"


def _count(number: int, thing: str) -> str:
    return f"{number:,} {thing}" + ("" if number == 1 else "s")


def _share(share: Share) -> str:
    each = f"{share.cpu:g} CPU, {share.gpu:g} GPU"
    return f"{_count(share.workers, 'worker')} of {each} each" if share.workers else f"one process, {each}"
