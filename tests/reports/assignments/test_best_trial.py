"""The answer of a study: written once, anew when names or the best trial change, never at the cost of the report."""

import csv
import json
from pathlib import Path
from platform import report
from platform.reports.assignments import best_trial

import numpy as np
import pytest

from tests.fixtures.clustered import NUM_IMAGES, MakeClustered
from trainables.data import datasets
from trainables.store.artifacts import Store


def table(folder: Path) -> list[dict[str, str]]:
    with (folder / "assignments.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("protocol", ["split", "union"])
def test_every_image_is_in_the_table_with_the_cluster_that_the_trial_stored(
    make_clustered: MakeClustered, protocol: str
) -> None:
    study = make_clustered(protocol=protocol)
    files = best_trial.of_study(study.summary(), study.storage)
    assert [path.parent.name for path in files] == ["mine"] * 3
    rows = table(study.storage / "mine")
    data = datasets.load(datasets.Spec(**study.trial_spec["dataset"]))
    result = Store(study.storage).get(study.trial.stages[-1].result_name)
    assert result is not None and len(rows) == NUM_IMAGES
    parts = [("train+eval", data.train)] if protocol == "union" else [("train", data.train), ("eval", data.eval)]
    for part, split in parts:
        probabilities_NC = result.arrays[f"probabilities_{'eval' if part == 'eval' else 'train'}"]
        own = [row for row in rows if row["part"] == part]
        assert [row["file"].removeprefix("'") for row in own] == list(split.names)
        assert [int(row["cluster"]) for row in own] == np.asarray(probabilities_NC).argmax(1).tolist()
        assert [row["label"] for row in own] == [data.class_names[label] for label in split.labels_N.tolist()]
        assert all((study.images / name).is_file() for name in split.names)


def test_it_is_written_once_and_anew_with_names(make_clustered: MakeClustered) -> None:
    study = make_clustered()
    folder, summary = study.storage / "mine", study.summary()
    files = best_trial.of_study(summary, study.storage)
    before = [path.stat().st_mtime_ns for path in files]
    assert best_trial.of_study(summary, study.storage) == files
    assert [path.stat().st_mtime_ns for path in files] == before
    result = study.trial.stages[-1].result_name
    cluster = table(folder)[0]["cluster"]
    (folder / "cluster_names.json").write_text(json.dumps({"result": result, "names": {cluster: "bright"}}))
    assert report.main(["mine", "--storage", str(study.storage)]) == 0
    assert table(folder)[0]["cluster_name"] == "bright"
    assert '"bright"' in (folder / "gallery.html").read_text()


def test_names_of_another_model_are_not_used_and_said(make_clustered: MakeClustered) -> None:
    study = make_clustered()
    folder = study.storage / "mine"
    folder.mkdir()
    (folder / "cluster_names.json").write_text(json.dumps({"result": "cc-other", "names": {"0": "wrong"}}))
    with pytest.warns(UserWarning, match="names the clusters of cc-other"):
        best_trial.of_study(study.summary(), study.storage)
    assert {row["cluster_name"] for row in table(folder)} == {""}


def test_images_that_are_gone_or_changed_cost_the_answer_alone(
    make_clustered: MakeClustered, capsys: pytest.CaptureFixture[str]
) -> None:
    study = make_clustered()
    next((study.images / "top").iterdir()).unlink()
    with pytest.warns(UserWarning, match="no longer those that the study was started on"):
        assert report.main(["mine", "--storage", str(study.storage)]) == 0
    assert (study.storage / "mine" / "report.html").exists()
    assert not (study.storage / "mine" / "gallery.html").exists()
    assert "gallery" not in capsys.readouterr().out


def test_a_ledger_without_results_has_no_answer(make_clustered: MakeClustered) -> None:
    study = make_clustered()
    Store(study.storage).discard(study.trial.stages[-1].result_name)
    assert best_trial.of_study(study.summary(), study.storage) == []
