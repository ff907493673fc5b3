"""Which pipeline a study names, and which one each row of its ablation.

``until: SLOT`` ends a pipeline there. It becomes a part of the method's name ("scan until scan", see ``pipeline``), so
that whatever asks a method for its stages gets those that run.

A row may write ``method`` and ``pretext`` beside its settings. One that changes only the method keeps the study's
pretext where the new method starts from an exchangeable one, and has the method's own where not. Settings under
``fixed`` hold for every row whose pipeline knows them and are left out of the others; a setting that the row itself
writes must be one of its own pipeline.
"""

from collections.abc import Mapping
from typing import Any

from trainables import pipeline, registry, settings

from .errors import StudyError, did_you_mean
from .hyperparameters import Stages
from .yaml_reader import Document, Where

KEYS = ("method", "pretext")
"""What a row may write beside settings."""


def chosen(method: str, pretext: str, row: Mapping[str, Any]) -> tuple[str, str]:
    """The pipeline of one row of an ablation.

    Args:
        method: the study's.
        pretext: the study's; empty for the method's own.
        row: the row's KEYS.

    Returns:
        The row's method and pretext; the pretext is empty for the method's own.
    """
    row_method = row.get("method", method)
    if "pretext" in row:
        return row_method, row["pretext"]
    if row_method == method:
        return method, pretext
    return row_method, pretext if pretext != _own_pretext(method) and _exchanges(row_method) else ""


def identity(method: str, pretext: str) -> tuple[str, ...]:
    """The names of its stages: equal for two ways of writing the same pipeline."""
    slots = zip(pipeline.stages(method), pipeline.stage_names(method), strict=True)
    return tuple(pretext if pretext and slot == "pretext" else name for slot, name in slots)


def with_until(document: Document, page: Any) -> tuple[Any, list[StudyError]]:
    """The page with every ``until`` written into the method that it ends, that of the page or of a row.

    A row's ``until`` is of its own method, or else of the page's whole one; it may lie after the page's.
    """
    errors: list[StudyError] = []

    def ended(method: Any, until: Any, where: Where) -> Any:
        if not isinstance(method, str) or pipeline.whole(method) not in pipeline.METHODS:
            return method  # said where the method is judged
        method = pipeline.whole(method)
        slots = list(pipeline.stages(method))
        if until in slots:
            return pipeline.ended(method, until)
        sentence = f"until must be a stage of {method!r}, but is {until!r}. {did_you_mean(str(until), slots)}"
        errors.append(document.error((*where, "until"), sentence))
        return method

    method = ended(page.method, page.until, ()) if page.until else page.method
    rows = dict(page.ablate)
    for label, row in page.ablate.items():
        if "until" in row:
            others = {key: value for key, value in row.items() if key not in ("method", "until")}
            own = ended(row.get("method", page.method), row["until"], ("ablate", label))
            rows[label] = {"method": own, **others}
    return page.model_copy(update={"method": method, "until": "", "ablate": rows}), errors


def settings_of(stages: Stages, values: Mapping[str, Any]) -> dict[str, Any]:
    """The part of ``values`` (full name -> value) whose names are settings of the pipeline."""
    known = {slot: settings.rules(stage.Config) for slot, stage in stages.items()}
    return {
        name: value for name, value in values.items() if name.partition(".")[2] in known.get(name.partition(".")[0], ())
    }


def pipeline_errors(document: Document, method: Any, pretext: Any, where: Where = ()) -> list[StudyError]:
    """Check that a method and a pretext exist and go together.

    Args:
        where: path to the mapping that names them: empty for the page itself, or that of a row.

    Returns:
        The errors, which point at the keys under ``where``.
    """
    methods = list(pipeline.METHODS)
    if not isinstance(method, str) or not pipeline.is_method(method):
        sentence = f"method {method!r} does not exist. {did_you_mean(str(method), methods)}"
        return [document.error((*where, "method"), sentence)]
    if sentence := _pretext_error(method, pretext) if pretext else "":
        return [document.error((*where, "pretext"), sentence)]
    return []


def row_errors(document: Document, page: Any, label: str) -> list[StudyError]:
    """Check the pipeline that a row of the page's ablation names.

    Args:
        label: the row's name.
    """
    row, where = page.ablate[label], ("ablate", label)
    for key in KEYS:
        if key in row and (not isinstance(row[key], str) or not row[key]):
            sentence = f"{key} must be the name of one, but is {row[key]!r}. Take it out to keep the study's."
            return [document.error((*where, key), sentence)]
    if row.get("pretext") == "checkpoint":
        sentence = "a checkpoint is the whole study's. Write pretext: {checkpoint: FILE} on top, and not in a row."
        return [document.error((*where, "pretext"), sentence)]
    method = row.get("method", page.method)
    if not pipeline.is_method(method):
        return pipeline_errors(document, method, "", where)
    method, pretext = chosen(page.method, page.pretext, row)
    return pipeline_errors(document, method, pretext, where)


def _own_pretext(method: str) -> str:
    slots = dict(zip(pipeline.stages(method), pipeline.stage_names(method), strict=True))
    return slots.get("pretext", "")


def _exchanges(method: str) -> bool:
    return _own_pretext(method) in registry.pretexts()


def _other_methods() -> str:
    return f"Take the line out, or choose {', '.join(filter(_exchanges, pipeline.METHODS))}."


def _pretext_error(method: str, pretext: Any) -> str:
    own = _own_pretext(method)
    if not own:
        return f"method {method!r} has no pretext stage. {_other_methods()}"
    if own not in (*registry.pretexts(), pretext):
        return f"method {method!r} starts from {own} and no other pretext. {_other_methods()}"
    if pretext not in (*registry.pretexts(), own):
        return f"pretext {pretext!r} does not exist. {did_you_mean(str(pretext), registry.pretexts())}"
    return ""
