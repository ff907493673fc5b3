"""The domain of a swept setting: a choice of values, or a range. It is counted and indexed, and never expanded."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Protocol

from trainables import settings
from trainables.settings import Plain

from .errors import StudyError, did_you_mean
from .hyperparameters import value_error
from .yaml_reader import Document, Where

_RANGES = ("uniform", "loguniform", "int")
_OPTIONS: Mapping[str, tuple[str, ...]] = {
    "choice": (),
    "uniform": ("step",),
    "loguniform": (),
    "int": ("step", "log"),
    "min": ("max", "step", "log"),
}
_FORMS = "choice: [...], uniform: [low, high], loguniform: [low, high], int: [low, high] or min: low, max: high"


class Suggests(Protocol):
    """The part of an Optuna trial that a domain needs."""

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any: ...

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float: ...

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int: ...


@dataclass(frozen=True)
class Choice:
    """One of some values of the setting ``name`` (full name)."""

    name: str
    options: tuple[Plain, ...]

    @property
    def size(self) -> int:
        return len(self.options)

    @property
    def extremes(self) -> tuple[Plain, ...]:
        """The values to check when asking whether a data set can carry the study: all of them."""
        return self.options

    def value_at(self, index: int) -> Plain:
        """The option at an index from 0.

        Raises:
            IndexError: the index is outside the domain.
        """
        return self.options[_within(self, index)]

    def may_be(self, wanted: Sequence[Plain]) -> bool:
        """Whether one of the options is in ``wanted``."""
        return any(option in wanted for option in self.options)

    def holds(self, value: Plain) -> bool:
        """Whether ``value`` is an option of the same type: True is not 1."""
        return any(value == option and type(value) is type(option) for option in self.options)

    def at(self, unit: float) -> Plain:
        """The option at a position in [0, 1), of which each option owns an equal part."""
        return self.options[min(int(unit * self.size), self.size - 1)]

    def place_of(self, value: Plain) -> float:
        """The inverse of ``at``: the middle of the part of [0, 1) that ``value`` owns.

        Raises:
            ValueError: ``value`` is not an option.
        """
        return (self.options.index(value) + 0.5) / self.size

    def suggest(self, trial: Suggests) -> Plain:
        """A value asked from an Optuna trial, under the setting's name."""
        value: Plain = trial.suggest_categorical(self.name, self.options)
        return value

    def as_dict(self) -> dict[str, Any]:
        """As a study file has it."""
        return {"choice": list(self.options)}


@dataclass(frozen=True)
class Range:
    """Numbers from ``low`` to ``high``, both included, of the setting ``name`` (full name).

    Attributes:
        whole: only whole numbers.
        log: drawn evenly on a logarithmic scale.
        step: distance between neighboring values, counted from ``low``; (high - low) is a multiple of it. None makes
            the range continuous; for whole numbers it means 1.
    """

    name: str
    low: float
    high: float
    whole: bool = False
    log: bool = False
    step: float | None = None

    @property
    def size(self) -> int | None:
        """How many values there are; None if it is continuous."""
        if not self.whole and self.step is None:
            return None
        return int((_exact(self.high) - _exact(self.low)) / self._stride) + 1

    @property
    def extremes(self) -> tuple[Plain, ...]:
        """Both ends."""
        return (self.low, self.high)

    @property
    def _stride(self) -> Decimal:
        return _exact(1 if self.step is None else self.step)

    def value_at(self, index: int) -> Plain:
        """The value at an index from 0, in ascending order.

        Raises:
            IndexError: the index is outside the domain.
            ValueError: the range is continuous.
        """
        value = _exact(self.low) + _within(self, index) * self._stride
        return int(value) if self.whole else float(value)

    def may_be(self, wanted: Sequence[Plain]) -> bool:
        """Whether any of ``wanted`` lies between the ends."""
        return any(isinstance(value, int | float) and self.low <= value <= self.high for value in wanted)

    def holds(self, value: Plain) -> bool:
        """Whether the range contains ``value``; a bool or a text it never contains."""
        if isinstance(value, bool | str) or not self.low <= value <= self.high:
            return False
        return self.size is None or (_exact(value) - _exact(self.low)) % self._stride == 0

    def at(self, unit: float) -> Plain:
        """The value at a position in [0, 1).

        Countable values own equal parts of it; on a logarithmic range each whole number owns what rounds to it.
        """
        if self.size is not None and not self.log:
            return self.value_at(min(int(unit * self.size), self.size - 1))
        if not self.log:
            return self.low + unit * (self.high - self.low)
        # Whole numbers get the part of the logarithm that rounds to them, both ends as wide as the others.
        low, high = (self.low - 0.5, self.high + 0.5) if self.whole else (self.low, self.high)
        value = math.exp(math.log(low) + unit * (math.log(high) - math.log(low)))
        value = min(max(value, self.low), self.high)
        return round(value) if self.whole else value

    def place_of(self, value: float) -> float:
        """The inverse of ``at``: the position of a value in [0, 1]; of a countable value, the middle of its part."""
        if self.size is not None and not self.log:
            return (float((_exact(value) - _exact(self.low)) / self._stride) + 0.5) / self.size
        if not self.log:
            return (value - self.low) / (self.high - self.low)
        low, high = (self.low - 0.5, self.high + 0.5) if self.whole else (self.low, self.high)
        return (math.log(value) - math.log(low)) / (math.log(high) - math.log(low))

    def suggest(self, trial: Suggests) -> Plain:
        """A value asked from an Optuna trial, under the setting's name."""
        if self.whole:
            step = 1 if self.step is None else int(self.step)
            return trial.suggest_int(self.name, int(self.low), int(self.high), step=step, log=self.log)
        value = trial.suggest_float(self.name, self.low, self.high, step=self.step, log=self.log)
        if self.step is None:
            return value
        # Optuna adds steps in binary; the grid's own value has the same address in the store as a grid's trial.
        return self.value_at(round((value - self.low) / self.step))

    def as_dict(self) -> dict[str, Any]:
        """As a study file has it."""
        ends = [self.low, self.high]
        if not self.whole:
            options = {} if self.step is None else {"step": self.step}
            return {"loguniform" if self.log else "uniform": ends, **options}
        written: dict[str, Any] = {"int": ends}
        if self.step is not None:
            written["step"] = self.step
        return written | ({"log": True} if self.log else {})


Domain = Choice | Range


def _exact(number: float) -> Decimal:
    return Decimal(str(number))


def _within(domain: Domain, index: int) -> int:
    if domain.size is None:
        raise ValueError(f"{domain.name} is a continuous range: its values have no index")
    if not 0 <= index < domain.size:
        raise IndexError(f"{domain.name} has {domain.size} values, so there is none at index {index}")
    return index


def grid_size(domains: Mapping[str, Domain]) -> int | None:
    """Number of configurations in the full grid over ``domains``; None if one of them is continuous."""
    sizes = [domain.size for domain in domains.values()]
    return None if None in sizes else math.prod(size for size in sizes if size is not None)


def grid_setting(domains: Mapping[str, Domain], index: int) -> dict[str, Plain]:
    """One configuration of the full grid.

    Args:
        domains: full name -> domain.
        index: from 0; the last name varies fastest.

    Returns:
        Full name -> value, in the order of ``domains``.

    Raises:
        IndexError: the index is outside the grid.
        ValueError: a domain is continuous.
    """
    size, rest, setting = grid_size(domains), index, {}
    if size is not None and not 0 <= index < size:
        raise IndexError(f"the grid has {size} settings, so there is none at index {index}")
    for name, domain in reversed(list(domains.items())):
        rest, position = divmod(rest, domain.size or 1)
        setting[name] = domain.value_at(position)
    return {name: setting[name] for name in domains}


def read_domain(
    document: Document, where: tuple[str, str], config: type[Any], errors: list[StudyError]
) -> Domain | None:
    """Read the domain of one setting from a study file.

    Args:
        where: (section, full name of a setting that exists).
        config: the Config class that owns the setting.
        errors: what is wrong is added here.

    Returns:
        The domain; None if errors were added.
    """
    section, name = where
    raw, key = document.data[section][name], f"{section}.{name}"
    raw = {"choice": raw} if isinstance(raw, list) else raw
    before = len(errors)
    form = _form(raw)
    if form is None:
        shown = f"is {raw!r}; a single value belongs under fixed" if not isinstance(raw, dict) else "has no domain"
        errors.append(document.error(where, f"{name} {shown}. A domain is one of {_FORMS}.", key=key))
        return None
    for option in raw:
        if option != form and option not in _OPTIONS[form]:
            way_out = _wrong_option(form, option)
            sentence = f"{option} is not part of {form}. {way_out}"
            errors.append(document.error((*where, option), sentence, key=key, at_key=True))
    if form == "choice":
        domain = _choice(document, where, config, errors)
    else:
        domain = _range(document, where, config, form, errors)
    return domain if len(errors) == before else None


def _form(raw: Any) -> str | None:
    if not isinstance(raw, dict):
        return None
    return next((form for form in _OPTIONS if form in raw), None)


def _wrong_option(form: str, option: str) -> str:
    if option == "log" and form == "uniform":
        return "Write loguniform: [low, high]."
    if option == "step" and form == "loguniform":
        return "A logarithmic range has no steps: take the step out, or list the values under choice."
    return did_you_mean(option, _OPTIONS[form]) if _OPTIONS[form] else "Take it out."


def _choice(document: Document, at: tuple[str, str], config: type[Any], errors: list[StudyError]) -> Domain | None:
    section, name = at
    raw = document.data[section][name]
    where: Where = at if isinstance(raw, list) else (*at, "choice")
    listed, key, field = raw if isinstance(raw, list) else raw["choice"], f"{section}.{name}", name.partition(".")[2]
    if not isinstance(listed, list) or not listed:
        sentence = f"choice must be a list of values, but is {listed!r}. Write it as [a, b, c]."
        errors.append(document.error(where, sentence, key=key))
        return None
    options: list[Plain] = []
    for index, value in enumerate(listed):
        sentence_or_none = value_error(config, field, value, name)
        if sentence_or_none:
            errors.append(document.error((*where, index), sentence_or_none, key=key))
            continue
        option = float(value) if settings.kind_of(config, field) is float else value
        if option in options:
            errors.append(document.error((*where, index), f"{name} lists {value!r} twice. Keep one.", key=key))
        options.append(option)
    return Choice(name, tuple(options))


def _range(
    document: Document, where: tuple[str, str], config: type[Any], form: str, errors: list[StudyError]
) -> Domain | None:
    section, name = where
    raw, key, field = document.data[section][name], f"{section}.{name}", name.partition(".")[2]
    kind = settings.kind_of(config, field)
    ends: Any = raw[form]
    places: list[Where] = [(*where, form, 0), (*where, form, 1)]
    if form == "min":
        ends, places = [raw["min"], raw.get("max")], [(*where, "min"), (*where, "max")]
    if not isinstance(ends, list) or len(ends) != 2 or None in ends:
        need = "min needs a max beside it" if form == "min" else f"{form} must be a list of two numbers, low and high"
        given = "has none" if form == "min" else f"is {ends!r}"
        errors.append(document.error(where, f"{need}, but {given}. Write {_example(form)}.", key=key))
        return None
    wrong = _wrong_kind(name, kind, form)
    if wrong:
        errors.append(document.error((*where, form), wrong, key=key, at_key=True))
        return None
    bad = [(place, value_error(config, field, end, name)) for place, end in zip(places, ends, strict=True)]
    errors.extend(document.error(place, sentence, key=key) for place, sentence in bad if sentence)
    if any(sentence for _, sentence in bad):
        return None
    low, high = (ends[0], ends[1]) if kind is int else (float(ends[0]), float(ends[1]))
    log, step = form == "loguniform" or raw.get("log", False), raw.get("step")
    domain = Range(name, low, high, whole=kind is int, log=log, step=step)
    errors.extend(document.error(where, sentence, key=key) for sentence in _range_errors(domain))
    return domain


def _example(form: str) -> str:
    return "{min: low, max: high}" if form == "min" else f"{{{form}: [low, high]}}"


def _wrong_kind(name: str, kind: type[Plain], form: str) -> str | None:
    if kind in (bool, str):
        return f"{name} is {'true or false' if kind is bool else 'text'}, so it has no range. Write choice: [...]."
    if kind is int and form in ("uniform", "loguniform"):
        log = ", log: true" if form == "loguniform" else ""
        return f"{name} is a whole number. Write int: [low, high]{log}."
    if kind is float and form == "int":
        return f"{name} is a number with a fraction. Write uniform: [low, high], with step: 1 for whole steps."
    return None


def _range_errors(domain: Range) -> list[str]:
    name, low, high, log, step = domain.name, domain.low, domain.high, domain.log, domain.step
    if not isinstance(log, bool):
        return [f"log must be true or false, but is {log!r}."]
    if low >= high:
        return [f"{name} needs low below high, but they are {low!r} and {high!r}. A single value belongs under fixed."]
    if log and low <= 0:
        return [f"{name} is logarithmic, so low must be above 0, but is {low!r}."]
    if step is None:
        return []
    if log:
        return [f"{name} has log and step {step!r} together, which no sampler offers. Keep one of them, or use choice."]
    number = isinstance(step, int) if domain.whole else isinstance(step, int | float)
    if isinstance(step, bool) or not number or not math.isfinite(step) or step <= 0:
        wanted = "a whole number" if domain.whole else "a number"
        return [f"step must be {wanted} above 0, but is {step!r}."]
    over = (_exact(high) - _exact(low)) % _exact(step)
    if over:
        last = _exact(high) - over
        return [f"{name} steps by {step!r} from {low!r} and never meets {high!r}. Write {last} as the high end."]
    return []


def read_back(name: str, written: Mapping[str, Any]) -> Domain:
    """Rebuild a domain from what ``Domain.as_dict`` returned.

    Args:
        name: full name of the setting.
    """
    if "choice" in written:
        return Choice(name, tuple(written["choice"]))
    form = next(form for form in ("uniform", "loguniform", "int") if form in written)
    low, high = written[form]
    log = form == "loguniform" or bool(written.get("log"))
    return Range(name, low, high, whole=form == "int", log=log, step=written.get("step"))
