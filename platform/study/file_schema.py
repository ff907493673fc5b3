"""The shape of a study file: its keys, their types and ranges. ``cross_checks`` judges what they mean together."""

import math
import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, field_validator, model_validator

from trainables import seeds
from trainables.seeds import label

from . import errors
from .errors import StudyError, did_you_mean, has_secret
from .schema_errors import in_words, keys_at, keys_of
from .yaml_reader import Document, Where

MAX_SEED = 2**31 - 1
_REFERENCE = re.compile(r"\$\{ENV:([A-Za-z_][A-Za-z0-9_]*)\}")
_STORES = ("sqlite", "postgresql", "mysql", "mssql", "http", "https")
_STORE_RULE = "must begin with one of " + ", ".join(f"{store}:" for store in _STORES)
_STORE_WAY_OUT = "MLflow takes no plain folder: write sqlite:///path/mlflow.db, or take it out."
MLFLOW_VARIABLE = "MLFLOW_TRACKING_URI"
"""MLflow's own: it counts where a study names no address."""
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]*)?) ?([smhd]?)")
_UNITS_S = {"": 1, "s": 1, "m": 60, "h": 3_600, "d": 86_400}
_DEVICES = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?", re.IGNORECASE)


def _is_store(uri: str) -> bool:
    return uri.partition(":")[0].partition("+")[0].casefold() in _STORES


# What a storage holds beside the folders of its studies; SQLite keeps files with such ends beside a database.
_OF_STORAGE = re.compile(r"stages|artifacts|comparisons|smoke|(ledger|mlflow|optuna)\.db([-.].*)?", re.IGNORECASE)


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Sampler(_Part):
    """How configurations are chosen.

    Attributes:
        startup: random configurations before TPE or GP learns from the others.
        population: configurations in a generation of CMA-ES or NSGA-II.
    """

    name: Literal["tpe", "cmaes", "gp", "nsga2", "qmc", "random", "grid"] = "tpe"
    seed: int = Field(default=0, ge=0, le=MAX_SEED)
    startup: int = Field(default=5, ge=1, le=10_000)
    population: int = Field(default=8, ge=2, le=10_000)


class Objective(_Part):
    """The metric ("<slot>/<metric>") that ranks the trials."""

    metric: str
    mode: Literal["min", "max"]


class Share(_Part):
    """What one process may use.

    Attributes:
        workers: size of the worker group that trains together; 0 for one process. cpu and gpu count per worker.
        cpu: number of CPUs.
        gpu: 1, or a share of one GPU; a process computes on one, so several GPUs are several workers.
    """

    workers: int = Field(default=0, ge=0, le=1024)
    cpu: float = Field(default=1.0, ge=0, le=1024)
    gpu: float = Field(default=0.0, ge=0, le=64)

    @field_validator("gpu")
    @classmethod
    def _of_one_process(cls, gpu: float) -> float:
        if gpu > 1:
            way_out = f"For {gpu:g} GPUs write {{{{workers: {math.ceil(gpu)}, gpu: 1}}}}."
            raise ValueError(f"must be at most 1, because one process computes on one GPU, but is {{value}}. {way_out}")
        return gpu


class Resources(_Part):
    """What is reserved for the stages that all trials share (``prepare``), and for each trial (``trial``)."""

    prepare: Share = Share()
    trial: Share = Share()


class Tracking(_Part):
    """Where MLflow keeps the runs.

    Attributes:
        uri: of the tracking server or database; empty for the storage's own SQLite file. ``${ENV:NAME}`` is filled in
            when the sweep starts.
    """

    uri: str = ""

    @field_validator("uri")
    @classmethod
    def _safe(cls, uri: str) -> str:
        if uri and not _is_store(uri) and not _REFERENCE.match(uri):
            raise ValueError(f"{_STORE_RULE}, but is {{value}}. {_STORE_WAY_OUT}")
        return uri

    def address(self, environment: Mapping[str, str]) -> str:
        """The URI with each ``${ENV:NAME}`` filled in; without one MLflow's own variable, or "" for the storage's file.

        It may hold a password, so it is never shown or stored: ``errors.redacted`` hides what the environment gave.

        Args:
            environment: names and values of environment variables.

        Raises:
            ValueError: a variable is not set, or MLflow takes no such address.
        """
        missing = [name for name in _REFERENCE.findall(self.uri) if name not in environment]
        if missing:
            names = ", ".join(missing)
            raise ValueError(f"tracking.uri needs {names}, not set in the environment. Export it and start again.")
        for name in _REFERENCE.findall(self.uri):
            errors.hide_address(environment[name])
        place = "tracking.uri" if self.uri else MLFLOW_VARIABLE
        filled = _REFERENCE.sub(lambda match: environment[match.group(1)], self.uri)
        uri = filled or environment.get(MLFLOW_VARIABLE, "")
        if uri and not _is_store(uri):
            shown = self.uri or repr(errors.redacted(uri))
            raise ValueError(f"{place} {_STORE_RULE}, but is {shown}. {_STORE_WAY_OUT}")
        return uri


class Asha(_Part):
    """Asynchronous successive halving.

    Attributes:
        grace_epochs: epoch of the first rung; no trial is stopped before it.
        reduction_factor: at each rung the best 1/reduction_factor of the trials continue, and the next rung lies
            reduction_factor times as far.
    """

    grace_epochs: int = Field(default=1, ge=1, le=100_000)
    reduction_factor: int = Field(default=3, ge=2, le=100)


class Hyperband(Asha):
    """Successive halving in brackets, each of which begins later than the one before it by the reduction factor."""


class Median(_Part):
    """The median stopping rule.

    Attributes:
        grace_epochs: no trial is stopped before this epoch.
        min_trials: other trials that must have reached an epoch before one is stopped there.
    """

    grace_epochs: int = Field(default=5, ge=1, le=100_000)
    min_trials: int = Field(default=3, ge=1, le=10_000)


class Scheduler(_Part):
    """The rule that stops running trials early; exactly one of the three is given."""

    asha: Asha | None = None
    hyperband: Hyperband | None = None
    median: Median | None = None

    @property
    def name(self) -> str:
        """Which of the three it is: "asha", "hyperband" or "median"."""
        return next(name for name in type(self).model_fields if getattr(self, name) is not None)

    @property
    def rule(self) -> Asha | Median:
        """Its settings."""
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


_Filled = Annotated[dict[str, Any], Field(min_length=1)]
_NamedParts = Annotated[dict[str, _Filled], Field(min_length=1)]
_Levels = Annotated[dict[str, Annotated[list[Any], Field(min_length=1)]], Field(min_length=1)]


class _Mode(_Part):
    """study: the name of a study that has run, whose best configuration is taken; empty for none."""

    study: str = Field(default="", alias="from", min_length=1)
    published: Any = None


class _ModeOfParts(_Mode):
    parts: _NamedParts = {}

    @model_validator(mode="after")
    def _some_parts(self) -> Self:
        if not self.parts and not self.study:
            raise ValueError("is {value}, which needs parts. Write parts: {{NAME: {{SETTING: VALUE}}}}.")
        return self


class LeaveOneOut(_ModeOfParts):
    """Rows that each lack one part of the whole. parts: name -> values that switch it off."""

    mode: Literal["leave_one_out"]


class AddOne(_ModeOfParts):
    """Rows that each add one part to the base. parts: name -> values that switch it on."""

    mode: Literal["add_one"]
    cumulative: bool = False


class OneFactor(_Mode):
    """Rows that each change one setting of the base. values: full name of a setting -> its values."""

    mode: Literal["one_factor"]
    values: _Levels = {}

    @model_validator(mode="after")
    def _some_values(self) -> Self:
        if not self.values:
            raise ValueError("is {value}, which needs values. Write values: {{spc.strong_threshold: [0.9, 0.98]}}.")
        return self


AblationMode = LeaveOneOut | AddOne | OneFactor
_MODES: Mapping[str, type[AblationMode]] = {
    "leave_one_out": LeaveOneOut,
    "add_one": AddOne,
    "one_factor": OneFactor,
}
_MODE_READER: TypeAdapter[AblationMode] = TypeAdapter(Annotated[AblationMode, Field(discriminator="mode")])


class Page(_Part):
    """A study file as written, before its keys are judged together. time_limit: seconds."""

    name: str = ""
    question: str = ""
    method: str
    until: str = ""
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
    """Check the shape of a study file.

    Returns:
        The page without the keys that have errors, and their errors. There is no page if ``method`` has an error.
    """
    data = {key: {SHORT[key]: v} if key in SHORT and isinstance(v, str) else v for key, v in document.data.items()}
    data |= {key: [data[key]] for key in LISTED if key in data and not isinstance(data[key], list)}
    if isinstance(data.get("scheduler"), str):
        data["scheduler"] = {data["scheduler"]: {}}
    errors = list(_secrets(document, document.data, ()))
    try:
        return Page.model_validate(data), errors
    except ValidationError as refusal:
        problems = refusal.errors(include_url=False)
    for problem in problems:
        where: Where = problem["loc"]
        if where[0] in LISTED and not isinstance(document.data.get(str(where[0])), list):
            where = (where[0], *where[2:])
        known = keys_at(Page, where[:-1]) if problem["type"] == "extra_forbidden" else ()
        errors.append(in_words(document, problem, where, known))
    wrong = {problem["loc"][0] for problem in problems}
    if "method" in wrong:
        return None, errors
    return Page.model_validate({key: value for key, value in data.items() if key not in wrong}), errors


def read_ablation_mode(document: Document) -> tuple[AblationMode | None, list[StudyError]]:
    """Check the shape of ``ablate: {mode: ...}``.

    Returns:
        The mode and its errors. There is no mode if it has errors, or if the file names its rows itself; a row may be
        called "mode".
    """
    written = document.data.get("ablate")
    if not isinstance(written, dict) or not isinstance(written.get("mode"), str):
        return None, []
    try:
        return _MODE_READER.validate_python(written), []
    except ValidationError as refusal:
        problems = refusal.errors(include_url=False)
    name = written["mode"]
    if name not in _MODES:
        sentence = f"mode {name!r} does not exist. {did_you_mean(name, list(_MODES))}"
        return None, [document.error(("ablate", "mode"), sentence)]
    errors = []
    for problem in problems:
        # Pydantic puts the mode's name in front of the path; what is wrong with a mode as a whole has no other path.
        where: Where = ("ablate", *(problem["loc"][1:] or ("mode",)))
        if problem["type"] == "extra_forbidden":
            sentence = f"{where[-1]} is not a key of mode {name}. {did_you_mean(str(where[-1]), keys_of(_MODES[name]))}"
            errors.append(document.error(where, sentence, at_key=True))
        else:
            shown = {**problem, "input": name} if where == ("ablate", "mode") else problem
            errors.append(in_words(document, shown, where, ()))
    return None, errors


def name_error(name: str) -> str | None:
    """Say why ``name`` cannot be a study's name, and so that of a folder; None if it can."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", name):
        return (
            "a study's name has 1 to 100 letters, digits, '.', '_' or '-' and begins with a letter or digit, "
            f"but is {name!r}. Write another one under name, or rename the file."
        )
    if _DEVICES.fullmatch(name) or name.endswith("."):
        return f"{name!r} cannot name a folder on every system. Write another one under name, or rename the file."
    if _OF_STORAGE.fullmatch(name):
        return (
            f"{name!r} names a file or folder of the storage itself. Write another one under name, or rename the file."
        )
    return None


def _secrets(document: Document, value: Any, where: Where) -> Iterator[StudyError]:
    if isinstance(value, dict):
        for key, each in value.items():
            yield from _secrets(document, each, (*where, key))
    elif isinstance(value, list):
        for index, each in enumerate(value):
            yield from _secrets(document, each, (*where, index))
    elif isinstance(value, str) and "\0" in value:
        yield document.error(where, f"no name and no path can hold a NUL, but this is {value!r}. Take it out.")
    elif isinstance(value, str) and has_secret(value):
        sentence = f"a password stands in {value!r}. Keep it in an environment variable and write ${{ENV:NAME}} for it."
        yield document.error(where, sentence)
