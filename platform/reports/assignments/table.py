"""The table of a clustering: a row per image with its file, cluster, probability, second cluster, margin and label.

As CSV, where text that a spreadsheet would take for a formula is made harmless, and as Parquet, where text is as it is.
Axes: N images.
"""

import csv
import io
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from trainables.maths.assignments import TopTwo

from ..output import harmless

COLUMNS = (
    "file",
    "part",
    "cluster",
    "cluster_name",
    "probability",
    "second_cluster",
    "second_probability",
    "margin",
    "label",
)
_DIGITS = 6


@dataclass(frozen=True, eq=False)
class Assignments:
    """A clustering of images.

    files: what each image is known by, see ``interfaces.Split.names``. parts: "train", "eval", "train+eval" where both
    are the same images, or "new". top_two: rows in the order of files. labels: the class of each image; empty text
    where none is known. num_clusters: C, empty ones too. cluster_names: cluster -> the name that its user gave it.
    root: folder of the files; empty where they are none. result: which model made it.
    """

    files: Sequence[str]
    parts: Sequence[str]
    top_two: TopTwo
    labels: Sequence[str]
    num_clusters: int
    result: str
    root: str = ""
    cluster_names: Mapping[int, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.files)


def as_text(name: str) -> str:
    r"""A file name as text that UTF-8 can hold: bytes of it that are no UTF-8 become ``\xNN``."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def as_csv(assignments: Assignments) -> bytes:
    """The table in UTF-8, numbers with six digits; clusters without a second one, names and labels may be empty."""
    columns = _columns(assignments)
    for name in ("file", "part", "cluster_name", "label"):
        columns[name] = [harmless(text) for text in columns[name]]
    for name in ("probability", "second_probability", "margin"):
        columns[name] = [f"{value:.{_DIGITS}f}" for value in columns[name]]
    columns["second_cluster"] = ["" if value is None else value for value in columns["second_cluster"]]
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(COLUMNS)
    table.writerows(zip(*(columns[name] for name in COLUMNS), strict=True))
    return text.getvalue().encode()


def as_parquet(assignments: Assignments) -> bytes:
    """The table with types: text, int64 (second_cluster null without a second one) and float32."""
    import pyarrow
    from pyarrow import parquet

    types = {
        **dict.fromkeys(COLUMNS, pyarrow.string()),
        **dict.fromkeys(("cluster", "second_cluster"), pyarrow.int64()),
        **dict.fromkeys(("probability", "second_probability", "margin"), pyarrow.float32()),
    }
    schema = pyarrow.schema([(name, types[name]) for name in COLUMNS])
    buffer = io.BytesIO()
    parquet.write_table(pyarrow.table(_columns(assignments), schema=schema), buffer)
    return buffer.getvalue()


def _columns(assignments: Assignments) -> dict[str, list[Any]]:
    top = assignments.top_two
    clusters = top.cluster_N.tolist()
    return {
        "file": [as_text(name) for name in assignments.files],
        "part": list(assignments.parts),
        "cluster": clusters,
        "cluster_name": [assignments.cluster_names.get(cluster, "") for cluster in clusters],
        "probability": top.probability_N.tolist(),
        "second_cluster": [None if second < 0 else second for second in top.second_N.tolist()],
        "second_probability": top.second_probability_N.tolist(),
        "margin": top.margin_N.tolist(),
        "label": [as_text(label) for label in assignments.labels],
    }
