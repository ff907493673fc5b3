"""The shape of a study file: its keys, their types and ranges. What the keys mean together is judged in ``schema``."""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from trainables import seeds
from trainables.seeds import label

from .errors import StudyError, did_you_mean, has_secret
from .yaml_reader import Document, Where

MAX_SEED = 2**31 - 1
_REFERENCE = re.compile(r"\$\{ENV:([A-Za-z_][A-Za-z0-9_]*)\}")
_STORES = ("sqlite", "postgresql", "mysql", "mssql", "http", "https")
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]*)?) ?([smhd]?)")
_UNITS_S = {"": 1, "s": 1, "m": 60, "h": 3_600, "d": 86_400}
_DEVICES = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?", re.IGNORECASE)


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Sampler(_Part):
    """How settings are chosen. startup: random settings before TPE or GP learns. population: of CMA-ES and NSGA-II."""

    name: Literal["tpe", "cmaes", "gp", "nsga2", "qmc", "random", "grid"] = "tpe"
    seed: int = Field(default=0, ge=0, le=MAX_SEED)
    startup: int = Field(default=5, ge=1, le=10_000)
    population: int = Field(default=8, ge=2, le=10_000)


class Objective(_Part):
    """The metric ("<slot>/<metric>") that ranks the trials."""

    metric: str
    mode: Literal["min", "max"]


class Share(_Part):
    """What one process may use. workers: of a worker group, 0 for none; then cpu and gpu are per worker."""

    workers: int = Field(default=0, ge=0, le=1024)
    cpu: float = Field(default=1.0, ge=0, le=1024)
    gpu: float = Field(default=0.0, ge=0, le=64)

    @field_validator("gpu")
    @classmethod
    def _whole_above_one(cls, gpu: float) -> float:
        if gpu > 1 and gpu != math.floor(gpu):
            raise ValueError("must be a share of one GPU or a whole number of them, but is {value}. Write 0.5, 1 or 2.")
        return gpu


class Resources(_Part):
    """prepare: for the stages that all trials share. trial: for each trial."""

    prepare: Share = Share()
    trial: Share = Share()


class Tracking(_Part):
    """uri: where MLflow keeps the runs; empty: the storage's own SQLite. ``${ENV:NAME}`` is filled in at the start."""

    uri: str = ""

    @field_validator("uri")
    @classmethod
    def _safe(cls, uri: str) -> str:
        scheme = uri.partition(":")[0].partition("+")[0].casefold()
        if uri and scheme not in _STORES and not _REFERENCE.match(uri):
            known = ", ".join(f"{store}:" for store in _STORES)
            way_out = "MLflow takes no plain folder: write sqlite:///path/mlflow.db, or take the line out."
            raise ValueError(f"must begin with one of {known}, but is {{value}}. {way_out}")
        return uri

    def address(self, environment: Mapping[str, str]) -> str:
        """The URI with each ``${ENV:NAME}`` filled in; it may hold a password, so it is never shown or stored.

        Raises:
            ValueError: a variable is not set.
        """
        missing = [name for name in _REFERENCE.findall(self.uri) if name not in environment]
        if missing:
            names = ", ".join(missing)
            raise ValueError(f"tracking.uri needs {names}, not set in the environment. Export it and start again.")
        return _REFERENCE.sub(lambda match: environment[match.group(1)], self.uri)


class Asha(_Part):
    """Asynchronous successive halving. grace_epochs: of the first rung. reduction_factor: one in so many goes on."""

    grace_epochs: int = Field(default=1, ge=1, le=100_000)
    reduction_factor: int = Field(default=3, ge=2, le=100)


class Hyperband(Asha):
    """Successive halving in brackets, each of which begins later than the one before it by the reduction factor."""


class Median(_Part):
    """The median stopping rule. min_trials: others that must have come as far."""

    grace_epochs: int = Field(default=5, ge=1, le=100_000)
    min_trials: int = Field(default=3, ge=1, le=10_000)


class Scheduler(_Part):
    """Which running trials are stopped; one of the three."""

    asha: Asha | None = None
    hyperband: Hyperband | None = None
    median: Median | None = None

    @property
    def name(self) -> str:
        return next(name for name in type(self).model_fields if getattr(self, name) is not None)

    @property
    def rule(self) -> Asha | Median:
        rule: Asha | Median = getattr(self, self.name)
        return rule


class Collapse(_Part):
    """When a clustering has collapsed; see ``trainables.runner.guards.collapse``."""

    min_entropy_share: float = Field(default=0.1, ge=0, le=1)
    max_empty_clusters: int | None = Field(default=None, ge=0, le=1_000_000)
    patience_epochs: int = Field(default=5, ge=1, le=100_000)


class Guard(_Part):
    """What stops a trial from inside. Without ``collapse`` nothing does, for an ablation may collapse on purpose."""

    collapse: Collapse | None = None


class Page(_Part):
    """A study file as written, before its keys are judged together. time_limit: seconds."""

    name: str = ""
    question: str = ""
    method: str
    pretext: str = ""
    preset: str = ""
    probes: list[str] = []
    dataset: dict[str, Any] = {}
    probe_dataset: dict[str, Any] = {}
    seeds: list[int] = [0]
    fixed: dict[str, Any] = {}
    grid: dict[str, Any] = {}
    search: dict[str, Any] = {}
    start: list[Any] = []
    ablate: dict[str, dict[str, Any]] = {}
    sampler: Sampler = Sampler()
    trials: int | None = Field(default=None, ge=1, le=100_000)
    objective: list[Objective] = []
    oracle: bool = False
    resources: Resources = Resources()
    tracking: Tracking = Tracking()
    retries: int = Field(default=2, ge=0, le=20)
    scheduler: Scheduler | None = None
    guard: Guard = Guard()
    max_failures: int | None = Field(default=None, ge=1, le=100_000)
    time_limit: float | None = None
    published: dict[str, Any] = {}

    @field_validator("objective")
    @classmethod
    def _some(cls, objectives: list[Objective]) -> list[Objective]:
        if not objectives:
            raise ValueError("must have at least one metric, but is {value}. Write it, or take the line out.")
        return objectives

    @field_validator("seeds", mode="before")
    @classmethod
    def _crossed(cls, written: Any) -> Any:
        """A mapping of two lists becomes their pairs, each one number (see ``trainables.seeds``)."""
        lists = [written]
        if isinstance(written, dict):
            lists = [written.get("pretext"), written.get("method")]
            if set(written) != {"pretext", "method"} or not all(isinstance(each, list) for each in lists):
                way_out = "Write {{pretext: [0, 1], method: [0, 1, 2]}}, or a list."
                raise ValueError(f"must be a list, or lists under pretext and method, but is {{value}}. {way_out}")
        for each in [each for each in lists if isinstance(each, list)]:
            numbers = [seed for seed in each if isinstance(seed, int) and not isinstance(seed, bool)]
            wrong = isinstance(written, dict) and len(numbers) < len(each)
            if not each or wrong or any(not 0 <= seed <= MAX_SEED for seed in numbers):
                rule = f"must be whole numbers from 0 to {MAX_SEED}, at least one"
                raise ValueError(f"{rule}, but is {{value}}. Write seeds: [0, 1, 2].")
        return list(seeds.expanded(written)) if isinstance(written, dict) else written

    @field_validator("seeds")
    @classmethod
    def _unique(cls, seeds: list[int]) -> list[int]:
        twice = [seed for index, seed in enumerate(seeds) if seed in seeds[:index]]
        if twice:
            raise ValueError(f"must differ from each other, but {label(twice[0])} stands twice. Take one out.")
        return seeds

    @field_validator("scheduler")
    @classmethod
    def _one(cls, scheduler: Scheduler | None) -> Scheduler | None:
        given = [name for name in Scheduler.model_fields if scheduler and getattr(scheduler, name) is not None]
        if scheduler is not None and len(given) != 1:
            raise ValueError("must be one of asha, hyperband and median, but is {value}. Write {{asha: {{}}}}.")
        return scheduler

    @field_validator("time_limit", mode="before")
    @classmethod
    def _seconds(cls, written: Any) -> float | None:
        """Of a trial's attempt: a number of seconds, or a number with s, m, h or d behind it."""
        if written is None:
            return None
        match = _DURATION.fullmatch(str(written)) if isinstance(written, int | float | str) else None
        seconds = float(match[1]) * _UNITS_S[match[2]] if match and not isinstance(written, bool) else 0.0
        if not 0 < seconds < math.inf:
            raise ValueError("must be a time above 0, but is {value}. Write 20m, 2h or a number of seconds.")
        return seconds


KEYS = tuple(Page.model_fields)
SHORT = {"dataset": "name", "probe_dataset": "name", "sampler": "name"}
"""Keys that may hold a single value, and what it then is."""
LISTED = ("objective", "start")
"""Keys that may hold one thing in the place of a list of it."""


def read_page(document: Document) -> tuple[Page | None, list[StudyError]]:
    """The page without the keys that are at fault, and their faults; no page where the method is at fault."""
    data = {key: {SHORT[key]: v} if key in SHORT and isinstance(v, str) else v for key, v in document.data.items()}
    data |= {key: [data[key]] for key in LISTED if key in data and not isinstance(data[key], list)}
    if isinstance(data.get("scheduler"), str):
        data["scheduler"] = {data["scheduler"]: {}}
    faults = list(_secrets(document, document.data, ()))
    try:
        return Page.model_validate(data), faults
    except ValidationError as error:
        problems = error.errors(include_url=False)
    faults += [_fault(document, problem) for problem in problems]
    wrong = {problem["loc"][0] for problem in problems}
    if "method" in wrong:
        return None, faults
    return Page.model_validate({key: value for key, value in data.items() if key not in wrong}), faults


def name_fault(name: str) -> str | None:
    """Why ``name`` cannot name a study, and so a folder; None if it can."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", name):
        return (
            "a study's name has 1 to 100 letters, digits, '.', '_' or '-' and begins with a letter or digit, "
            f"but is {name!r}. Write another one under name, or rename the file."
        )
    if _DEVICES.fullmatch(name) or name.endswith("."):
        return f"{name!r} cannot name a folder on every system. Write another one under name, or rename the file."
    return None


def _secrets(document: Document, value: Any, where: Where) -> Iterator[StudyError]:
    if isinstance(value, dict):
        for key, each in value.items():
            yield from _secrets(document, each, (*where, key))
    elif isinstance(value, list):
        for index, each in enumerate(value):
            yield from _secrets(document, each, (*where, index))
    elif isinstance(value, str) and has_secret(value):
        sentence = f"a password stands in {value!r}. Keep it in an environment variable and write ${{ENV:NAME}} for it."
        yield document.fault(where, sentence)


_WORDS = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "list_type": "a list in brackets, such as [0, 1, 2]",
    "dict_type": "a mapping of keys to values",
    "model_type": "a mapping of keys to values",
    "finite_number": "a finite number",
    "greater_than_equal": "at least {ge}",
    "less_than_equal": "at most {le}",
    "literal_error": "one of {expected}",
}


def _fault(document: Document, problem: Any) -> StudyError:
    """One of pydantic's errors in this platform's words."""
    where: Where = tuple(problem["loc"])
    if where[0] in LISTED and not isinstance(document.data.get(str(where[0])), list):
        where = (where[0], *where[2:])
    shown = ".".join(map(str, where))
    kind, value, context = problem["type"], problem["input"], problem.get("ctx", {})
    if kind == "missing":
        return document.fault(where, f"{shown} is missing. {_missing(where)}")
    if kind == "extra_forbidden":
        known = _fields(where[:-1])
        section = f"a key of {'.'.join(map(str, where[:-1]))}" if where[:-1] else "a key of a study file"
        sentence = f"{where[-1]} is not {section}. {_place_of(str(where[-1]), known)}"
        return document.fault(where, sentence, at_key=True)
    if kind == "value_error":
        return document.fault(where, f"{shown} {str(context['error']).format(value=repr(value))}")
    found = "is empty" if value is None else f"is {value!r}"
    if kind not in _WORDS:
        return document.fault(where, f"{shown} {found}: {problem['msg']}.")
    way_out = _way_out(kind, value, context)
    return document.fault(where, f"{shown} must be {_WORDS[kind].format(**context)}, but {found}.{way_out}")


def _missing(where: Where) -> str:
    return {"method": "Write method: scan, or another one.", "mode": "Write mode: min or mode: max."}.get(
        str(where[-1]), "Write it."
    )


def _way_out(kind: str, value: Any, context: Mapping[str, Any]) -> str:
    if value is None:
        return " Give it a value, or take the line out."
    if kind == "literal_error" and isinstance(value, str):
        return " " + did_you_mean(value, [word.strip(" '") for word in re.split(r",| or ", context["expected"])])
    if kind in ("int_type", "float_type") and isinstance(value, str):
        try:
            number = float(value)
        except ValueError:
            return ""
        whole = kind == "int_type" and number == math.floor(number) if math.isfinite(number) else False
        # Without the point, "1e-05" would be read as text again.
        written = str(int(number)) if whole else repr(number)
        written = written.replace("e", ".0e") if "e" in written and "." not in written else written
        return f" It was read as text; write {written}."
    return ""


def _place_of(name: str, known: Sequence[str]) -> str:
    near = did_you_mean(name, known)
    if "fixed" in known and not near.startswith("Did"):
        return "Settings belong under fixed, search or ablate, with their stage's name, such as scan.epochs."
    return near


def _fields(where: Where) -> tuple[str, ...]:
    model: Any = Page
    for part in [part for part in where if isinstance(part, str)]:
        model = model.model_fields[part].annotation
        # "Objective | None" and "list[Objective]" hold the model first.
        model = getattr(model, "__args__", (model,))[0]
    return tuple(model.model_fields)
