"""Whether the settings that a study names exist, can have the values they get, and ever count."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from trainables import settings
from trainables.settings import Plain

from .errors import did_you_mean

if TYPE_CHECKING:  # a report reads settings back without loading torch
    from trainables.interfaces import Stage

Stages = Mapping[str, "Stage"]
"""Slot -> stage, in the order in which they run."""


class Values(Protocol):
    """The part of a domain that this module needs (see ``domains``)."""

    @property
    def extremes(self) -> tuple[Plain, ...]: ...

    def may_be(self, wanted: Sequence[Plain]) -> bool: ...


def names(stages: Stages) -> list[str]:
    """Full names of all settings of a pipeline, in order."""
    return [f"{slot}.{name}" for slot, stage in stages.items() for name in settings.rules(stage.Config)]


def config_of(stages: Stages, full_name: str) -> type[Any]:
    """The Config class that owns a known setting."""
    return stages[full_name.partition(".")[0]].Config


def default(stages: Stages, full_name: str) -> Plain:
    """The default of a known setting."""
    return settings.defaults(config_of(stages, full_name))[full_name.partition(".")[2]]


def unknown(stages: Stages, name: str, method: str) -> str | None:
    """Say why ``name`` is not a setting of the pipeline.

    Args:
        name: as written in a study file.
        method: the pipeline's method, for the sentence.

    Returns:
        A sentence that names the nearest setting; None if the setting exists.
    """
    known = names(stages)
    if name in known:
        return None
    owners = [full for full in known if full.endswith(f".{name}")]
    if len(owners) == 1:
        return f"{name} lacks its stage. Write '{owners[0]}'."
    if owners:
        return f"{name} lacks its stage, and several have it. Write one of {', '.join(owners)}."
    slot, _, rest = name.partition(".")
    in_slot = [full for full in known if full.startswith(f"{slot}.")]
    if rest and (inside := [full for full in in_slot if full.startswith(f"{name}.")]):
        return f"{name} is a group of settings. Write one of {', '.join(inside)}."
    places = [full for full in in_slot if _same_setting(full, name)]
    if len(places) == 1:
        return f"{name} is not a setting of '{method}'. Write '{places[0]}'."
    if places:
        return f"{name} is not a setting of '{method}'. Write one of {', '.join(places)}."
    return f"{name} is not a setting of '{method}'. {did_you_mean(name, in_slot if in_slot and rest else known)}"


def _same_setting(full_name: str, name: str) -> bool:
    """Whether ``name`` is ``full_name`` without its group, or with another: an_top_k or top_k for an.top_k."""
    same_words = full_name.replace(".", "_") == name.replace(".", "_")
    return same_words or full_name.rpartition(".")[2] == name.rpartition(".")[2]


def value_error(config: type[Any], name: str, value: Any, shown: str) -> str | None:
    """Say why a setting cannot have a value.

    Args:
        config: the Config class that owns the setting.
        name: the field of ``config``.
        value: as written in a study file.
        shown: what the sentence calls the setting.

    Returns:
        A sentence with the rule, the value and the way out; None if the value is allowed.
    """
    if isinstance(value, list | dict) or value is None:
        given = "has no value" if value is None else f"is {value!r}"
        return f"{shown} takes one value, but {given}. Several values belong under search."
    sentence = (settings.fault(config, name, value, shown) or "").rstrip(".")
    if sentence and _looks_like_percent(config, name, value):
        return f"{sentence}. It looks like percent; as a share write {value / 100:g}."
    meant = _number_meant(config, name, value) if sentence else None
    if meant is not None:
        return f"{sentence}. Write {meant}."
    return f"{sentence}." if sentence else None


def _number_meant(config: type[Any], name: str, value: Any) -> int | float | None:
    """The number that a text ('20', '1_000') or a float (1e2) stands for, if the setting may be that number."""
    kind = settings.kind_of(config, name)
    if kind not in (int, float) or isinstance(value, bool):
        return None
    try:
        number = float(str(value).replace("_", ""))
    except ValueError:
        return None
    if not math.isfinite(number) or kind is int and not number.is_integer():
        return None
    meant = int(number) if kind is int else number
    return meant if settings.rules(config)[name].admits(meant) else None


def _looks_like_percent(config: type[Any], name: str, value: Any) -> bool:
    rule = settings.rules(config)[name]
    top = min(bound for bound in (rule.high, rule.below, math.inf) if bound is not None)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and top <= 1 < value <= 100 and rule.admits(value / 100)


@dataclass(frozen=True)
class Given:
    """The values that a study gives to the settings of one pipeline.

    Attributes:
        fixed: full name -> value.
        search: full name -> domain of a swept setting. Every other setting has its default.
    """

    stages: Stages
    fixed: Mapping[str, Plain]
    search: Mapping[str, Values]

    def default(self, full_name: str) -> Plain:
        """The default of a setting, as its stage's Config has it."""
        return default(self.stages, full_name)

    def obstacle(self, full_name: str) -> str | None:
        """Say why a setting has no effect, whatever values are searched.

        Returns:
            A sentence that names the condition which is never met; None if the setting can have an effect.
        """
        slot, _, name = full_name.partition(".")
        for other, wanted in settings.rules(self.stages[slot].Config)[name].when.items():
            condition = f"{slot}.{other}"
            if condition in self.search:
                is_met, given = self.search[condition].may_be(wanted), "no searched value is"
            else:
                value = self.fixed.get(condition, self.default(condition))
                is_met = value in wanted
                given = f"it is {value!r}" + ("" if condition in self.fixed else " by default")
            if not is_met:
                needed = " or ".join(map(repr, wanted))
                return (
                    f"{full_name} counts only while {condition} is {needed}, but {given}. "
                    f"Set {condition}, or take {full_name} out."
                )
        return None

    def counting(self) -> Iterator[str]:
        """Full names of the settings that can have an effect."""
        return (name for name in names(self.stages) if self.obstacle(name) is None)


def build(stages: Stages, values: Mapping[str, Plain]) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """Build the Configs of a pipeline.

    Args:
        values: full name -> value; every other setting has its default.

    Returns:
        Slot -> Config without those that refuse their values, and what they refuse as (full name, sentence).
    """
    configs, refused = {}, []
    for slot, stage in stages.items():
        fields = {name.partition(".")[2]: value for name, value in values.items() if name.startswith(f"{slot}.")}
        try:
            configs[slot] = settings.build(stage.Config, fields)
        except settings.SettingsError as refusal:
            refused += [(f"{slot}.{name}", sentence) for name, sentence in refusal.faults]
    return configs, refused


def extremes(search: Mapping[str, Values], rows: Sequence[Mapping[str, Plain]]) -> Iterator[dict[str, Plain]]:
    """The changes at which a study is checked; each of them is a configuration that can really be run.

    Args:
        search: full name -> domain.
        rows: the changes of each row of an ablation.

    Yields:
        The rows if there are any. Otherwise every end or option of each domain with the others at their first value,
        and all domains at their last value.
    """
    if rows:
        yield from map(dict, rows)
        return
    first = {name: domain.extremes[0] for name, domain in search.items()}
    yield first
    for name, domain in search.items():
        yield from (first | {name: value} for value in domain.extremes[1:])
    if len(search) > 1:
        yield {name: domain.extremes[-1] for name, domain in search.items()}


def shared_prefix(stages: Stages, touched: Iterable[str]) -> tuple[str, ...]:
    """The longest run of stages from the start that no changed setting belongs to.

    Args:
        touched: full names of the settings that trials change.

    Returns:
        Slots, in order. Everything after the first touched stage is left out, so no stage that reads a touched one is
        among them.
    """
    slots = {name.partition(".")[0] for name in touched}
    shared: list[str] = []
    for slot in stages:
        if slot in slots:
            break
        shared.append(slot)
    return tuple(shared)
