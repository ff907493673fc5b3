"""Every method and every kind of page over images without labels, and over images of which few have one.

Each study is drawn, trained in this process, reported, and sent to Optuna's database and to a tracker.
"""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from platform.ledger.ledger import Ledger
from platform.ledger.rows import DONE
from platform.reports import content, importance, writer
from platform.reports.summarize import summarize
from platform.reports.summary import Summary
from platform.run.trial_queue import TrialQueue
from platform.search import importances
from platform.study.data_limits import data_errors
from platform.study.plan import shared_parts
from platform.study.resolved import meaning, resolved
from platform.study.study import Study
from platform.tracking.optuna_export import export

import numpy as np
import optuna
import pytest
import torch
import yaml
from PIL import Image

from trainables import pipeline, registry, settings
from trainables.data import datasets
from trainables.interfaces import ImageData
from trainables.label_metrics import looks_at_labels
from trainables.runner import runtime
from trainables.runner.pipeline_runner import PipelineRunner

NUM_IMAGES, NUM_PATTERNS = 80, 3
LABELED = range(0, NUM_IMAGES, 20)
"""Of the partly labeled set: one image in twenty."""

LABEL_FREE = sorted(method for method in pipeline.METHODS if not pipeline.trains_on_labels(method))
ON_LABELS = sorted(method for method in pipeline.METHODS if pipeline.trains_on_labels(method))
FEW_LABELS = {
    f"simgcd.{name}": value for name, value in {"known_classes": 2, "labeled_share": 0.7}.items()
}  # without these no image keeps a label
KINDS: Mapping[str, Mapping[str, object]] = {
    "grid": {"search": {"kmeans.num_clusters": [2, 3]}, "sampler": "grid"},
    "tpe": {"search": {"kmeans.num_clusters": {"int": [2, 5]}}, "sampler": {"name": "tpe", "startup": 2}, "trials": 4},
    "two objectives": {
        "search": {"kmeans.num_clusters": [2, 3]},
        "sampler": "grid",
        "objective": [
            {"metric": "kmeans/mean_squared_distance", "mode": "min"},
            {"metric": "kmeans/cluster_share_max", "mode": "min"},
        ],
    },
    "rows": {"ablate": {"all": {}, "few": {"kmeans.num_clusters": 2, "published": {"acc": 77.9}}}},
    "rows of methods": {
        "ablate": {
            "k-means": {"published": {"acc": 77.9, "nmi": 50}},
            "SCAN": {"method": "scan_loss"},
            "RotNet": {"pretext": "rotnet"},
        }
    },
    "one factor": {"ablate": {"mode": "one_factor", "values": {"kmeans.num_clusters": [2, 3]}}},
}


def picture(number: int) -> Image.Image:
    """One of three patterns, with noise."""
    levels_HW = np.random.default_rng(number).integers(0, 60, (8, 8), dtype=np.uint8)
    places = (np.s_[:3], np.s_[:, :3], np.s_[3:, 3:])
    levels_HW[places[number % NUM_PATTERNS]] += 180
    return Image.fromarray(levels_HW).convert("RGB")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root: Path = tmp_path_factory.mktemp("images")
    for number in range(NUM_IMAGES):
        picture(number).save(root / f"{number:03}.png")
    names = [f"{number:03}.png,{number % NUM_PATTERNS if number in LABELED else ''}" for number in range(NUM_IMAGES)]
    (root / "labels.csv").write_text("file,label\n" + "\n".join(names))
    return root


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One storage for all, which share their pretexts."""
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def page(folder: Path, method: str, *, labels: bool, **more: object) -> str:
    fixed: dict[str, object] = {}
    for slot, stage in pipeline.stages(method).items():
        counting = set(settings.active(settings.build(stage.Config, stage.TINY)))
        values = {name: 3 for name in ("num_clusters", "final_clusters")} | dict(stage.TINY)
        fixed |= {f"{slot}.{name}": value for name, value in values.items() if name in counting}
    dataset: dict[str, object] = {"name": "folder", "root": str(folder), "protocol": "union"}
    if labels:
        dataset["labels"] = str(folder / "labels.csv")
    searched = more.get("search", {})
    assert isinstance(searched, Mapping)
    fixed = {name: value for name, value in fixed.items() if name not in searched}
    body = {"method": method, "dataset": dataset, "seeds": [0, 1], "fixed": fixed, **more}
    return yaml.safe_dump(body, sort_keys=False)


def loaded(study: Study) -> ImageData:
    return datasets.load(datasets.Spec(**study.dataset))


def run(study: Study, storage: Path, ledger: Ledger) -> TrialQueue:
    """The study from its first draw to its last, one trial after another."""
    data = loaded(study)
    assert not data_errors(study, data.shape)
    facts = {"data": list(data.remarks)}
    launch = ledger.open_launch(study.name, meaning(study), resolved(study), lookahead=2, facts=facts)
    queue = TrialQueue(
        ledger, launch, study, fingerprints={"fingerprint": data.fingerprint}, shared=shared_parts(study),
        storage=str(storage),
    )  # fmt: skip
    runner = PipelineRunner(str(storage), runtime.SingleProcess(), runtime.local().search)
    while (found := queue.next()) is not None:
        key, trial_spec = found
        queue.on_start(key)
        queue.on_done(key, runner.walk(trial_spec, lambda slot, epoch: None))
    return queue


def reported(study: Study, storage: Path, folder: Path) -> Summary:
    """Run a study, look at every trial, write its reports and Optuna's copy."""
    ledger = Ledger(folder / "ledger.db")
    queue = run(study, storage, ledger)
    assert queue.finished and queue.trials
    for trial in queue.trials:
        assert trial.state == DONE, trial.error
        assert all(math.isfinite(value) for value in (trial.metrics or {}).values())
        assert not [note for stage in trial.stages for note in stage.notes]
    summary = importance.with_importances(summarize(ledger, queue.launch.id), importances.importances)
    for path in writer.write(summary, storage):
        assert path.stat().st_size
        if path.suffix in (".csv", ".md"):
            assert "nan" not in re.split(r"\W+", path.read_text().lower())
    export(ledger, queue.launch.id, folder / "optuna.db")
    exported = optuna.load_study(study_name=study.name, storage=f"sqlite:///{folder / 'optuna.db'}")
    assert len(exported.trials) == len(queue.configurations)
    ledger.close()
    return summary


def label_metrics(summary: Summary) -> set[str]:
    return {name for row in summary.configurations for name in row.metrics if looks_at_labels(name)}


@pytest.mark.parametrize("method", LABEL_FREE)
def test_a_method_runs_without_labels(
    make_study: Callable[[str], Study], folder: Path, storage: Path, tmp_path: Path, method: str
) -> None:
    summary = reported(make_study(page(folder, method, labels=False)), storage, tmp_path)
    assert label_metrics(summary) == set() and summary.best is not None
    assert "No image has a label, so there is no metric that needs labels." in content.headline(summary)


@pytest.mark.parametrize("method", sorted(pipeline.METHODS))
def test_a_method_runs_with_labels_of_one_image_in_twenty(
    make_study: Callable[[str], Study], folder: Path, storage: Path, tmp_path: Path, method: str
) -> None:
    text = page(folder, method, labels=True)
    if method in ON_LABELS:
        text = text.replace("fixed:\n", "fixed:\n" + "".join(f"  {k}: {v}\n" for k, v in FEW_LABELS.items()))
    summary = reported(make_study(text), storage, tmp_path)
    assert {"acc", "nmi", "ari"} <= label_metrics(summary)
    few = f"{len(LABELED)} of {NUM_IMAGES} evaluation images have a label; metrics that need labels are over these."
    assert few in content.headline(summary)


@pytest.mark.parametrize("labels", [False, True], ids=["no labels", "few labels"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_page_of_every_kind_runs(
    make_study: Callable[[str], Study], folder: Path, storage: Path, tmp_path: Path, kind: str, labels: bool
) -> None:
    more = dict(KINDS[kind])
    text = page(folder, "kmeans", labels=labels, **more)
    if kind == "rows of methods":
        for slot in ("neighbors", "scan"):
            tiny = pipeline.load(slot).TINY
            text = text.replace("fixed:\n", "fixed:\n" + "".join(f"  {slot}.{k}: {v}\n" for k, v in tiny.items()), 1)
        text = text.replace("fixed:\n", "fixed:\n  scan.num_clusters: 3\n", 1)
    summary = reported(make_study(text), storage, tmp_path)
    assert bool(label_metrics(summary)) == labels and summary.best is not None


def test_probes_learn_from_the_images_that_have_a_label(
    make_study: Callable[[str], Study], folder: Path, storage: Path, tmp_path: Path
) -> None:
    text = page(folder, "kmeans", labels=True, probes=list(registry.probes()))
    for probe in registry.probes():
        stage = pipeline.load(probe)
        counting = set(settings.active(settings.build(stage.Config, stage.TINY)))
        tiny = "".join(f"  {probe}.{name}: {value}\n" for name, value in stage.TINY.items() if name in counting)
        text = text.replace("fixed:\n", "fixed:\n" + tiny, 1)
    summary = reported(make_study(text), storage, tmp_path)
    assert {f"{probe}/" for probe in registry.probes()} <= {
        name.rpartition("/")[0] + "/" for name in label_metrics(summary)
    }


@pytest.mark.parametrize(
    "method", [each for each in LABEL_FREE if any(map(registry.leaves_backbone, pipeline.METHODS[each]))]
)
@pytest.mark.parametrize("probe", registry.probes())
def test_probes_of_images_without_labels_are_refused(
    make_study: Callable[[str], Study], folder: Path, method: str, probe: str
) -> None:
    study = make_study(page(folder, method, labels=False, probes=[probe]))
    # Another may be that the probe's usual batch is larger than so few images.
    (error,) = [each for each in data_errors(study, loaded(study).shape) if "probes learn" in str(each)]
    assert "probes learn from the labels of training images" in str(error) and "no training image has one" in str(error)


@pytest.mark.parametrize("method", ON_LABELS)
def test_a_method_that_trains_on_labels_is_refused_without_them(
    make_study: Callable[[str], Study], folder: Path, method: str
) -> None:
    study = make_study(page(folder, method, labels=False))
    (error,) = data_errors(study, loaded(study).shape)
    assert "needs labels" in str(error) and "no training image has one; take another method" in str(error)


@pytest.mark.parametrize("method", LABEL_FREE)
def test_as_many_clusters_as_classes_is_refused_where_no_class_is_known(
    make_study: Callable[[str], Study], folder: Path, method: str
) -> None:
    body = yaml.safe_load(page(folder, method, labels=False))
    body["fixed"] = {
        name: value
        for name, value in body["fixed"].items()
        if name.split(".")[-1] not in ("num_clusters", "final_clusters")
    }
    study = make_study(yaml.safe_dump(body))
    wanted = {
        f"{slot}.{name}"
        for slot, stage in study.stages.items()
        for name in ("num_clusters", "final_clusters")
        if name in settings.rules(stage.Config)
    }
    if "scan" in study.stages:
        wanted.discard("kmeans.num_clusters")  # the baseline has as many as SCAN
    errors = [str(each) for each in data_errors(study, loaded(study).shape)]
    assert len(errors) == len(wanted)
    for name in wanted:
        assert any(
            f"{name} is 0, as many as there are classes, but the data set has no labels; set a number" in each
            for each in errors
        )


@pytest.mark.parametrize("metric", ["kmeans/acc", "kmeans/nmi", "pretext/knn_acc"])
def test_ranking_by_a_metric_that_needs_labels_is_refused_without_them(
    make_study: Callable[[str], Study], folder: Path, metric: str
) -> None:
    objective = {"metric": metric, "mode": "max"}
    study = make_study(page(folder, "kmeans", labels=False, objective=objective, oracle=True))
    (error,) = data_errors(study, loaded(study).shape)
    assert f"{metric} needs labels, but no training image has one. Rank by a metric without labels." in str(error)


def test_ranking_by_the_accuracy_of_evaluation_images_needs_their_labels(
    make_study: Callable[[str], Study], folder: Path
) -> None:
    objective = {"metric": "kmeans/acc", "mode": "max"}
    study = make_study(page(folder, "kmeans", labels=True, objective=objective, oracle=True))
    shape = loaded(study).shape
    assert data_errors(study, shape) == []
    (error,) = data_errors(study, replace(shape, num_eval_unlabeled=shape.num_eval))
    assert "kmeans/acc needs labels, but no evaluation image has one" in str(error)
