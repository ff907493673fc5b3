"""The table of a clustering: what a spreadsheet, pandas and a text editor make of it."""

import csv
import io
from platform.reports.assignments import table
from platform.reports.assignments.table import COLUMNS, Assignments
from typing import Any

import numpy as np
import pyarrow
import pytest
from pyarrow import parquet

from trainables.maths.assignments import top_two

NAMES = ["=1+1.png", "+x", "-x", "@x", "\tx", 'quote"comma,', "two\nlines", "日本<b>", "caf\udce9.png", "plain/a.png"]


def assignments(names: list[str], probabilities_NC: Any = None, **changes: Any) -> Assignments:
    rows_NC = np.tile([0.7, 0.3], (len(names), 1)) if probabilities_NC is None else probabilities_NC
    fields = {"files": names, "parts": ["train"] * len(names), "top_two": top_two(rows_NC), "labels": [""] * len(names)}
    return Assignments(**{**fields, "num_clusters": rows_NC.shape[1], "result": "cc-0", **changes})


def rows(content: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(content.decode(), newline="")))


@pytest.mark.parametrize("column", ["file", "label", "cluster_name"])
def test_no_text_of_the_csv_is_a_formula_and_the_rest_of_it_is_unchanged(column: str) -> None:
    given = {
        "file": assignments(NAMES),
        "label": assignments(["a"] * len(NAMES), labels=NAMES),
        "cluster_name": assignments(["a"], cluster_names={0: NAMES[0]}),
    }[column]
    wanted = [table.as_text(name) for name in (NAMES if column != "cluster_name" else NAMES[:1])]
    found = [row[column] for row in rows(table.as_csv(given))]
    if column != "cluster_name":
        assert [text.removeprefix("'") for text in found] == wanted
    assert not [text for text in found if text.startswith(("=", "+", "-", "@", "\t", "\r"))]


def test_numbers_are_where_their_columns_say() -> None:
    (row,) = rows(
        table.as_csv(assignments(["a.png"], np.array([[0.1, 0.65, 0.25]]), labels=["cat"], cluster_names={1: "n"}))
    )
    assert list(row) == list(COLUMNS)
    assert row == {
        "file": "a.png", "part": "train", "cluster": "1", "cluster_name": "n", "probability": "0.650000",
        "second_cluster": "2", "second_probability": "0.250000", "margin": "0.400000", "label": "cat",
    }  # fmt: skip


def test_without_a_second_cluster_its_cell_is_empty() -> None:
    given = assignments(["a"], np.ones((1, 1)))
    assert rows(table.as_csv(given))[0]["second_cluster"] == ""
    assert parquet.read_table(io.BytesIO(table.as_parquet(given)))["second_cluster"].to_pylist() == [None]


def test_parquet_has_the_names_as_they_are_and_types() -> None:
    read = parquet.read_table(io.BytesIO(table.as_parquet(assignments(NAMES))))
    assert read["file"].to_pylist() == [table.as_text(name) for name in NAMES]
    assert read["file"].to_pylist()[0] == "=1+1.png"
    assert read.schema.field("cluster").type == pyarrow.int64()
    assert read.schema.field("margin").type == pyarrow.float32()


def test_a_name_that_is_no_utf8_shows_its_bytes() -> None:
    assert table.as_text("caf\udce9.png") == "caf\\xe9.png"
