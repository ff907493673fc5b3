"""``pretext: {checkpoint: FILE}`` in a study file: the short form written out, and the file pinned by its content."""

from dataclasses import replace
from pathlib import Path

from trainables.nets import checkpoints

from .errors import StudyError
from .yaml_reader import Document, Place, Where

STAGE = "checkpoint"
PATH: Where = ("fixed", "pretext.path")
SHA256: Where = ("fixed", "pretext.sha256")


def pinned(document: Document) -> tuple[Document, list[StudyError]]:
    """The document with ``pretext.path`` absolute and ``pretext.sha256`` filled in, and what is wrong with the file.

    A study that takes no checkpoint, or whose ``fixed`` is no mapping, comes back as it is.
    """
    given, fixed = document.data.get("pretext"), document.data.get("fixed", {})
    short = isinstance(given, dict) and list(given) == [STAGE]
    if not isinstance(fixed, dict) or not (short or given == STAGE):
        return document, []
    path = given[STAGE] if isinstance(given, dict) else fixed.get("pretext.path")
    where: Where = ("pretext", STAGE) if short else PATH
    if not isinstance(path, str) or not path:
        way_out = "the checkpoint needs a file. Write pretext: {checkpoint: FILE}."
        return document, [document.fault(("pretext",), way_out)]
    if short and "pretext.path" in fixed:
        sentence = "the file stands under pretext already. Take this line out."
        return document, [document.fault(PATH, sentence, at_key=True)]
    full = Path(path).expanduser().resolve()
    try:
        found = checkpoints.digest(full)
    except checkpoints.CheckpointError as error:
        return document, [document.fault(where, f"{error}.")]
    if (said := fixed.get("pretext.sha256", found)) != found:
        sentence = f"{full} has sha256 {found}, but the study was written for {said!r}. Take the line out, or the file."
        return document, [document.fault(SHA256, sentence)]
    place = document.values.get(where) or Place(document.file, 1)
    data = {
        **document.data,
        "pretext": STAGE,
        "fixed": {**fixed, "pretext.path": str(full), "pretext.sha256": found},
    }
    places = {PATH: place, SHA256: place}
    return replace(document, data=data, keys={**places, **document.keys}, values={**places, **document.values}), []
