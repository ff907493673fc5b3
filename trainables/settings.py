"""Settings that know their own rules: default, range, unit, meaning, symbol, and when they count at all.

A stage's ``Config`` is a frozen dataclass whose fields come from ``setting``; its ``__post_init__`` calls ``check``.
The driver reads the same rules to judge a study file before anything starts, so a rule is written once.
"""

import dataclasses
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin

Plain = bool | int | float | str


@dataclass(frozen=True)
class Rule:
    """What a setting may be. ``low``/``high`` are allowed values, ``above``/``below`` are not."""

    meaning: str
    low: float | None = None
    high: float | None = None
    above: float | None = None
    below: float | None = None
    choices: tuple[Plain, ...] = ()
    unit: str = ""
    symbol: str = ""
    when: Mapping[str, tuple[Plain, ...]] = dataclasses.field(default_factory=dict)
    """The setting counts only while each named setting of the same Config has one of these values."""
    oracle: tuple[Plain, ...] = ()
    """Values with which the stage trains on labels; a study must say ``oracle: true`` for them."""
    place: bool = False
    """It says where something is, not what it is, and so has no part in a result's address."""

    def words(self) -> str:
        """The rule as it stands in an error text: 'at least 0 and below 1'."""
        if self.choices:
            return "one of " + ", ".join(map(str, self.choices))
        limits = [("at least", self.low), ("above", self.above), ("at most", self.high), ("below", self.below)]
        return " and ".join(f"{word} {limit:g}" for word, limit in limits if limit is not None) or "finite"

    def admits(self, value: Any) -> bool:
        if self.choices:
            return any(value == choice and type(value) is type(choice) for choice in self.choices)
        if not isinstance(value, int | float) or isinstance(value, bool):
            return True
        return (
            math.isfinite(value)
            and (self.low is None or value >= self.low)
            and (self.high is None or value <= self.high)
            and (self.above is None or value > self.above)
            and (self.below is None or value < self.below)
        )


class SettingsError(ValueError):
    """Every bad setting of one Config, as (name, sentence)."""

    def __init__(self, faults: list[tuple[str, str]]) -> None:
        self.faults = faults
        super().__init__("\n".join(sentence for _, sentence in faults))


def setting(default: Plain, meaning: str, **rule: Any) -> Any:
    """A dataclass field with its rule: keyword arguments are Rule's fields, a Literal annotation gives the choices."""
    return dataclasses.field(default=default, metadata={"rule": Rule(meaning, **rule)})


def rules(config: type[Any]) -> dict[str, Rule]:
    """The rule of every setting of a Config class, in the order in which they are declared."""
    return {field.name: _rule(field) for field in dataclasses.fields(config)}


def _rule(field: dataclasses.Field[Any]) -> Rule:
    """The field's rule; a Literal that it is declared as gives the choices."""
    rule: Rule = field.metadata["rule"]
    return dataclasses.replace(rule, choices=get_args(field.type)) if get_origin(field.type) is Literal else rule


def kind_of(config: type[Any], name: str) -> type[Plain]:
    """The declared type of a setting: bool, int, float or str; of a Literal that of its values."""
    kinds = {field.name: field.type for field in dataclasses.fields(config)}
    kind = kinds[name]
    if get_origin(kind) is Literal:
        kind = type(get_args(kind)[0])
    assert kind in (bool, int, float, str), f"{config.__qualname__}.{name} is declared as {kind}"
    return kind


_KIND_WORDS = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}


def fault(config: type[Any], name: str, value: Any, shown: str = "") -> str | None:
    """Why ``value`` cannot be the setting ``name``, as one sentence with rule, value and meaning; None if it can.

    ``shown`` replaces the name in the sentence (a study file says ``spc.strong_threshold``).
    """
    kind, rule, shown = kind_of(config, name), rules(config)[name], shown or name
    right = isinstance(value, kind) or (kind is float and isinstance(value, int))
    if isinstance(value, bool) and kind is not bool:
        right = False
    if right and rule.admits(value):
        return None
    limits = "" if kind in (bool, str) else f", {rule.words()}"
    wanted = rule.words() if right or rule.choices else f"{_KIND_WORDS[kind]}{limits}"
    return f"{shown} must be {wanted}, but is {value!r}. It is: {rule.meaning}"


def check(config: Any) -> None:
    """Refuse every bad value of a Config at once; whole numbers become floats where a float is declared.

    Raises:
        SettingsError: at least one setting breaks its rule.
    """
    faults = []
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        sentence = fault(type(config), field.name, value)
        if sentence:
            faults.append((field.name, sentence))
        elif field.type is float:
            object.__setattr__(config, field.name, float(value))
    if faults:
        raise SettingsError(faults)


def active(config: Any) -> Iterator[str]:
    """Names of the settings that count, given the values of the others."""
    for name, rule in rules(type(config)).items():
        if all(getattr(config, other) in values for other, values in rule.when.items()):
            yield name


def effective(config: Any) -> dict[str, Plain]:
    """The settings that count and name no place: what decides a stage's result, and so its address."""
    places = {name for name, rule in rules(type(config)).items() if rule.place}
    return {name: getattr(config, name) for name in active(config) if name not in places}
