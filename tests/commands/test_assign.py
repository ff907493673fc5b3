"""New images by a finished study's model: the clusters of training, and one clear sentence for what cannot be."""

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path
from platform import assign
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.fixtures.clustered import NUM_IMAGES, MakeClustered, draw_images
from trainables.store.artifacts import Store

ROOT = Path(__file__).resolve().parents[2]


def table(folder: Path) -> list[dict[str, str]]:
    with (folder / "assignments.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_images_of_training_get_the_clusters_that_were_stored_even_when_they_are_gone(
    make_clustered: MakeClustered, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = make_clustered(protocol="union")
    moved = tmp_path / "moved"
    shutil.move(study.images, moved)
    assert assign.main(["mine", str(moved), "--storage", str(study.storage), "--batch", "7"]) == 0
    out = capsys.readouterr().out
    assert f"{NUM_IMAGES} images in" in out and "images/s" in out
    rows = table(study.storage / "assigned" / "mine" / "moved")
    result = Store(study.storage).get(study.trial.stages[-1].result_name)
    assert result is not None
    assert [int(row["cluster"]) for row in rows] == np.asarray(result.arrays["probabilities_eval"]).argmax(1).tolist()
    assert {row["part"] for row in rows} == {"new"}
    assert (study.storage / "assigned" / "mine" / "moved" / "gallery.html").exists()


def test_a_trial_can_be_named_and_names_of_the_study_are_used(make_clustered: MakeClustered, tmp_path: Path) -> None:
    study = make_clustered()
    folder = study.storage / "mine"
    folder.mkdir()
    names = {"result": study.trial.stages[-1].result_name, "names": {str(number): f"n{number}" for number in range(3)}}
    (folder / "cluster_names.json").write_text(json.dumps(names))
    out = tmp_path / "out"
    given = [
        "mine",
        str(study.images),
        "--storage",
        str(study.storage),
        "--trial",
        study.trial.key[:6],
        "--out",
        str(out),
    ]
    assert assign.main(given) == 0
    assert all(row["cluster_name"] == f"n{row['cluster']}" for row in table(out))


def wrong(tmp_path: Path, case: str) -> dict[str, Any]:
    """Arguments by name, and what the refusal says."""
    images = tmp_path / "new"
    images.mkdir()
    Image.new("RGB", (12, 12), (1, 2, 3)).save(images / "a.png")
    return {
        "study": {"model": "mein", "says": "Did you mean 'mine'?"},
        "folder": {"folder": str(tmp_path / "none"), "says": "is not a folder"},
        "trial": {"more": ["--trial", "0000"], "says": "no finished trial has the key '0000'"},
        "batch": {"more": ["--batch", "0"], "says": "--batch must be at least 1"},
        "run": {"model": "0" * 32, "says": "no runs of MLflow"},
        "run and trial": {"model": "0" * 32, "more": ["--trial", "abcd"], "says": "a run of MLflow is one trial"},
    }[case]


@pytest.mark.parametrize("case", ["study", "folder", "trial", "batch", "run", "run and trial"])
def test_what_is_wrong_is_said_in_one_sentence(
    make_clustered: MakeClustered, tmp_path: Path, capsys: pytest.CaptureFixture[str], case: str
) -> None:
    study, given = make_clustered(), wrong(tmp_path, case)
    command = [given.get("model", "mine"), given.get("folder", str(tmp_path / "new")), *given.get("more", [])]
    assert assign.main([*command, "--storage", str(study.storage)]) == 2
    shown = capsys.readouterr()
    assert given["says"] in shown.err and "Traceback" not in shown.err and shown.out == ""
    assert not (study.storage / "assigned").exists()


def test_images_of_another_size_are_refused_unless_they_may_be_resized(
    make_clustered: MakeClustered, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = make_clustered(image_size=0)
    larger = draw_images(tmp_path / "larger", size_px=12, num=4)
    given = ["mine", str(larger), "--storage", str(study.storage)]
    assert assign.main(given) == 2
    assert "has 12 x 12 px, but the model was trained on images of 8 x 8 px" in capsys.readouterr().err
    assert assign.main([*given, "--resize"]) == 0


def test_a_storage_without_a_ledger_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert assign.main(["mine", str(tmp_path), "--storage", str(tmp_path / "runs")]) == 2
    assert "there is no ledger.db" in capsys.readouterr().err


def test_neither_ray_nor_mlflow_is_loaded(make_clustered: MakeClustered) -> None:
    study = make_clustered()
    study.ledger.close()
    program = (
        "import sys; from platform import assign; code = assign.main(sys.argv[1:]); "
        "print([name for name in ('ray', 'mlflow', 'optuna') if name in sys.modules]); sys.exit(code)"
    )
    command = [sys.executable, "-c", program, "mine", str(study.images), "--storage", str(study.storage)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"
