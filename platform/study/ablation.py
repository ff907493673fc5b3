"""``ablate: {mode: ...}`` in a study file: the rows written out, each a change of the study's fixed settings.

    leave_one_out   parts: {NAME: {SETTING: VALUE}}    the whole, then each row without a part: its values switch it off
    add_one         parts: {NAME: {SETTING: VALUE}}    the base, then each row with a part: its values switch it on;
                                                       cumulative: true keeps the parts of the rows above
    one_factor      values: {SETTING: [VALUE, ...]}    the base, then each row with one setting at another of its values

``from: STUDY`` takes the best setting of a study that has run in the same storage into ``fixed``. Without ``parts``,
each of its searched settings is then a part: left out it has its stage's default, and so has the base that it is added
to. ``published`` under ``ablate`` belongs to the first row. The rows behave as rows with names do.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from trainables import pipeline, settings

from .errors import StudyError, did_you_mean
from .yaml_reader import Document, Place, Where

BestOf = Callable[[str], Mapping[str, Any]]
"""The searched values of a study's best setting, by full name; LookupError says why there is none."""

_FIRST = {"leave_one_out": "whole", "add_one": "base", "one_factor": "base"}
_KEYS = {
    "leave_one_out": ("mode", "from", "parts", "published"),
    "add_one": ("mode", "from", "parts", "cumulative", "published"),
    "one_factor": ("mode", "from", "values", "published"),
}

Rows = dict[str, tuple[dict[str, Any], Where]]
"""Name of a row -> its settings and where the file has them."""


def expanded(document: Document, best_of: BestOf) -> tuple[Document, list[StudyError]]:
    """The document with named rows under ``ablate``, and what is wrong with the mode; as it is where there is none."""
    given = document.data.get("ablate")
    if not isinstance(given, dict) or not isinstance(given.get("mode"), str):
        return document, []
    mode, faults = given["mode"], list(_faults(document, given))
    if faults:
        return document, faults
    fixed, best = document.data.get("fixed") or {}, dict[str, Any]()
    if not isinstance(fixed, dict):
        return replace(document, data={**document.data, "ablate": {}}), []
    if "from" in given:
        try:
            best = dict(best_of(given["from"]))
        except LookupError as error:
            return document, [document.fault(("ablate", "from"), f"{error.args[0]}")]
    parts = given.get("parts")
    # What is put together again begins without the best setting; everything else begins with it.
    again = mode == "add_one" and not parts
    base = dict(fixed) if again else {**fixed, **best}
    rows: Rows = {_FIRST[mode]: ({}, ("ablate",))}
    if mode == "one_factor":
        rows |= _one_factor(document, given["values"], base)
    elif mode == "leave_one_out":
        parts = parts or _parts(document, best)
        rows |= {f"without {name}": (dict(part), ("ablate", "parts", name)) for name, part in parts.items()}
    else:
        parts = parts or {name: {name: best[name]} for name in _parts(document, best)}
        rows |= _added(parts, cumulative=given.get("cumulative", False))
    if "published" in given:
        rows[_FIRST[mode]][0]["published"] = given["published"]
    return _with_rows(document, rows, base), []


def _faults(document: Document, given: Mapping[str, Any]) -> Iterator[StudyError]:
    mode = given["mode"]
    if mode not in _KEYS:
        yield document.fault(("ablate", "mode"), f"mode {mode!r} does not exist. {did_you_mean(mode, list(_KEYS))}")
        return
    for key in given:
        if key not in _KEYS[mode]:
            way_out = did_you_mean(str(key), _KEYS[mode])
            yield document.fault(("ablate", key), f"{key} is not a key of mode {mode}. {way_out}", at_key=True)
    yield from _faults_of_parts(document, given, "values" if mode == "one_factor" else "parts")
    if not isinstance(given.get("from", ""), str):
        yield document.fault(("ablate", "from"), f"from names a study that has run, but is {given['from']!r}.")
    if not isinstance(given.get("cumulative", False), bool):
        sentence = f"cumulative must be true or false, but is {given['cumulative']!r}."
        yield document.fault(("ablate", "cumulative"), sentence)


def _faults_of_parts(document: Document, given: Mapping[str, Any], listed: str) -> Iterator[StudyError]:
    written = given.get(listed)
    if written is None and ("from" not in given or listed == "values"):
        example = (
            "values: {spc.strong_threshold: [0.9, 0.98]}" if listed == "values" else "parts: {NAME: {SETTING: VALUE}}"
        )
        yield document.fault(("ablate", "mode"), f"mode {given['mode']} needs {listed}. Write {example}.")
    elif written is not None and not (isinstance(written, dict) and written):
        yield document.fault(("ablate", listed), f"{listed} must be a mapping, not empty, but is {written!r}.")
    elif written is not None:
        kind, what = (list, "a list of values") if listed == "values" else (dict, "a mapping of settings to values")
        for name, each in written.items():
            if not (isinstance(each, kind) and each):
                yield document.fault(("ablate", listed, name), f"{name} must be {what}, not empty, but is {each!r}.")


def _parts(document: Document, best: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """What each searched setting is without the search: its stage's default. Not those that are at it anyway."""
    defaults = {name: _usual(document, name, {}) for name in best}
    return {name: {name: value} for name, value in defaults.items() if value is not None and value != best[name]}


def _added(parts: Mapping[str, Mapping[str, Any]], *, cumulative: bool) -> Rows:
    rows, before = Rows(), dict[str, Any]()
    for name, part in parts.items():
        own = {key: value for key, value in part.items() if key != "published"}
        rows[f"+ {name}"] = {**before, **part}, ("ablate", "parts", name)
        before = {**before, **own} if cumulative else {}
    return rows


def _one_factor(document: Document, values: Mapping[str, list[Any]], fixed: Mapping[str, Any]) -> Rows:
    return {
        f"{name} = {value if isinstance(value, str) else json.dumps(value)}": (
            {name: value},
            ("ablate", "values", name),
        )
        for name, each in values.items()
        for value in each
        if value != _usual(document, name, fixed)
    }


def _usual(document: Document, name: str, fixed: Mapping[str, Any]) -> Any:
    """A setting's value in the base: the fixed one, else its stage's default; None for what is no setting."""
    if name in fixed:
        return fixed[name]
    method, pretext = document.data.get("method"), document.data.get("pretext") or ""
    if not isinstance(method, str) or method not in pipeline.METHODS or pretext not in ("", *pipeline.PRETEXTS):
        return None
    slot, _, own = name.partition(".")
    stage = pipeline.stages(method, pretext).get(slot)
    return None if stage is None else settings.defaults(stage.Config).get(own)


def _with_rows(document: Document, rows: Rows, fixed: Mapping[str, Any]) -> Document:
    """Each generated row stands where the part stands that it was made of."""
    keys, values = dict(document.keys), dict(document.values)
    for name, (changes, where) in rows.items():
        for places in (keys, values):
            around = (document.keys.get(where[:length]) for length in range(len(where), 0, -1))
            place = next(filter(None, around), Place(document.file, 1))
            places[("ablate", name)] = place
            places |= {("ablate", name, key): document.values.get((*where, key), place) for key in changes}
    data = {**document.data, "ablate": {name: changes for name, (changes, _) in rows.items()}}
    if fixed:
        data["fixed"] = dict(fixed)
    return replace(document, data=data, keys=keys, values=values)
