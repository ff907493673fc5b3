"""What a method is: its stages in order, and their slots.

Adding a method is one stage file and one line in ``METHODS``. A stage's slot is its ``NAMESPACE``: settings and metrics
carry it as a prefix, and a stage that may stand in the slot "pretext" can be swapped by ``pretext: NAME``.
"""

import importlib
from collections.abc import Iterator, Mapping
from typing import Any

from . import checks
from .contract import DataShape, Stage

METHODS: Mapping[str, tuple[str, ...]] = {
    "kmeans": ("simclr", "kmeans"),
    "scan": ("simclr", "neighbors", "scan", "selflabel"),
    "spc": ("simclr", "neighbors", "scan", "spc"),
}

PRETEXTS: tuple[str, ...] = ("simclr", "moco", "rotnet", "instdisc", "checkpoint")


def load(name: str) -> Stage:
    """The stage module ``trainables.stages.<name>``."""
    return importlib.import_module(f"{__package__}.stages.{name}")  # type: ignore[return-value]


def name_of(stage: Stage) -> str:
    """The file name of a stage: what ``load`` takes."""
    return str(stage.__name__).rpartition(".")[2]  # type: ignore[attr-defined]


def stages(method: str, pretext: str = "") -> dict[str, Stage]:
    """Slot -> stage of a method, in the order in which they run. ``pretext`` swaps the stage of that slot.

    Raises:
        KeyError: the method is not in METHODS.
    """
    by_slot = {}
    for name in METHODS[method]:
        stage = load(name)
        by_slot[stage.NAMESPACE] = load(pretext) if pretext and stage.NAMESPACE == "pretext" else stage
    return by_slot


def configs(method: str, pretext: str, changes: Mapping[str, checks.Plain]) -> dict[str, Any]:
    """Slot -> Config with ``changes`` (full names, "spc.strong_threshold") over the defaults.

    Raises:
        SettingsError: a value breaks its rule.
    """
    by_slot = stages(method, pretext)
    values: dict[str, dict[str, checks.Plain]] = {slot: {} for slot in by_slot}
    for key, value in changes.items():
        slot, _, name = key.partition(".")
        values[slot][name] = value
    return {slot: stage.Config(**values[slot]) for slot, stage in by_slot.items()}


def limits(method: str, pretext: str, by_slot: Mapping[str, Any], shape: DataShape) -> Iterator[tuple[str, str]]:
    """(full setting name, sentence) for everything that this data set, or another stage's setting, forbids."""
    for slot, stage in stages(method, pretext).items():
        for name, sentence in stage.limits(by_slot[slot], shape):
            yield f"{slot}.{name}", sentence
    yield from _missing_spaces(method, pretext, by_slot)
    if "neighbors" in by_slot and "scan" in by_slot:
        mined, wanted = by_slot["neighbors"].num_neighbors, by_slot["scan"].num_neighbors
        if wanted > mined:
            yield (
                "scan.num_neighbors",
                f"scan.num_neighbors is {wanted}, but only {mined} are mined; raise neighbors.num_neighbors",
            )


def _missing_spaces(method: str, pretext: str, by_slot: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Feature spaces that are asked for, but that the pretext does not leave behind."""
    stage = stages(method, pretext).get("pretext")
    spaces: tuple[str, ...] = getattr(stage, "SPACES", ())
    for slot, name in (("neighbors", "mining_space"), ("kmeans", "feature_space")):
        wanted = getattr(by_slot.get(slot), name, "auto")
        if stage is not None and wanted not in ("auto", *spaces):
            yield (
                f"{slot}.{name}",
                f"{slot}.{name} is {wanted}, but the pretext {name_of(stage)} leaves features of "
                f"{' and '.join(spaces)}; write auto",
            )
