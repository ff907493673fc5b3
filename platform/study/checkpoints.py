"""``pretext: {checkpoint: FILE}`` in a study file: the short form written out, and the file pinned by its content."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from trainables.interfaces import DataShape
from trainables.nets import checkpoints

from .errors import StudyError
from .file_schema import Page
from .yaml_reader import Document, Place, Where

STAGE = "checkpoint"
_SHORT: Where = ("pretext", STAGE)
_PATH: Where = ("fixed", "pretext.path")
_SHA256: Where = ("fixed", "pretext.sha256")
_NO_FILE = "the checkpoint needs a file. Write pretext: {checkpoint: FILE}."


def written_out(document: Document) -> tuple[Document, list[StudyError]]:
    """Write ``pretext: {checkpoint: FILE}`` as ``pretext: checkpoint`` and ``fixed: {pretext.path: FILE}``.

    The file itself is not looked at.

    Returns:
        The document, and the errors of the short form. A document without the short form comes back unchanged.
    """
    pretext, fixed = document.data.get("pretext"), document.data.get("fixed", {})
    if not isinstance(pretext, dict) or list(pretext) != [STAGE]:
        return document, []
    path = pretext[STAGE]
    if not isinstance(path, str) or not path:
        return document, [document.error(("pretext",), _NO_FILE)]
    if isinstance(fixed, dict):
        if "pretext.path" in fixed:
            sentence = "the file stands under pretext already. Take this line out."
            return document, [document.error(_PATH, sentence, at_key=True)]
        fixed = {**fixed, "pretext.path": path}
    data = {**document.data, "pretext": STAGE, "fixed": fixed}
    place = {_PATH: document.values.get(_SHORT) or Place(document.file, 1)}
    return replace(document, data=data, keys={**place, **document.keys}, values={**place, **document.values}), []


def pinned(document: Document, page: Page) -> tuple[Document, Page, list[StudyError]]:
    """Make ``pretext.path`` absolute and fill in ``pretext.sha256``, which is read from the file.

    Args:
        document: has the short form written out.
        page: the same file, its shape checked.

    Returns:
        Document and page with both settings under ``fixed``, and what is wrong with the file. A study that takes no
        checkpoint comes back unchanged.
    """
    if page.pretext != STAGE:
        return document, page, []
    path = page.fixed.get("pretext.path")
    if not isinstance(path, str) or not path:
        return document, page, [document.error(("pretext",), _NO_FILE)]
    where = _SHORT if _SHORT in document.values else _PATH
    try:
        full = Path(path).expanduser().resolve()
        sha256 = checkpoints.digest(full)
    except (checkpoints.CheckpointError, RuntimeError) as unreadable:  # "~name" of a user who does not exist
        return document, page, [document.error(where, f"{unreadable}.")]
    expected = page.fixed.get("pretext.sha256", sha256)
    if expected != sha256:
        sentence = (
            f"{full} has sha256 {sha256}, but the study was written for {expected!r}. Take the line out, or the file."
        )
        return document, page, [document.error(_SHA256, sentence)]
    fixed = {**page.fixed, "pretext.path": str(full), "pretext.sha256": sha256}
    place = {_SHA256: document.values.get(where) or Place(document.file, 1)}
    document = replace(
        document,
        data={**document.data, "fixed": fixed},
        keys={**place, **document.keys},
        values={**place, **document.values},
    )
    return document, page.model_copy(update={"fixed": fixed}), []


def rows(configs: Mapping[str, Any], shape: DataShape) -> list[str]:
    """What a checkpoint's file was recognized as, as a line of the plan; none without one.

    Args:
        configs: slot -> Config.
        shape: of the data set.

    Raises:
        CheckpointError: the file cannot be used.
    """
    describe = getattr(configs.get("pretext"), "description", None)
    found = describe(shape) if describe else None
    return [f"{'checkpoint':<10} {found.sentence()}"] if found else []
