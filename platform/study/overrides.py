"""Changes from the command line: ``--set KEY=VALUE``, applied to a study file before it is checked."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from .errors import StudyError, StudyErrors
from .file_schema import SHORT
from .yaml_reader import Document, Place, Where, parse_value

_NESTED = ("dataset", "probe_dataset", "sampler", "objective", "resources", "tracking")
_NAMED = ("fixed", "search", "published")
"""Sections whose keys are full names with dots of their own."""


def apply(document: Document, overrides: Sequence[str]) -> Document:
    """Apply overrides from the command line to a study file.

    Args:
        overrides: ``KEY=VALUE`` each. "spc.strong_threshold=0.9" goes to ``fixed``; "dataset.root=/data",
            "seeds=[0, 1]" and "trials=4" replace the values under these keys.

    Returns:
        The changed document; later errors in an overridden value are shown at ``--set #2``.

    Raises:
        StudyErrors: an override has no "=", no key, no value, or reaches into an ablation.
    """
    errors: list[StudyError] = []
    for number, override in enumerate(overrides, 1):
        source = f"--set #{number}"
        key, equals, text = override.partition("=")
        try:
            if not equals or not key.strip() or not text.strip():
                sentence = f"an override is KEY=VALUE, but is {override!r}. Write for example --set trials=4."
                raise StudyErrors([StudyError(source, 0, "", sentence)])
            where = _where(key.strip(), source)
            document = _put(document, where, parse_value(text.strip(), source), Place(source, 0))
        except StudyErrors as refusal:
            errors += refusal.errors
    if errors:
        raise StudyErrors(errors)
    return document


def _where(key: str, source: str) -> Where:
    section, dot, rest = key.partition(".")
    if not dot:
        return (key,)
    if section in _NAMED:
        return (section, rest)
    if section in _NESTED:
        return tuple(key.split("."))
    if section == "ablate":
        raise StudyErrors(
            [
                StudyError(
                    source, 0, key, "a row of an ablation cannot be changed by an override. Change it in the file."
                )
            ]
        )
    return ("fixed", key)


def _put(document: Document, where: Where, value: Any, place: Place) -> Document:
    def kept(places: Mapping[Where, Place]) -> dict[Where, Place]:
        inside = {each: at for each, at in places.items() if each[: len(where)] != where}
        return {**inside, where: place}

    data = _with(document.data, where, value)
    return replace(document, data=data, keys=kept(document.keys), values=kept(document.values))


def _with(data: Any, where: Where, value: Any) -> Any:
    if not where:
        return value
    key, rest = where[0], where[1:]
    inner = data.get(key, {})
    if rest and not isinstance(inner, dict):
        # The short form "dataset: digits", or nothing at all after the colon.
        inner = {SHORT[str(key)]: inner} if key in SHORT and isinstance(inner, str) else {}
    return {**data, key: _with(inner, rest, value)}
