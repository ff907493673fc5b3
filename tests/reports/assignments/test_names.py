import json
from pathlib import Path
from platform.reports.assignments import names

import pytest


def put(folder: Path, content: object) -> None:
    (folder / names.FILE).write_text(content if isinstance(content, str) else json.dumps(content))


def test_names_are_read_by_cluster_and_empty_ones_left_out(tmp_path: Path) -> None:
    put(tmp_path, {"result": "cc-0", "names": {"0": " cats ", "2": "<b>", "1": " "}})
    assert names.read(tmp_path, "cc-0", 3) == {0: "cats", 2: "<b>"}


def test_without_the_file_there_are_none(tmp_path: Path) -> None:
    assert names.read(tmp_path, "cc-0", 3) == {}


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        ("{", "cannot be read"),
        ([], "must be"),
        ({"names": {"0": 1}}, "must be"),
        ({"names": {"3": "x"}}, "clusters are 0 to 2"),
        ({"names": {"one": "x"}}, "clusters are 0 to 2"),
        ({"result": "cc-1", "names": {"0": "x"}}, "names the clusters of cc-1"),
    ],
)
def test_a_file_that_cannot_be_meant_is_refused_by_its_name(tmp_path: Path, content: object, rule: str) -> None:
    put(tmp_path, content)
    with pytest.raises(names.NamesError, match=rule) as refused:
        names.read(tmp_path, "cc-0", 3)
    assert str(tmp_path / names.FILE) in str(refused.value)
