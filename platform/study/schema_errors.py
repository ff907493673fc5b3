"""Pydantic's errors about the shape of a study file, in this platform's words."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from .errors import StudyError, did_you_mean
from .yaml_reader import Document, Where

_RULES = {
    "string_type": "text",
    "string_too_short": "not empty",
    "too_short": "not empty",
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
_MISSING = {"method": "Write method: scan, or another one.", "mode": "Write mode: min or mode: max."}


def in_words(document: Document, problem: ErrorDetails, where: Where, known: Sequence[str]) -> StudyError:
    """Say one of pydantic's errors so that a user of study files can act on it.

    Args:
        problem: one item of ``ValidationError.errors()``.
        where: path of the key or value in the file.
        known: the keys that may stand beside the last one of ``where``; looked at only where that one is unknown.
    """
    shown = ".".join(map(str, where))
    kind, value, context = problem["type"], problem["input"], problem.get("ctx", {})
    if kind == "missing":
        return document.error(where, f"{shown} is missing. {_MISSING.get(str(where[-1]), 'Write it.')}")
    if kind == "extra_forbidden":
        section = f"a key of {'.'.join(map(str, where[:-1]))}" if where[:-1] else "a key of a study file"
        sentence = f"{where[-1]} is not {section}. {_unknown_key(str(where[-1]), known)}"
        return document.error(where, sentence, at_key=True)
    if kind == "value_error":
        return document.error(where, f"{shown} {str(context['error']).format(value=repr(value))}")
    given = "is empty" if value is None else f"is {value!r}"
    if kind not in _RULES:
        return document.error(where, f"{shown} {given}: {problem['msg']}.")
    way_out = _way_out(kind, value, context)
    return document.error(where, f"{shown} must be {_RULES[kind].format(**context)}, but {given}.{way_out}")


def keys_of(model: type[BaseModel]) -> list[str]:
    """The keys of a part of a study file, as they are written in it."""
    return [field.alias or name for name, field in model.model_fields.items()]


def keys_at(page: type[BaseModel], where: Where) -> list[str]:
    """The keys that the part at a path of a study file may have.

    Args:
        page: the model of the whole file.
        where: path to a part that is itself a model.
    """
    model: Any = page
    for key in [key for key in where if isinstance(key, str)]:
        model = model.model_fields[key].annotation
        # "Objective | None" and "list[Objective]" hold the model first.
        model = getattr(model, "__args__", (model,))[0]
    return keys_of(model)


def _way_out(kind: str, value: Any, context: Mapping[str, Any]) -> str:
    if value is None:
        return " Give it a value, or take the line out."
    if kind == "literal_error" and isinstance(value, str):
        return " " + did_you_mean(value, [word.strip(" '") for word in re.split(r",| or ", context["expected"])])
    if kind == "int_type" and isinstance(value, float) and value.is_integer():
        return f" Write {int(value)}."
    return ""


def _unknown_key(name: str, known: Sequence[str]) -> str:
    near = did_you_mean(name, known)
    if "fixed" in known and not near.startswith("Did"):
        return "Settings belong under fixed, search or ablate, with their stage's name, such as scan.epochs."
    return near
