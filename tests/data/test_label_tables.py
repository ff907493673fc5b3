"""Tables of labels as people's programs write them: read, or refused with the line and the way out."""

from pathlib import Path

import pytest

from tests.data.test_own_images import many, read
from trainables.data.loaded import DataError
from trainables.interfaces import ImageData

FILES = [f"{number}.png" for number in range(4)]
ROWS = [("0.png", "ä"), ("1.png", "b"), ("2.png", "ä"), ("3.png", "b")]


def tabled(tmp_path: Path, content: bytes, name: str = "labels.csv") -> ImageData:
    (tmp_path / name).write_bytes(content)
    return read(many(tmp_path / "images", FILES), labels=str(tmp_path / name), protocol="union")


def text(separator: str = ",", end: str = "\n", header: str = "file,label") -> str:
    return end.join([header.replace(",", separator), *(separator.join(row) for row in ROWS)]) + end


@pytest.mark.parametrize(
    "content",
    [
        text().encode(),
        text().encode("utf-8-sig"),
        text().encode("utf-16"),
        b"\xfe\xff" + text().encode("utf-16-be"),
        text(end="\r\n").encode(),
        text(end="\r").encode(),
        text(separator=", ").encode(),
        text(separator=" , ").encode(),
        text(header="file_name,label").encode(),
        text().replace(",", ',"').replace("\n", '"\n').replace('file,"label"', "file,label").encode(),
    ],
    ids=["utf-8", "mark", "utf-16", "utf-16 big", "crlf", "cr", "space", "spaces", "file_name", "quotes"],
)
def test_a_table_is_read(tmp_path: Path, content: bytes) -> None:
    data = tabled(tmp_path, content)
    assert data.class_names == ("b", "ä") and data.train.labels_N.tolist() == [1, 0, 1, 0]


@pytest.mark.parametrize("unknown", ["", " ", "-1", " -1 "])
def test_an_unknown_label_is_unknown(tmp_path: Path, unknown: str) -> None:
    content = f"file,label\n0.png,a\n1.png,b\n2.png,{unknown}\n3.png,a \n"
    data = tabled(tmp_path, content.encode())
    assert data.class_names == ("a", "b") and data.train.labels_N.tolist() == [0, 1, -1, 0]
    assert data.remarks == ("3 of 4 evaluation images have a label; metrics that need labels are over these.",)


@pytest.mark.parametrize("split", ["val", "valid", "validation", "test", "eval"])
def test_a_part_has_every_name_that_its_folder_may_have(tmp_path: Path, split: str) -> None:
    rows = f"file,label,split\n0.png,a,train\n1.png,b, train \n2.png,a,{split}\n3.png,b,{split}\n"
    (tmp_path / "labels.csv").write_text(rows)
    data = read(many(tmp_path / "images", FILES), labels=str(tmp_path / "labels.csv"))
    assert data.train.names == ("0.png", "1.png") and data.eval.names == ("2.png", "3.png")


def test_images_that_the_table_does_not_name_are_said(tmp_path: Path) -> None:
    data = tabled(tmp_path, b"file,label\n0.png,a\n1.png,b\n")
    assert data.remarks == ("2 images were that labels.csv does not name left out.",)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (text().encode("latin-1"), "is not UTF-8: byte 0xe4 in line 2 belongs to another encoding. Save it as UTF-8"),
        (
            b"file,label\n0.png,a\n1.png\n",
            "line 3 has no cell for label. Write one; a label that is not known is an empty",
        ),
        (b"file,label\n,a\n", "line 2 has no cell for file"),
        (b"file,label\n0.png,a,b\n", "line 2 has more cells than there are columns"),
        (b"file;label\n0.png;a\n", "must have the columns file and label"),
        (b"", "must have the columns file and label .* but has no columns and 0 rows"),
        (b"file,label\n0.png,a\n1.png,a\n", "must have at least two different labels, but has 1"),
        (b"file,label\n0.png,-1\n1.png,\n", "must have at least two different labels, but has 0. Write labels: none"),
        (b"\xff\xfefile", "is not UTF-8|must have the columns"),
        (b"file,label\n" + b"x" * 200_000 + b",a\n", "is no CSV table"),
    ],
)
def test_a_table_that_cannot_be_meant_is_refused(tmp_path: Path, content: bytes, words: str) -> None:
    with pytest.raises(DataError, match=words):
        tabled(tmp_path, content)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b'{"file_name": "0.png"\n', "line 1 is no JSON"),
        (b"[1]\n", "line 1 is no JSON object"),
        (b'{"name": "0.png"}\n', "line 1 has no cell for file_name|must have the column"),
    ],
)
def test_metadata_that_is_no_table_is_refused(tmp_path: Path, content: bytes, words: str) -> None:
    many(tmp_path, FILES)
    (tmp_path / "metadata.jsonl").write_bytes(content)
    with pytest.raises(DataError, match=words):
        read(tmp_path, protocol="union")
