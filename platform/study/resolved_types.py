"""The type of a resolved study, as the ledger keeps it. Loads no stage, so that a report can use it without torch."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NotRequired, TypedDict

from trainables.settings import Plain

Mode = Literal["min", "max"]


class ObjectiveFields(TypedDict):
    """metric: "<slot>/<name>"; mode: which end of its values is good."""

    metric: str
    mode: Mode


class Stopping(TypedDict, total=False):
    """What stops trials or the launch, as far as a study says anything of it. time_limit: seconds."""

    scheduler: Mapping[str, Any]
    guard: Mapping[str, Any]
    max_failures: int
    time_limit: float


class Resolved(Stopping):
    """A study with every default written out, fit for JSON and YAML; ``resolved.resolved`` makes it.

    pretext: the stage in the slot of that name, "" where the method has none.
    seeds: as ``seeds.expanded`` reads them. fixed: full setting name -> value, for all that counts and is not swept.
    grid, search: full setting name -> its domain, as ``Domain.as_dict`` writes it. start: configurations to begin with.
    ablate: name of the row -> what it changes, and its "published" values.
    objective: one, or a list of several, of which the first one ranks; see ``objectives_of``.
    """

    name: str
    question: str
    method: str
    pretext: str
    preset: NotRequired[str]
    probes: Sequence[str]
    dataset: Mapping[str, Any]
    probe_dataset: NotRequired[Mapping[str, Any]]
    seeds: list[int] | dict[str, list[int]]
    fixed: Mapping[str, Plain]
    grid: NotRequired[Mapping[str, Mapping[str, Any]]]
    search: Mapping[str, Mapping[str, Any]]
    start: NotRequired[Sequence[Mapping[str, Plain]]]
    ablate: Mapping[str, Mapping[str, Any]]
    sampler: Mapping[str, Any]
    trials: int
    objective: ObjectiveFields | list[ObjectiveFields]
    oracle: bool
    resources: Mapping[str, Mapping[str, float]]
    tracking: Mapping[str, str]
    retries: int
    published: Mapping[str, Any]


def selection_split(resolved: Mapping[str, Any]) -> str:
    """By which images configurations are chosen: "train", "eval", or "" where the objective's stage says nothing.

    Args:
        resolved: a Resolved, or what has its ``objective`` and ``fixed``.
    """
    written = resolved["objective"]
    metric = (written[0] if isinstance(written, list) else written)["metric"]
    slot = metric.partition("/")[0] if "/" in metric else ""
    names = [name for name in resolved.get("fixed", {}) if name.endswith(".selection_split")]
    splits = {str(resolved["fixed"][name]) for name in names if not slot or name == f"{slot}.selection_split"}
    return " and ".join(sorted(splits))


def objectives_of(resolved: Resolved) -> list[ObjectiveFields]:
    """The objectives of a study, of which the first one ranks."""
    written = resolved["objective"]
    return written if isinstance(written, list) else [written]
