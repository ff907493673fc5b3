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
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from trainables import pipeline, registry, settings

from .errors import StudyError
from .file_schema import AblationMode, LeaveOneOut, OneFactor, read_ablation_mode
from .yaml_reader import Document, Place, Where

BestOf = Callable[[str], Mapping[str, Any]]
"""Takes a study's name and returns the searched values of its best setting by full name; raises LookupError if none."""

Rows = dict[str, tuple[dict[str, Any], Where]]
"""Name of a row -> its settings, and the path of what it was made of."""


def expanded(document: Document, best_of: BestOf) -> tuple[Document, list[StudyError]]:
    """Replace an ablation's mode by the named rows that it stands for.

    Args:
        best_of: called with the name that stands under ``from``.

    Returns:
        The document with rows under ``ablate`` and their base under ``fixed``, and the errors of the mode. A document
        without a mode comes back unchanged.
    """
    mode, errors = read_ablation_mode(document)
    if mode is None:
        return document, errors
    fixed, best = document.data.get("fixed") or {}, dict[str, Any]()
    if not isinstance(fixed, dict):
        return replace(document, data={**document.data, "ablate": {}}), []
    if mode.study:
        try:
            best = dict(best_of(mode.study))
        except LookupError as missing:
            return document, [document.error(("ablate", "from"), f"{missing.args[0]}")]
    first = "whole" if isinstance(mode, LeaveOneOut) else "base"
    base, others = _rows(document, mode, fixed, best)
    published = {"published": mode.published} if "published" in mode.model_fields_set else {}
    return _with_rows(document, {first: (published, ("ablate",)), **others}, base), []


def _rows(
    document: Document, mode: AblationMode, fixed: Mapping[str, Any], best: Mapping[str, Any]
) -> tuple[dict[str, Any], Rows]:
    """The fixed settings of the whole ablation, and the rows below the first one."""
    base = {**fixed, **best}
    if isinstance(mode, OneFactor):
        return base, _one_factor(document, mode.values, base)
    if isinstance(mode, LeaveOneOut):
        parts = mode.parts or _parts(document, best)
        return base, {f"without {name}": (dict(part), ("ablate", "parts", name)) for name, part in parts.items()}
    if mode.parts:
        return base, _added(mode.parts, cumulative=mode.cumulative)
    # The best setting is put together again, so the base begins without it.
    searched = {name: {name: best[name]} for name in _parts(document, best)}
    return dict(fixed), _added(searched, cumulative=mode.cumulative)


def _parts(document: Document, best: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Each searched setting at its stage's default, without those whose best value is the default."""
    defaults = {name: _base_value(document, name, {}) for name in best}
    return {name: {name: value} for name, value in defaults.items() if value is not None and value != best[name]}


def _added(parts: Mapping[str, Mapping[str, Any]], *, cumulative: bool) -> Rows:
    rows, above = Rows(), dict[str, Any]()
    for name, part in parts.items():
        changes = {key: value for key, value in part.items() if key != "published"}
        rows[f"+ {name}"] = {**above, **part}, ("ablate", "parts", name)
        above = {**above, **changes} if cumulative else {}
    return rows


def _one_factor(document: Document, values: Mapping[str, list[Any]], fixed: Mapping[str, Any]) -> Rows:
    return {
        f"{name} = {value if isinstance(value, str) else json.dumps(value)}": (
            {name: value},
            ("ablate", "values", name),
        )
        for name, levels in values.items()
        for value in levels
        if value != _base_value(document, name, fixed)
    }


def _base_value(document: Document, name: str, fixed: Mapping[str, Any]) -> Any:
    """A setting's value in the base: the fixed one, else its stage's default; None if there is no such setting."""
    if name in fixed:
        return fixed[name]
    method, pretext = document.data.get("method"), document.data.get("pretext") or ""
    if not isinstance(method, str) or not pipeline.is_method(method) or pretext not in ("", *registry.pretexts()):
        return None
    slot, _, field = name.partition(".")
    stage = pipeline.stages(method, pretext).get(slot)
    return None if stage is None else settings.defaults(stage.Config).get(field)


def _with_rows(document: Document, rows: Rows, fixed: Mapping[str, Any]) -> Document:
    """Put the rows into the document; errors in a row point at the part that it was made of."""
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
