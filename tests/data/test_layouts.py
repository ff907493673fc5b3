"""Image folders in every usual layout: with a table of labels, without labels, with a list of classes."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from trainables import pipeline
from trainables.data.datasets import Spec, load
from trainables.data.loaded import DataError
from trainables.interfaces import ImageData
from trainables.runner.runtime import SingleProcess, StageRuntime
from trainables.stages import kmeans, simclr
from trainables.vector_search.faiss_search import FaissSearch


def picture(path: Path, level: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    row_W = (np.arange(8) * 10 + level).astype(np.uint8)
    Image.fromarray(np.tile(row_W, (8, 1))).convert("RGB").save(path)


def flat(folder: Path, num: int = 10) -> Path:
    """Image i starts at level i."""
    for number in range(num):
        picture(folder / f"{number:02}.png", number)
    return folder


def read(root: Path, **changes: object) -> ImageData:
    return load(Spec(name="folder", root=str(root), **changes))  # type: ignore[arg-type]


def levels(data: ImageData, part: str) -> list[int]:
    found: list[int] = getattr(data, part).images_NCHW[:][:, 0, 0, 0].tolist()
    return found


def table(tmp_path: Path, text: str) -> str:
    path = tmp_path / "labels.csv"
    path.write_text(text)
    return str(path)


def test_a_table_gives_labels_in_their_sorted_order(tmp_path: Path) -> None:
    text = "file,label\n" + "".join(f"{number:02}.png,{'bee' if number % 2 else 'ant'}\n" for number in range(10))
    data = read(flat(tmp_path / "images"), labels=table(tmp_path, text), protocol="union")
    assert data.class_names == ("ant", "bee") and data.train.labels_N.tolist() == [0, 1] * 5
    assert levels(data, "train") == list(range(10))


def test_a_table_without_a_split_is_divided_class_by_class(tmp_path: Path) -> None:
    text = "file,label\n" + "".join(f"{number:02}.png,{number % 2}\n" for number in range(10))
    data = read(flat(tmp_path / "images"), labels=table(tmp_path, text))
    assert data.train.labels_N.bincount().tolist() == [4, 4] and data.eval.labels_N.bincount().tolist() == [1, 1]


def test_a_tables_split_tells_the_parts_apart_and_an_empty_label_is_unknown(tmp_path: Path) -> None:
    text = "label,split,file\nb,train,03.png\na,val,01.png\n,train,00.png\na,test,02.png\n"
    data = read(flat(tmp_path / "images"), labels=table(tmp_path, text))
    assert (levels(data, "train"), data.train.labels_N.tolist()) == ([3, 0], [1, -1])
    assert (levels(data, "eval"), data.eval.labels_N.tolist()) == ([1, 2], [0, 0])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name,label\n00.png,a\n", "must have the columns file and label .* but has name, label and 1 rows"),
        ("file,label\n", "but has file, label and 0 rows"),
        ("file,label\n00.png,a\n01.png,a\n", "must have at least two different labels, but has 1"),
        ("file,label\n00.png,a\n77.png,b\n", r"names '77.png', which is not in .* \(1 of 2 are not\)"),
        ("file,label\n00.png,a\n00.png,b\n", "line 3 names '00.png' a second time"),
        ("file,label,split\n00.png,a,train\n01.png,b,dev\n", "line 3: split must be one of train, .* but is 'dev'"),
        ("file,label,split\n00.png,a,train\n01.png,b,train\n", "holds no images to evaluate on"),
    ],
)
def test_bad_tables_are_refused(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(DataError, match=words):
        read(flat(tmp_path / "images"), labels=table(tmp_path, text))


def test_a_missing_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="labels: .*none.csv is not a file. It is a CSV table"):
        read(flat(tmp_path / "images"), labels=str(tmp_path / "none.csv"))


def test_images_alone_have_no_labels_and_are_divided(tmp_path: Path) -> None:
    data = read(flat(tmp_path))
    assert (len(data.train), len(data.eval), data.class_names) == (8, 2, ())
    assert sorted(levels(data, "train") + levels(data, "eval")) == list(range(10))
    assert data.train.labels_N.unique().tolist() == [-1] and data.shape.num_classes == 0


def test_parts_of_images_alone_have_no_labels(tmp_path: Path) -> None:
    flat(tmp_path / "train", 4)
    flat(tmp_path / "test", 3)
    data = read(tmp_path)
    assert (len(data.train), len(data.eval), data.class_names) == (4, 3, ())


def test_the_first_of_val_test_and_eval_is_judged(tmp_path: Path) -> None:
    for number, part in enumerate(("train", "test", "val")):
        for name in ("ant", "bee"):
            picture(tmp_path / part / name / "0.png", 50 * number)
    assert levels(read(tmp_path), "eval") == [100, 100]


def test_a_list_keeps_some_classes(tmp_path: Path) -> None:
    for number, name in enumerate(("ant", "bee", "cat")):
        for image in range(2):
            picture(tmp_path / "images" / name / f"{image}.png", 50 * number)
    (tmp_path / "two.txt").write_text("cat\nant\n")
    data = read(tmp_path / "images", classes=str(tmp_path / "two.txt"))
    assert data.class_names == ("ant", "cat") and levels(data, "train") == [0, 100]
    (tmp_path / "one.txt").write_text("cat\n")
    with pytest.raises(DataError, match="one.txt must list at least two classes, but lists 1"):
        read(tmp_path / "images", classes=str(tmp_path / "one.txt"))
    with pytest.raises(DataError, match="classes: .*none.txt is not a file"):
        read(tmp_path / "images", classes=str(tmp_path / "none.txt"))


def test_without_labels_the_number_of_clusters_must_be_set(tmp_path: Path) -> None:
    shape = read(flat(tmp_path)).shape
    changes = {"pretext.batch_size": 4}
    faults = dict(pipeline.limits("kmeans", "", pipeline.configs("kmeans", "", changes), shape))
    assert faults == {
        "kmeans.num_clusters": "kmeans.num_clusters is 0, as many as there are classes, but the data set has no labels;"
        " set a number"
    }
    changes["kmeans.num_clusters"] = 2
    assert not dict(pipeline.limits("kmeans", "", pipeline.configs("kmeans", "", changes), shape))


def test_images_without_labels_can_be_clustered(tmp_path: Path) -> None:
    data, results = read(flat(tmp_path, 40)), {}
    for stage, config in (
        (simclr, simclr.Config(batch_size=16, epochs=1)),
        (kmeans, kmeans.Config(num_clusters=2, restarts=1)),
    ):
        steps = stage.train(config, data, results, StageRuntime(SingleProcess(), stage.NAMESPACE, 0, FaissSearch(1)))
        try:
            while True:
                next(steps)
        except StopIteration as end:
            results[stage.NAMESPACE] = end.value
    assert results["kmeans"].arrays["probabilities_eval"].shape == (8, 2)
    assert "mean_squared_distance" in results["kmeans"].metrics
