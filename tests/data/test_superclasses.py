"""A table of super-classes: what it makes of a data set, and the one text that refuses a wrong one."""

from pathlib import Path
from platform import sweep

import numpy as np
import pytest
import torch

from tests.data.test_datasets import picture
from trainables.data.datasets import Spec, load, located, meaning
from trainables.data.loaded import DataError
from trainables.figures import of_results
from trainables.interfaces import ImageData, Result
from trainables.settings import values

CLASSES = ("ant", "bee", "cobra", "dachshund", "eel")
GROUPS = {"ant": "insects", "bee": "insects", "cobra": "snakes", "dachshund": "dogs", "eel": ""}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two images of each of five classes to train on and to judge, in the layout of ImageNet."""
    folder: Path = tmp_path_factory.mktemp("images")
    for part in ("train", "val"):
        for level, name in enumerate(CLASSES):
            for index in range(2):
                picture(folder / part / name / f"{index}.png", level=10 * level + index)
    return folder


def written(folder: Path, rows: dict[str, str], separator: str = ",", header: str = "class,superclass") -> str:
    table = folder / ("groups.tsv" if separator == "\t" else "groups.csv")
    lines = [separator.join(header.split(",")), *(separator.join(row) for row in rows.items())]
    table.write_text("\n".join(lines) + "\n")
    return str(table)


def loaded(root: Path, table: str, name: str = "folder", **changes: str) -> ImageData:
    return load(Spec(name=name, root=str(root), image_size=8, superclasses=table, **changes))  # type: ignore[arg-type]


@pytest.mark.parametrize("separator", [",", "\t", " , "])
@pytest.mark.parametrize("name", ["folder", "imagenet"])
def test_each_class_has_the_super_class_of_its_line(root: Path, tmp_path: Path, name: str, separator: str) -> None:
    data = loaded(root, written(tmp_path, GROUPS, separator), name)
    assert (data.class_names, data.class_groups) == (CLASSES, (0, 0, 1, 2, -1))


def test_super_classes_stand_in_the_order_of_the_table(root: Path, tmp_path: Path) -> None:
    backwards = dict(reversed(GROUPS.items()))
    assert loaded(root, written(tmp_path, backwards)).class_groups == (2, 2, 1, 0, -1)


def test_other_columns_are_passed_over(root: Path, tmp_path: Path) -> None:
    table = tmp_path / "groups.csv"
    table.write_text("superclass,words,class\n" + "".join(f"{group},a b,{name}\n" for name, group in GROUPS.items()))
    assert loaded(root, str(table)).class_groups == (0, 0, 1, 2, -1)


def test_a_table_of_all_classes_serves_a_part_of_them(root: Path, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("ant\ncobra\n")
    data = loaded(root, written(tmp_path, GROUPS), "imagenet", classes=str(tmp_path / "list.txt"))
    assert (data.class_names, data.class_groups) == (("ant", "cobra"), (0, 1))


def test_the_confusion_figure_is_of_the_classes_in_super_classes(root: Path, tmp_path: Path) -> None:
    data = loaded(root, written(tmp_path, GROUPS))
    rows_NC = torch.nn.functional.one_hot(data.eval.labels_N, 5).float()
    found = of_results.clustering(Result(arrays={"probabilities_eval": rows_NC.numpy()}), data, [])
    drawn = np.asarray(found["confusion"].draw().axes[0].images[0].get_array())
    np.testing.assert_array_equal(drawn, np.eye(4))


def test_figures_alone_look_at_it_so_the_images_and_the_study_stay_the_same(root: Path, tmp_path: Path) -> None:
    fields = {"name": "folder", "root": str(root), "image_size": 8}
    table = written(tmp_path, GROUPS)
    assert loaded(root, table).fingerprint == loaded(root, "").fingerprint
    assert meaning({**fields, "superclasses": table}) == meaning(fields)


def test_its_path_does_not_depend_on_the_current_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    fields = values(Spec(name="folder", superclasses="groups.csv"))
    assert located(fields)["superclasses"] == str(tmp_path / "groups.csv")


def test_everything_that_is_wrong_is_in_one_text(root: Path, tmp_path: Path) -> None:
    table = tmp_path / "groups.csv"
    table.write_text("class,superclass\nant,insects\nbie,insects\nant,dogs\nwhale,\ncobra,snakes\neel,fish\n")
    with pytest.raises(DataError) as caught:
        loaded(root, str(table))
    assert str(caught.value).splitlines() == [
        f"{table}: line 3 names 'bie', which is no class of this data set. Did you mean 'bee'?",
        f"{table}: line 4 names 'ant' a second time. Name each class once.",
        f"{table}: line 5 names 'whale', which is no class of this data set. Take the line out.",
        f"{table}: the class 'bee' is missing. Add a line; an empty superclass leaves it out of the figure.",
        f"{table}: the class 'dachshund' is missing. Add a line; an empty superclass leaves it out of the figure.",
    ]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "is not a file. It is a CSV table with the columns class and superclass"),
        ("", "must have the columns class and superclass in its first line, but has none"),
        ("class;superclass\nant;insects\n", "but has class;superclass. Tabs separate them in a .tsv file, commas in"),
        ("class,group\nant,insects\n", "but has class, group."),
        ("class,superclass\n" + "".join(f"{name},one\n" for name in CLASSES), "in at least two super-classes"),
        ("class,superclass\n" + "".join(f"{name}\n" for name in CLASSES), "in at least two super-classes"),
    ],
)  # fmt: skip
def test_what_is_no_such_table_is_refused(root: Path, tmp_path: Path, content: str | None, said: str) -> None:
    if content is not None:
        (tmp_path / "groups.csv").write_text(content)
    with pytest.raises(DataError) as caught:
        loaded(root, str(tmp_path / "groups.csv"))
    assert said in str(caught.value)


def test_images_without_labels_have_no_super_classes(root: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="but no image of this data set has a label. Take it out."):
        loaded(root, written(tmp_path, GROUPS), labels="none", protocol="union")


def test_a_sweep_refuses_a_wrong_table_before_anything_starts(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = written(tmp_path, {name: group for name, group in GROUPS.items() if name != "bee"})
    page = tmp_path / "page.yaml"
    page.write_text(
        f"method: kmeans\nfixed: {{pretext.batch_size: 8}}\n"
        f"dataset: {{name: folder, root: {root}, image_size: 8, superclasses: {table}}}\n"
    )
    assert sweep.main([str(page), "--dry-run", "--storage", str(tmp_path / "runs")]) == 2
    assert f"{table}: the class 'bee' is missing. Add a line" in capsys.readouterr().err
    written(tmp_path, GROUPS)
    assert sweep.main([str(page), "--dry-run", "--storage", str(tmp_path / "runs")]) == 0
