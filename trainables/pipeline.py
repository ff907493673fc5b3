"""What a method is: its stages in order, and their slots.

Adding a method is one stage file and one line in ``METHODS``; what the file says of itself is read by ``registry``.
A stage's slot is its ``NAMESPACE``: settings and metrics carry it as a prefix, and a stage that may stand in the slot
"pretext" can be swapped by ``pretext: NAME``. Any method can end with probes (``probes: [linear_probe]``), which judge
the last backbone with labels.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from . import registry, settings

if TYPE_CHECKING:  # it loads torch, which names and stages need, but no list of them
    from .interfaces import DataShape, Stage

METHODS: Mapping[str, tuple[str, ...]] = {
    "cc": ("cc",),
    "dccm": ("dccm",),
    "kmeans": ("simclr", "kmeans"),
    # k-means is their baseline: what the later stages add to it is read off every trial.
    "scan": ("simclr", "neighbors", "kmeans", "scan", "selflabel"),
    "scan_loss": ("simclr", "neighbors", "kmeans", "scan"),  # SCAN without self-labeling
    "spc": ("simclr", "neighbors", "kmeans", "scan", "spc"),
    "deepcluster": ("deepcluster",),
    "uad": ("uad",),
    "dec": ("autoencoder", "dec"),
    "swav": ("swav",),
    "simgcd": ("simclr", "simgcd"),
}


UNTIL = " until "
"""In the name of a method that ends earlier: "scan until scan" leaves out what comes after the slot "scan"."""


def stage_names(method: str) -> tuple[str, ...]:
    """The names of a method's stages, in order.

    Raises:
        KeyError: there is no such method, or it has no slot of that name to end with.
    """
    whole, _, until = method.partition(UNTIL)
    names = METHODS[whole]
    if not until:
        return names
    slots = [registry.slot_of(name) for name in names]
    if until not in slots:
        raise KeyError(method)
    return names[: slots.index(until) + 1]


def is_method(method: str) -> bool:
    """Whether there is a method of this name, whole or ended earlier."""
    try:
        return bool(stage_names(method))
    except KeyError:
        return False


def whole(method: str) -> str:
    """The method of which this is a part, or itself."""
    return method.partition(UNTIL)[0]


def ended(method: str, until: str) -> str:
    """The name of a whole method that ends with the slot ``until``; its own name if that is its last one.

    Raises:
        KeyError: as ``stage_names``.
    """
    name = f"{method}{UNTIL}{until}"
    return method if stage_names(name) == METHODS[method] else name


def load(name: str) -> "Stage":
    """The stage module ``trainables.stages.<name>``.

    Raises:
        BrokenStage: it breaks the contract, or there is no such file.
    """
    return registry.load(name)  # type: ignore[return-value]


def name_of(stage: "Stage") -> str:
    """The file name of a stage: what ``load`` takes."""
    return str(stage.__name__).rpartition(".")[2]  # type: ignore[attr-defined]


def is_probe(stage: "Stage") -> bool:
    """Whether a stage judges the features of the one before it with labels."""
    return registry.PROBED in stage.INPUTS


def smoke_settings(stage: "Stage") -> "Mapping[str, settings.Plain]":
    """A stage's own settings for after very few epochs. Most need none, so a stage may leave the name SMOKE out."""
    values: Mapping[str, settings.Plain] = getattr(stage, "SMOKE", {})
    return values


def trains_on_labels(method: str) -> bool:
    """Whether a method by definition trains on the labels of some images; its plans and reports say so.

    Raises:
        KeyError: there is no such method.
    """
    return any(map(registry.trains_on_labels, stage_names(method)))


def stages(method: str, pretext: str = "", probes: Sequence[str] = ()) -> "dict[str, Stage]":
    """Slot -> stage of a method, in the order in which they run. ``pretext`` swaps the stage of that slot.

    Raises:
        KeyError: there is no such method.
    """
    by_slot = {}
    for name in stage_names(method):
        stage = load(name)
        by_slot[stage.NAMESPACE] = load(pretext) if pretext and stage.NAMESPACE == "pretext" else stage
    return by_slot | {stage.NAMESPACE: stage for stage in map(load, probes)}


def inputs(by_slot: "Mapping[str, Stage]", slot: str) -> dict[str, str]:
    """Name of an input -> the slot it comes from, for one stage of a pipeline.

    Raises:
        LookupError: a probe, and no stage before it leaves a backbone.
    """
    if not is_probe(by_slot[slot]):
        return {name: name for name in by_slot[slot].INPUTS}
    with_backbone = [other for other, stage in by_slot.items() if "backbone" in stage.WEIGHTS and not is_probe(stage)]
    if not with_backbone:
        raise LookupError(f"no stage of this pipeline leaves a backbone for {slot} to judge")
    return {registry.PROBED: with_backbone[-1]}


def configs(
    method: str, pretext: str, changes: Mapping[str, settings.Plain], probes: Sequence[str] = ()
) -> dict[str, Any]:
    """Slot -> Config with ``changes`` (full names, "spc.strong_threshold", "scan.an.top_k") over the defaults.

    Raises:
        SettingsError: a value breaks its rule. TypeError: a stage has no such setting. KeyError: there is no such slot.
    """
    by_slot = stages(method, pretext, probes)
    values: dict[str, dict[str, settings.Plain]] = {slot: {} for slot in by_slot}
    for key, value in changes.items():
        slot, _, name = key.partition(".")
        values[slot][name] = value
    if {"kmeans", "scan"} <= set(by_slot) and not values["kmeans"].get("num_clusters"):
        # The baseline of a clustering has as many clusters, unless the study says otherwise.
        values["kmeans"]["num_clusters"] = values["scan"].get("num_clusters", 0)
    return {slot: settings.build(stage.Config, values[slot]) for slot, stage in by_slot.items()}


def limits(
    method: str,
    pretext: str,
    by_slot: Mapping[str, Any],
    shape: "DataShape",
    probes: Sequence[str] = (),
    probe_shape: "DataShape | None" = None,
) -> Iterator[tuple[str, str]]:
    """(full setting name, sentence) for everything that this data set, or another stage's setting, forbids.

    probe_shape: of the data set that the probes learn and judge on, where it is another one.
    """
    is_scan_s = "scan" in by_slot and by_slot.get("kmeans") is not None
    is_scan_s = is_scan_s and by_slot["kmeans"].num_clusters in (0, by_slot["scan"].num_clusters)
    for slot, stage in stages(method, pretext, probes).items():
        if slot == "kmeans" and is_scan_s:
            continue  # its one setting that could be too large is SCAN's, see ``configs``
        met = probe_shape if probe_shape is not None and is_probe(stage) else shape
        for name, sentence in stage.limits(by_slot[slot], met):
            yield f"{slot}.{name}", sentence
        for name, sentence in getattr(stage, "limits_with", _no_limits)(by_slot[slot], by_slot, met):
            yield f"{slot}.{name}", sentence
        yield from _unknown_numbers(slot, by_slot[slot], shape)
    yield from _missing_spaces(method, pretext, by_slot, shape)
    yield from _lost_sobel(method, pretext, by_slot)
    if "neighbors" in by_slot and "scan" in by_slot:
        mined, wanted = by_slot["neighbors"].num_neighbors, by_slot["scan"].num_neighbors
        if wanted > mined:
            yield (
                "scan.num_neighbors",
                f"scan.num_neighbors is {wanted}, but only {mined} are mined; raise neighbors.num_neighbors",
            )


def _no_limits(config: Any, others: Mapping[str, Any], shape: "DataShape") -> Iterator[tuple[str, str]]:
    yield from ()


def _unknown_numbers(slot: str, config: Any, shape: "DataShape") -> Iterator[tuple[str, str]]:
    """Numbers of clusters that are to be as many as there are classes, where that is no number to cluster by."""
    counted = settings.active(config)
    for name in ("num_clusters", "final_clusters"):
        if name not in counted or getattr(config, name) != 0:
            continue
        if shape.num_classes == 0:
            yield (
                f"{slot}.{name}",
                f"{slot}.{name} is 0, as many as there are classes, but the data set has no labels; set a number",
            )
        elif shape.num_classes > shape.num_train:
            yield (
                f"{slot}.{name}",
                f"{slot}.{name} is 0, as many as the {shape.num_classes} classes, but there are only {shape.num_train} "
                "training images; set a number, or take more images",
            )


def _missing_spaces(
    method: str, pretext: str, by_slot: Mapping[str, Any], shape: "DataShape"
) -> Iterator[tuple[str, str]]:
    """Feature spaces that are asked for, but that the pretext does not leave behind."""
    stage = stages(method, pretext).get("pretext")
    spaces: tuple[str, ...] = getattr(stage, "SPACES", ())
    of_settings = getattr(stage, "spaces", None)
    if of_settings is not None:
        spaces = of_settings(by_slot["pretext"], shape)
    for slot, name in (("neighbors", "mining_space"), ("kmeans", "feature_space")):
        wanted = getattr(by_slot.get(slot), name, "auto")
        if stage is not None and wanted not in ("auto", *spaces):
            yield (
                f"{slot}.{name}",
                f"{slot}.{name} is {wanted}, but the pretext {name_of(stage)} leaves features of "
                f"{' and '.join(spaces)}; write auto",
            )


def _lost_sobel(method: str, pretext: str, by_slot: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """A pretext behind a Sobel filter, and a later stage that goes on training its network without one."""
    if not getattr(by_slot.get("pretext"), "sobel", False):
        return
    for slot, stage in stages(method, pretext).items():
        if "pretext" in stage.INPUTS and "backbone" in stage.WEIGHTS:
            yield (
                "pretext.sobel",
                f"pretext.sobel is true, but {slot} trains the network on colors; write false, or take method: kmeans,"
                " which clusters its features",
            )
