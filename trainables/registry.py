"""What the stages say of themselves: read from the text of ``trainables/stages``, and checked when one is loaded.

A stage is a module there (see ``interfaces``). What lists of stages are made of stands in it as plain literals
(NAMESPACE, INPUTS, WEIGHTS, ARRAYS, FACTS, TRAINS_ON_LABELS, SEEDED_BY), so that such a list costs no import of a
stage, nor of torch.
"""

import ast
import dataclasses
import hashlib
import importlib
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, get_args, get_origin

from . import settings
from .label_metrics import looks_at_labels

FOLDER = Path(__file__).parent / "stages"

REQUIRED: Mapping[str, str] = {
    "NAMESPACE": 'write NAMESPACE = "...", the prefix of its settings and metrics',
    "INPUTS": 'write INPUTS = ("pretext",) or whichever slots it reads, () for none',
    "VERSION": "write VERSION = 1, and raise it whenever its numbers change",
    "METRICS": "write METRICS = (...), every name that it may report",
    "CRITERION": 'write CRITERION = (metric, "min" or "max"), or None where it ranks nothing',
    "TRAINS_ON_LABELS": "write TRAINS_ON_LABELS = False, or True where labels train it",
    "WEIGHTS": 'write WEIGHTS = ("backbone", "head") or whichever parts its result has, () for none',
    "ARRAYS": 'write ARRAYS = ("probabilities_eval", ...), the arrays of its result, () for none',
    "FACTS": 'write FACTS = ("network", ...), the facts of its result, () for none',
    "TINY": "write TINY = {...}, settings with which it trains on a hundred images in a second; {} for the defaults",
    "Config": "write a frozen dataclass of settings.setting fields",
    "limits": "write limits(config, shape), which yields (setting, sentence) for what a data set's size forbids",
    "train": "write train(config, data, inputs, runtime), a generator of epochs that returns its Result",
}
"""Name of the contract -> what to do where a stage lacks it."""

LITERAL = ("NAMESPACE", "INPUTS", "TRAINS_ON_LABELS", "WEIGHTS", "ARRAYS", "FACTS")
"""What is read from the text, and so must be written out; SEEDED_BY and WHOLE_PICTURES too, where they are there."""
_PLAIN = (bool, int, float, str)
OPTIONAL_FUNCTIONS = ("classifier", "figures", "limits_with", "sized")
PRETEXT_SLOT = "pretext"
PROBED = "probed"
"""The input of a probe: the result of the last stage that leaves a backbone."""


class BrokenStage(ValueError):
    """A stage breaks the contract. One sentence: the file, the name, and the way out."""


def place_of(name: str) -> str:
    """A stage's file as it is called in a sentence."""
    return f"trainables/stages/{name}.py"


@cache
def names() -> tuple[str, ...]:
    """All stages, by the names of their files."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.py") if path.stem != "__init__"))


@cache
def literals(name: str) -> Mapping[str, Any]:
    """The constants of a stage that are written as plain literals. Nothing is imported.

    Raises:
        BrokenStage: there is no such file, or it is no Python.
    """
    try:
        tree = ast.parse((FOLDER / f"{name}.py").read_text(encoding="utf-8"))
    except FileNotFoundError:
        close = get_close_matches(name, names(), n=1)
        hint = f"Did you mean {close[0]!r}?" if close else f"There are {', '.join(names())}."
        raise BrokenStage(f"stage {name!r} is named, but there is no file {place_of(name)}. {hint}") from None
    except SyntaxError as error:
        raise BrokenStage(f"{place_of(name)}:{error.lineno} is no Python: {error.msg}; correct it") from error
    return dict(_assignments(tree))


def _assignments(tree: ast.Module) -> Iterator[tuple[str, Any]]:
    for node in tree.body:
        if isinstance(node, ast.Assign):
            targets, value = node.targets, node.value
        elif isinstance(node, ast.AnnAssign) and node.value is not None:
            targets, value = [node.target], node.value
        else:
            continue
        for target in targets:
            if isinstance(target, ast.Name):
                try:
                    yield target.id, ast.literal_eval(value)
                except ValueError:
                    pass  # made of other names: known only to whoever imports the module


def code_hash(stage: Any) -> str:
    """16 hex digits of a stage's file, as it was when this process first asked; empty for what has no file."""
    file = getattr(stage, "__file__", None)
    return _text_hash(file) if file else ""


@cache
def _text_hash(file: str) -> str:
    return hashlib.sha256(Path(file).read_bytes()).hexdigest()[:16]


def is_probe(name: str) -> bool:
    """Whether a stage judges the features of the one before it with labels."""
    return PROBED in literals(name).get("INPUTS", ())


def leaves_backbone(name: str) -> bool:
    """Whether a stage of a method leaves a backbone that later stages and probes may start from."""
    return "backbone" in literals(name).get("WEIGHTS", ()) and not is_probe(name)


def trains_on_labels(name: str) -> bool:
    return bool(literals(name).get("TRAINS_ON_LABELS", False))


def cuts_whole_pictures(name: str) -> bool:
    """Whether a stage cuts its crops out of whole pictures where the data set keeps them."""
    return bool(literals(name).get("WHOLE_PICTURES", False))


@cache
def pretexts() -> tuple[str, ...]:
    """Stages that may take each other's place in the slot "pretext": those of that slot that leave a backbone."""
    return tuple(each for each in names() if slot_of(each) == PRETEXT_SLOT and leaves_backbone(each))


@cache
def probes() -> tuple[str, ...]:
    """Stages that may follow any method. Their one input is the last slot that leaves a backbone."""
    return tuple(each for each in names() if is_probe(each))


@cache
def pretext_seeded_slots() -> frozenset[str]:
    """Slots that the pretext's seed decides: its own, and those of stages that say ``SEEDED_BY = "pretext"``."""
    own = {slot_of(each) for each in names() if literals(each).get("SEEDED_BY") == PRETEXT_SLOT}
    return frozenset({PRETEXT_SLOT, *own})


def slot_of(name: str) -> str:
    """The slot of a stage: its NAMESPACE."""
    return str(literals(name).get("NAMESPACE", ""))


@cache
def load(name: str) -> ModuleType:
    """The stage module ``trainables.stages.<name>``, which keeps the contract.

    Raises:
        BrokenStage: it does not, or there is no such file.
    """
    written = literals(name)
    module = importlib.import_module(f"{__package__}.stages.{name}")
    for fault in faults(module, written):
        raise BrokenStage(f"{place_of(name)}: {fault}")
    return module


def faults(stage: Any, written: Mapping[str, Any]) -> Iterator[str]:
    """What of the contract a stage breaks, each as one sentence with the way out.

    Args:
        stage: the module. written: its literals, as its text has them.
    """
    missing = [f"{name} is missing; {way_out}" for name, way_out in REQUIRED.items() if not hasattr(stage, name)]
    yield from missing
    if missing:
        return
    yield from (
        f"{name} must be written out as a plain literal, because it is read without importing the stage"
        for name in LITERAL
        if name not in written
    )
    yield from (
        f"{name} must be a function, but is {getattr(stage, name)!r}; leave it out where there is nothing to say"
        for name in OPTIONAL_FUNCTIONS
        if not callable(getattr(stage, name, len))
    )
    yield from _criterion_faults(stage)
    broken = list(_field_faults(stage.Config))
    yield from broken
    if not broken:
        yield from _value_faults(stage)


def _criterion_faults(stage: Any) -> Iterator[str]:
    if stage.CRITERION is None:
        return
    metric, mode = stage.CRITERION
    if metric not in stage.METRICS:
        yield f"CRITERION names {metric!r}, which is not in METRICS; add it there, and report it"
    if mode not in ("min", "max"):
        yield f'CRITERION has the mode {mode!r}; write "min" or "max"'
    if looks_at_labels(metric):
        yield f"CRITERION names {metric!r}, which looks at labels; name a label-free metric, or None"


def _field_faults(config: Any, path: str = "Config") -> Iterator[str]:
    """Fields that are no settings."""
    if not (isinstance(config, type) and dataclasses.is_dataclass(config)):
        yield f"{path} must be a frozen dataclass of settings.setting fields; decorate it with @dataclass(frozen=True)"
        return
    for field in dataclasses.fields(config):
        name = f"{path}.{field.name}"
        if isinstance(field.type, type) and dataclasses.is_dataclass(field.type):
            yield from _field_faults(field.type, name)
        elif isinstance(field.type, str):
            yield (
                f"the type of {name} is kept as the text {field.type!r}; take `from __future__ import annotations` out "
                "of the file that declares it"
            )
        elif "rule" not in field.metadata:
            yield f"{name} has no rule; declare it with settings.setting(default, meaning, ...)"
        elif not _is_plain(field.type):
            kind = getattr(field.type, "__name__", field.type) if isinstance(field.type, type) else field.type
            yield (
                f"{name} is a {kind}, but a setting is a bool, int, float or str; write a setting for each number, "
                "or one text that the stage takes apart"
            )


def _is_plain(kind: Any) -> bool:
    """Whether a setting may be declared so: a plain type, or a Literal of values of one."""
    values = get_args(kind) if get_origin(kind) is Literal else ()
    return kind in _PLAIN or bool(values) and {type(value) for value in values} <= set(_PLAIN)


def _value_faults(stage: Any) -> Iterator[str]:
    tiny: Mapping[str, settings.Plain] = stage.TINY
    unknown = sorted(set(tiny) - set(settings.rules(stage.Config)))
    if unknown:
        yield f"TINY names {', '.join(unknown)}, no settings of its Config; take them out, or correct them"
        return
    for what, values in (("the defaults of Config break their own rules", {}), ("TINY breaks a rule", tiny)):
        try:
            settings.build(stage.Config, values)
        except settings.SettingsError as error:
            yield f"{what}; change the value or the rule: {' '.join(str(error).split())}"
