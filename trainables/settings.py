"""Settings that know their own rules: default, range, unit, meaning, symbol, and when they count at all.

A stage's ``Config`` is a frozen dataclass whose fields come from ``setting`` or ``group``; its ``__post_init__`` calls
``check``. A group is a Config of its own, which several stages may have (``an: AnConfig = group(AnConfig)``). All that
asks for a setting by name takes the dotted one, "an.top_k", and gives settings in the order of their declaration.
The driver reads the same rules to judge a study file before anything starts, so a rule is written once.
"""

import dataclasses
import math
import operator
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, get_args, get_origin

Plain = bool | int | float | str
Conditions = Mapping[str, tuple[Plain, ...]]
C = TypeVar("C")


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
    when: Conditions = dataclasses.field(default_factory=dict)
    """The setting counts only while each named setting has one of these values.

    In a group a name means a setting of the group, or else one of the Config around it; ``rules`` writes it out.
    """
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


def group(config: type[C], *, when: Conditions | None = None, **changes: Any) -> C:
    """A dataclass field that holds a group of settings.

    Args:
        config: the group's class: a frozen dataclass as a Config is, which calls ``check`` too.
        when: all of the group counts only while these settings of the Config around it have one of these values.
        changes: settings of the group that are something else here: another default, or a ``setting`` with a meaning
            and limits of its own. Their conditions stay those of the group.

    Raises:
        SettingsError: a default breaks its rule. TypeError: it is no setting of the group.
    """
    defaults: dict[str, Any] = {}
    own_rules: dict[str, Rule] = {}
    for name, change in changes.items():
        is_setting = isinstance(change, dataclasses.Field)
        defaults[name] = change.default if is_setting else change
        own_rules |= {name: change.metadata["rule"]} if is_setting else {}
    metadata = {"group": config, "when": when or {}, "rules": own_rules}
    return dataclasses.field(default=build(config, defaults), metadata=metadata)


@dataclass(frozen=True)
class _Declared:
    kind: type[Plain]
    rule: Rule


_KNOWN: dict[type[Any], dict[str, _Declared]] = {}


def _declared(config: type[Any]) -> Mapping[str, _Declared]:
    """Every setting by its dotted name, with conditions in dotted names too; a class is read once."""
    if config not in _KNOWN:
        _KNOWN[config] = _read(config)
    return _KNOWN[config]


def _read(config: type[Any]) -> dict[str, _Declared]:
    raw = list(_walk(config))
    known = {name for name, *_ in raw}
    found = {}
    for name, kind, rule, conditions in raw:
        if get_origin(kind) is Literal:
            choices = get_args(kind)
            kind, rule = type(choices[0]), dataclasses.replace(rule, choices=choices)
        assert kind in (bool, int, float, str), f"{config.__qualname__}.{name} is declared as {kind}"
        when = {_looked_up(other, scope, known): values for scope, each in conditions for other, values in each.items()}
        found[name] = _Declared(kind, dataclasses.replace(rule, when=when))
    return found


_Scoped = list[tuple[str, Conditions]]
"""(scope that the conditions are written in, conditions)."""


def _walk(config: type[Any], scope: str = "") -> Iterator[tuple[str, Any, Rule, _Scoped]]:
    """(dotted name, declared type, rule, conditions) of every setting; scope: "an." within the group ``an``."""
    for field in dataclasses.fields(config):
        name = f"{scope}{field.name}"
        if "group" not in field.metadata:
            yield name, field.type, field.metadata["rule"], [(scope, field.metadata["rule"].when)]
            continue
        around, own_rules = (scope, field.metadata["when"]), field.metadata["rules"]
        for inner, kind, rule, conditions in _walk(field.metadata["group"], f"{name}."):
            here = dataclasses.replace(own_rules.get(inner.removeprefix(f"{name}."), rule), when=rule.when)
            yield inner, kind, here, [around, *conditions]


def _looked_up(other: str, scope: str, known: set[str]) -> str:
    """The dotted name of a setting that a condition names, in the innermost group that has it."""
    while scope and f"{scope}{other}" not in known:
        scope = scope[: scope.rstrip(".").rfind(".") + 1]
    return f"{scope}{other}"


def rules(config: type[Any]) -> dict[str, Rule]:
    """The rule of every setting of a Config class by its dotted name, in the order in which they are declared."""
    return {name: each.rule for name, each in _declared(config).items()}


def kind_of(config: type[Any], name: str) -> type[Plain]:
    """The declared type of a setting: bool, int, float or str; of a Literal that of its values."""
    return _declared(config)[name].kind


def groups(config: type[Any]) -> dict[str, type[Any]]:
    """The class of every group of a Config class by its dotted name."""
    found = {}
    for field in dataclasses.fields(config):
        if own := field.metadata.get("group"):
            found[field.name] = own
            found |= {f"{field.name}.{name}": inner for name, inner in groups(own).items()}
    return found


def value(config: Any, name: str) -> Plain:
    """The value of a setting by its dotted name."""
    plain: Plain = operator.attrgetter(name)(config)
    return plain


def values(config: Any) -> dict[str, Plain]:
    """Every setting of a Config by its dotted name."""
    return {name: value(config, name) for name in _declared(type(config))}


def defaults(config: type[Any]) -> dict[str, Plain]:
    """The default of every setting of a Config class by its dotted name."""
    return values(config())


def build(config: type[C], given: Mapping[str, Plain]) -> C:
    """A Config with ``given`` (by dotted name) over the defaults.

    Raises:
        SettingsError: a value breaks its rule, or some do not go together. TypeError: a name is no setting.
    """
    known = _declared(config)
    if unknown := [name for name in given if name not in known]:
        raise TypeError(f"{config.__qualname__} has no setting {', '.join(unknown)}")
    sentences = {name: fault(config, name, given[name]) for name in known if name in given}
    if faults := [(name, sentence) for name, sentence in sentences.items() if sentence]:
        raise SettingsError(faults)
    return config(**_fields(config, given))


def _fields(config: type[Any], given: Mapping[str, Plain]) -> dict[str, Any]:
    """What ``given`` makes of a Config's fields; a group keeps the defaults that it has in this Config."""
    fields: dict[str, Any] = {}
    for name, each in given.items():
        own, _, inner = name.partition(".")
        fields.setdefault(own, {})[inner] = each
    made, faults = {}, []
    for field in dataclasses.fields(config):
        if field.name not in fields:
            continue
        if "group" not in field.metadata:
            made[field.name] = fields[field.name][""]
            continue
        try:
            made[field.name] = replaced(field.default, fields[field.name])
        except SettingsError as error:
            faults += [(f"{field.name}.{name}", sentence) for name, sentence in error.faults]
    if faults:
        raise SettingsError(faults)
    return made


def replaced(config: C, changes: Mapping[str, Plain]) -> C:
    """A Config with some settings changed (by dotted name).

    Raises:
        As ``build``.
    """
    return build(type(config), {**values(config), **changes})


_KIND_WORDS = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}


def fault(config: type[Any], name: str, value: Any, shown: str = "") -> str | None:
    """Why ``value`` cannot be the setting ``name``, as one sentence with rule, value and meaning; None if it can.

    ``shown`` replaces the name in the sentence (a study file says ``spc.strong_threshold``).
    """
    declared, shown = _declared(config)[name], shown or name
    kind, rule = declared.kind, declared.rule
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
        SettingsError: at least one setting breaks its rule, or a group is of another class than declared.
    """
    own = type(config)
    fields = {field.name: field.metadata.get("group") for field in dataclasses.fields(config)}
    for name, wanted in fields.items():
        if wanted is not None and not isinstance(getattr(config, name), wanted):
            sentence = f"{name} must be {wanted.__qualname__}(...), but is {getattr(config, name)!r}."
            raise SettingsError([(name, sentence)])
    sentences = {name: fault(own, name, each) for name, each in values(config).items()}
    if faults := [(name, sentence) for name, sentence in sentences.items() if sentence]:
        raise SettingsError(faults)
    for name, wanted in fields.items():
        if wanted is None and kind_of(own, name) is float:
            object.__setattr__(config, name, float(getattr(config, name)))


def active(config: Any) -> Iterator[str]:
    """Names of the settings that count, given the values of the others."""
    for name, rule in rules(type(config)).items():
        if all(value(config, other) in wanted for other, wanted in rule.when.items()):
            yield name


def effective(config: Any) -> dict[str, Plain]:
    """The settings that count and name no place: what decides a stage's result, and so its address."""
    known = rules(type(config))
    return {name: value(config, name) for name in active(config) if not known[name].place}
