"""``--smoke``: a study's pipeline and kind of settings tried in minutes, on the embedded data."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from trainables import pipeline, settings
from trainables.data import datasets
from trainables.interfaces import DataShape
from trainables.seeds import written
from trainables.settings import Plain

from . import checkpoints
from .cross_checks import place_of
from .domains import Choice, Domain, Range, grid_size
from .file_schema import Resources, Sampler, Share, Tracking
from .hyperparameters import config_of, names
from .study import Row, Study, configs

EPOCHS = 2
CONFIGURATIONS = 2
ROUNDS = 64
"""Halvings before a setting that the embedded data cannot carry is left for ``data_errors`` to report."""


def smoke_study(study: Study) -> Study:
    """Make the small form of a study that ``--smoke`` runs.

    It has digits instead of the data set, at most 2 epochs a stage, 2 configurations (or all rows of an ablation), 1
    seed (2 for an ablation), one process a trial without a GPU, the storage's own tracking, and no published values.

    Returns:
        The small study. Its name ends in "-smoke", and its ``notes`` say everything that differs.
    """
    spec = datasets.Spec(name="digits", protocol=study.dataset["protocol"])
    dataset = {field: getattr(spec, field) for field in settings.rules(datasets.Spec)}
    notes = [f"{name}: {value!r} instead of {study.dataset[name]!r}" for name, value in dataset.items()
             if study.dataset[name] != value]  # fmt: skip
    notes = [f"dataset.{note}" for note in notes]
    if study.probe_dataset:
        notes.append(f"probe_dataset: digits too, instead of {study.probe_dataset['name']}")
    seeds = study.seeds[: 2 if study.ablate else 1]
    if len(seeds) < len(study.seeds):
        notes.append(f"seeds: {written(seeds)} instead of {written(study.seeds)}")
    small = replace(
        study,
        name=f"{study.name[:90]}-smoke",
        dataset=dataset,
        probe_dataset={},
        seeds=seeds,
        ablate=tuple(replace(row, published={}) for row in study.ablate),
        resources=Resources(trial=Share(gpu=0.0)),
        tracking=Tracking(),
        published={},
    )
    small = _one_search(_trained(small, notes), notes)
    small = _carried(_eased(_short(small, notes), notes), datasets.load(spec).shape, notes)
    return replace(_few(small, notes), notes=tuple(notes))


def _one_search(study: Study, notes: list[str]) -> Study:
    """Only the first combination of a grid block, and no given starts."""
    first = {name: domain.value_at(0) for name, domain in study.grid.items()}
    notes += [f"{name}: {value!r} instead of {study.grid[name].as_dict()}" for name, value in first.items()]
    if study.start:
        notes.append(f"start: left out, which was {len(study.start)} settings")
    return replace(study, fixed={**study.fixed, **first}, grid={}, start=())


def _trained(study: Study, notes: list[str]) -> Study:
    """A pretext that is trained, in the place of a checkpoint: its weights are made for images of another shape."""
    if study.pretext != checkpoints.STAGE:
        return study
    pretext = pipeline.stage_names(study.method)[0]
    notes.append(f"pretext: {pretext} instead of the checkpoint, which need not fit digits")
    fixed = {name: value for name, value in study.fixed.items() if not name.startswith("pretext.")}
    return replace(study, pretext="", fixed=fixed)


def _short(study: Study, notes: list[str]) -> Study:
    """Every stage's epochs cut to EPOCHS; a swept number of epochs is fixed."""
    fixed, search = dict(study.fixed), dict(study.search)
    known = [(name, part) for part in study.parts for name in names(part.stages) if name.endswith(".epochs")]
    for name, part in known:
        domain = search.pop(name, None)
        usual = fixed.get(name, part.given.default(name))
        if domain is not None or _above(usual):
            fixed[name] = EPOCHS
            notes.append(f"{name}: {EPOCHS} instead of {usual if domain is None else domain.as_dict()}")
    rows = []
    for row in study.ablate:
        cut = {name: EPOCHS for name, value in row.changes.items() if name.endswith(".epochs") and _above(value)}
        notes += [f"{row.name}: {name}: {EPOCHS} instead of {row.changes[name]}" for name in cut]
        rows.append(replace(row, changes={**row.changes, **cut}))
    return replace(study, fixed=fixed, search=search, ablate=tuple(rows))


def _eased(study: Study, notes: list[str]) -> Study:
    """Fix the settings that a stage declares for ``--smoke`` at the values it declares, wherever they stand."""
    slots = [(slot, stage) for part in study.parts for slot, stage in part.stages.items()]
    values = {
        f"{slot}.{name}": value for slot, stage in slots for name, value in pipeline.smoke_settings(stage).items()
    }
    if not values:
        return study
    notes += [f"{name}: {value!r}, for after {EPOCHS} epochs no other does" for name, value in values.items()]
    search, grid = (
        {name: domain for name, domain in block.items() if name not in values} for block in (study.search, study.grid)
    )
    start = tuple({name: value for name, value in written.items() if name not in values} for written in study.start)
    rows = tuple(
        replace(row, changes={name: value for name, value in row.changes.items() if name not in values})
        for row in study.ablate
    )
    fixed = {**study.fixed, **values}
    return replace(study, fixed=fixed, search=search, grid=grid, start=start if search else (), ablate=rows)


def _above(epochs: Plain) -> bool:
    return isinstance(epochs, int) and epochs > EPOCHS


def _few(study: Study, notes: list[str]) -> Study:
    if study.ablate:
        return study
    if not study.search:
        return replace(study, trials=1)
    size = grid_size(study.search)
    trials = min(study.trials, CONFIGURATIONS if size is None else min(size, CONFIGURATIONS))
    sampler = study.sampler
    if sampler.name == "grid" and size is not None and size > CONFIGURATIONS:
        sampler = Sampler(name="random", seed=sampler.seed)
        notes.append("sampler: random instead of grid")
    if trials != study.trials:
        notes.append(f"trials: {trials} instead of {study.trials}")
    return replace(study, sampler=sampler, trials=trials)


def _carried(study: Study, shape: DataShape, notes: list[str]) -> Study:
    """The study with each value that a data set of this shape forbids made smaller until it is carried."""
    original = study
    for _ in range(ROUNDS):
        changed = _smaller(study, shape)
        if changed is None:
            break
        study = changed
    for section, before, after in _sections(original, study):
        for name, value in after.items():
            if before.get(name) != value:
                old = before.get(name, _default(original, name))
                notes.append(f"{section}{name}: {_shown(value)} instead of {_shown(old)}, for digits carries no more")
    return study


def _default(study: Study, name: str) -> Plain:
    return next(part.given.default(name) for part in study.parts if name in names(part.stages))


def _sections(old: Study, new: Study) -> list[tuple[str, Mapping[str, Any], Mapping[str, Any]]]:
    pairs = zip(old.ablate, new.ablate, strict=True)
    rows = [(f"{before.name}: ", before.changes, after.changes) for before, after in pairs]
    return [("", old.fixed, new.fixed), ("", old.search, new.search), *rows]


def _shown(value: Any) -> Any:
    return value.as_dict() if isinstance(value, Choice | Range) else repr(value)


def _smaller(study: Study, shape: DataShape) -> Study | None:
    """The study with the first forbidden value made smaller; None if nothing is forbidden or nothing can be done."""
    for part, changes in study.bounds:
        for name, _ in pipeline.limits(part.method, part.pretext, configs(part, changes), shape, part.probes):
            value = {**part.fixed, **changes}.get(name, part.given.default(name))
            less = _less(part, name, value)
            if less is None:
                continue
            where = place_of(name, changes, part.fixed, part.search, part.ablate)
            if where[0] == "search":
                return replace(study, search={**study.search, name: _capped(study.search[name], value, less)})
            if where[0] == "ablate":
                rows = tuple(_with(row, name, less) if row.name == where[1] else row for row in study.ablate)
                return replace(study, ablate=rows)
            return replace(study, fixed={**study.fixed, name: less})
    return None


def _less(study: Study, name: str, value: Plain) -> Plain | None:
    """Half a whole number as long as its Config takes it; otherwise the default; None if neither is another value."""
    half = value // 2 if isinstance(value, int) and not isinstance(value, bool) else None
    config, field = config_of(study.stages, name), name.partition(".")[2]
    if half is not None and settings.fault(config, field, half) is None:
        return half
    default = study.given.default(name)
    return default if half is None and default != value else None


def _with(row: Row, name: str, value: Plain) -> Row:
    return replace(row, changes={**row.changes, name: value})


def _capped(domain: Domain, value: Plain, less: Plain) -> Domain:
    """The domain with ``less`` in the place of ``value``; a range that would end below its low keeps only that."""
    if isinstance(domain, Choice):
        return replace(
            domain, options=tuple(dict.fromkeys(less if option == value else option for option in domain.options))
        )
    if isinstance(less, int | float) and less > domain.low:
        return replace(domain, high=less, step=None)
    return Choice(domain.name, (min(less, domain.low) if isinstance(less, int | float) else less,))
