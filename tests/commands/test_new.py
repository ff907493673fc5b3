"""A first page for a folder: what is chosen, that the page is a study, and what is refused."""

import os
from pathlib import Path
from platform import new
from platform.study.starting_page import recipe
from platform.study.starting_page.survey import Survey, surveyed
from platform.study.study import load_study

import numpy as np
import pytest
from PIL import Image

from tests.fixtures.clustered import draw_images
from trainables import pipeline
from trainables.interfaces import DataShape
from trainables.nets import backbones

CPU, GPU = recipe.Machine(2, False), recipe.Machine(16, True)


def survey(num_images: int = 1000, side_px: int = 28, is_gray: bool = True) -> Survey:
    return Survey(Path("pictures"), num_images, side_px, 1, is_gray, {})


@pytest.mark.parametrize("machine", [CPU, GPU], ids=["cpu", "gpu"])
@pytest.mark.parametrize("is_gray", [True, False])
@pytest.mark.parametrize("side_px", [5, 8, 20, 28, 32, 48, 64, 100, 224, 256, 4000])
@pytest.mark.parametrize("num_images", [40, 200, 1000, 2000, 100_000])
def test_what_is_chosen_can_be_trained(machine: recipe.Machine, is_gray: bool, side_px: int, num_images: int) -> None:
    chosen = recipe.chosen(survey(num_images, side_px, is_gray), machine)
    seen_px = {256: 224}.get(chosen.image_size_px, chosen.image_size_px)
    shape = DataShape(num_images, num_images, 0, 3, seen_px)
    backbones.check_size(backbones.resolve(chosen.network, shape), seen_px)
    assert chosen.batch_size <= num_images // 2
    assert chosen.num_neighbors < num_images
    configs = pipeline.configs(
        "scan",
        "",
        {
            "pretext.batch_size": chosen.batch_size,
            "neighbors.num_neighbors": chosen.num_neighbors,
            "scan.num_neighbors": chosen.num_neighbors,
            "scan.num_clusters": chosen.num_clusters,
            "scan.batch_size": chosen.batch_size,
            "selflabel.batch_size": chosen.batch_size,
            "pretext.network": chosen.network,
        },
    )
    assert list(pipeline.limits("scan", "", configs, shape)) == []


def test_a_small_folder_has_as_many_steps_as_a_larger_one() -> None:
    steps = [
        recipe.chosen(survey(num), CPU).pretext_epochs * (num // recipe.chosen(survey(num), CPU).batch_size)
        for num in (1000, 2000, 5000)
    ]
    assert max(steps) < 1.15 * min(steps)


@pytest.mark.parametrize(("num_images", "clusters"), [(39, 0), (100, 1), (100, 26), (100, -3)])
def test_too_few_images_for_the_clusters_are_refused(num_images: int, clusters: int) -> None:
    with pytest.raises(ValueError, match="at least"):
        recipe.chosen(survey(num_images), CPU, clusters)


def write(tmp_path: Path, folder: Path, *more: str) -> int:
    return new.main([str(folder), "--out", str(tmp_path / "page.yaml"), "--no-forecast", *more])


def test_the_page_is_a_study_with_the_classes_of_its_folders(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert write(tmp_path, draw_images(tmp_path / 'odd "name": # ü')) == 0
    study = load_study(tmp_path / "page.yaml")
    assert study.name == "odd_name" and study.method == "scan"
    assert study.dataset["root"] == str(tmp_path / 'odd "name": # ü')
    assert study.fixed["scan.num_clusters"] == 2
    assert f"python -m platform.sweep {tmp_path / 'page.yaml'}" in capsys.readouterr().out


def test_an_old_page_stays_unless_it_is_forced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = draw_images(tmp_path / "images")
    (tmp_path / "page.yaml").write_text("mine")
    assert write(tmp_path, images) == 2
    assert "Add --force" in capsys.readouterr().err and (tmp_path / "page.yaml").read_text() == "mine"
    assert write(tmp_path, images, "--force", "--clusters", "4") == 0
    assert load_study(tmp_path / "page.yaml").fixed["scan.num_clusters"] == 4


@pytest.mark.parametrize("case", ["none", "empty", "broken", "few"])
def test_a_folder_that_cannot_be_used_is_refused_and_nothing_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], case: str
) -> None:
    folder = tmp_path / "folder"
    if case != "none":
        folder.mkdir()
    if case == "broken":
        (folder / "a.png").write_bytes(b"no image")
    if case == "few":
        draw_images(folder, num=4)
    assert write(tmp_path, folder) == 2
    says = {
        "none": "is not a folder",
        "empty": "holds no image",
        "broken": "a.png is no readable",
        "few": "at least 40",
    }
    assert says[case] in capsys.readouterr().err
    assert not (tmp_path / "page.yaml").exists()


def test_gray_is_seen_in_any_mode_and_class_folders_only_where_all_images_lie_in_one(tmp_path: Path) -> None:
    for number, mode in enumerate(("L", "RGB", "RGBA", "P")):
        Image.fromarray(np.full((9, 12), 50 * number, np.uint8)).convert(mode).save(tmp_path / f"{mode}.png")
    seen = surveyed(tmp_path)
    assert (seen.num_images, seen.side_px, seen.is_gray, seen.class_folders) == (4, 9, True, {})
    draw_images(tmp_path)
    assert surveyed(tmp_path).class_folders == {} and not surveyed(tmp_path).is_gray
    for name in os.listdir(tmp_path):
        if name.endswith(".png"):
            (tmp_path / name).unlink()
    assert surveyed(tmp_path).class_folders == {"left": 20, "top": 20}


def test_files_that_cannot_be_read_are_left_out_by_the_page(tmp_path: Path) -> None:
    images = draw_images(tmp_path / "images")
    (images / "top" / "a.png").write_bytes(b"no image")
    assert write(tmp_path, images) == 0
    assert load_study(tmp_path / "page.yaml").dataset["skip_unreadable"] is True
