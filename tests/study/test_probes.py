"""Probes in a study file, on the real methods."""

import importlib
from collections.abc import Callable
from pathlib import Path
from platform.study.data_limits import data_errors, probe_data_errors
from platform.study.errors import StudyErrors
from platform.study.resolved import meaning, resolved
from platform.study.study import load_study

import pytest

from trainables import pipeline, registry
from trainables.interfaces import DataShape

Write = Callable[..., Path]


@pytest.fixture(autouse=True)
def _real_pipeline(monkeypatch: pytest.MonkeyPatch, _small_pipeline: None) -> None:
    fresh = importlib.util.find_spec("trainables.pipeline")
    assert fresh is not None and fresh.loader is not None
    real = importlib.util.module_from_spec(fresh)
    fresh.loader.exec_module(real)
    for name in ("METHODS", "stages"):
        monkeypatch.setattr(pipeline, name, getattr(real, name))


def errors(write: Write, text: str) -> str:
    with pytest.raises(StudyErrors) as caught:
        load_study(write(text))
    return str(caught.value)


def test_probes_follow_the_method_and_have_settings(write: Write) -> None:
    text = "method: uad\nprobes: [knn_probe, linear_probe]\nfixed: {linear_probe.epochs: 3}\n"
    study = load_study(write(text))
    assert list(study.stages) == ["uad", "knn_probe", "linear_probe"]
    assert resolved(study)["fixed"]["linear_probe.epochs"] == 3
    assert resolved(study)["probes"] == ["knn_probe", "linear_probe"]


def test_a_study_without_probes_means_what_it_meant(write: Write) -> None:
    # What a ledger of an earlier version has written down must still be found equal.
    assert "probes" not in meaning(load_study(write("method: kmeans\n")))
    assert list(meaning(load_study(write("method: kmeans\n")))["stages"]) == ["pretext", "kmeans"]


def test_other_probes_are_another_study(write: Write) -> None:
    one, two = (load_study(write(f"method: uad\nprobes: [{name}]\n")) for name in ("knn_probe", "mlp_probe"))
    assert meaning(one) != meaning(two)


def test_the_objective_is_the_method_s_own_although_probes_come_last(write: Write) -> None:
    study = load_study(write("method: uad\nprobes: [linear_probe]\n"))
    assert (study.objective.metric, study.objective.mode) == ("uad/assignment_nmi", "max")


@pytest.mark.parametrize("metric", ["linear_probe/conv4_acc", "linear_probe/loss"])
def test_no_number_of_a_probe_is_optimized_unless_the_study_is_called_an_oracle(write: Write, metric: str) -> None:
    text = f"method: uad\nprobes: [linear_probe]\nobjective: {{metric: {metric}, mode: max}}\n"
    said = errors(write, text)
    assert "objective.metric must be label-free" in said
    assert "Take a metric of the method's own stages, or write oracle: true" in said
    assert load_study(write(text + "oracle: true\n")).oracle


def test_published_values_of_layers_are_read(write: Write) -> None:
    text = "method: uad\nprobes: [linear_probe]\nablate: {a: {published: {linear_probe/conv1_acc: 17.0}}}\n"
    assert load_study(write(text)).ablate[0].published == {"linear_probe/conv1_acc": 17.0}


@pytest.mark.parametrize(
    ("probes", "sentence"),
    [
        ("[linear_prob]", "probe 'linear_prob' does not exist. Did you mean 'linear_probe'?"),
        ("[knn_probe, knn_probe]", "probe 'knn_probe' stands twice. Take one out."),
        ("linear_probe", "probes must be a list in brackets"),
    ],
)
def test_what_is_no_list_of_probes_is_refused_with_its_line(write: Write, probes: str, sentence: str) -> None:
    said = errors(write, f"method: uad\nprobes: {probes}\n")
    assert "spc.yaml:2" in said and sentence in said


def test_a_setting_of_a_probe_that_is_not_there_is_unknown(write: Write) -> None:
    assert "linear_probe.epochs is not a setting of 'uad'" in errors(
        write, "method: uad\nfixed: {linear_probe.epochs: 3}\n"
    )


TRANSFER = "method: uad\nprobes: [knn_probe]\ndataset: digits\nprobe_dataset: {name: mnist, image_size: 8}\n"


def test_probes_may_have_a_data_set_of_their_own(write: Write) -> None:
    study = load_study(write(TRANSFER))
    assert study.probe_dataset["name"] == "mnist" and study.probe_dataset["image_size"] == 8
    assert study.dataset["name"] == "digits"
    assert resolved(study)["probe_dataset"]["name"] == "mnist"
    assert meaning(study) != meaning(load_study(write(TRANSFER.replace("mnist", "cifar10"))))
    moved = load_study(write(TRANSFER.replace("mnist,", "mnist, root: elsewhere,")))
    assert meaning(study) == meaning(moved)
    assert "probe_dataset" not in meaning(load_study(write("method: uad\nprobes: [knn_probe]\n")))


def test_a_probe_dataset_is_read_as_closely_as_the_other(write: Write) -> None:
    said = errors(write, TRANSFER.replace("image_size", "image_sise"))
    assert said.startswith("spc.yaml:4: probe_dataset.image_sise: image_sise is not a key of probe_dataset.")
    assert "image_size" in said


def test_a_probe_dataset_without_probes_is_refused(write: Write) -> None:
    said = errors(write, TRANSFER.replace("probes: [knn_probe]\n", ""))
    assert "there are none. Add probes: [linear_probe]." in said


@pytest.mark.parametrize(
    ("probed", "said"),
    [
        (DataShape(100, 50, 10, 3, 8), "images of 3 channels, but the networks of this study take images of one"),
        (DataShape(100, 50, 10, 1, 28), "images are 28 px, but the networks of this study saw 8 px. Write image_size"),
        (DataShape(100, 50, 0, 1, 8), "probes need labels, but no training image of this data set has one"),
        (DataShape(100, 50, 10, 1, 8, False, 100), "probes need labels, but no training image of this data set has"),
        (DataShape(100, 50, 10, 1, 8, False, 0, 50), "but no evaluation image of this data set has one"),
        (DataShape(100, 50, 10, 64, 1, True), "has features"),
    ],
)  # fmt: skip
def test_networks_are_probed_on_images_like_those_they_learned_from(write: Write, probed: DataShape, said: str) -> None:
    study, shape = load_study(write(TRANSFER)), DataShape(1000, 300, 10, 1, 8)
    assert probe_data_errors(study, shape, shape) == []
    (error,) = probe_data_errors(study, shape, probed)
    assert said in str(error) and "probe_dataset" in str(error)


def test_a_probe_is_bounded_by_its_own_data_set(write: Write) -> None:
    study, large = load_study(write(TRANSFER)), DataShape(100_000, 300, 10, 1, 8)
    assert data_errors(study, large, large) == []
    (error,) = data_errors(study, large, DataShape(15, 5, 10, 1, 8))
    assert "knn_probe.num_neighbors" in str(error) and "training images (15)" in str(error)


@pytest.mark.parametrize("probe", registry.probes())
@pytest.mark.parametrize(
    ("shape", "part"),
    [(DataShape(1000, 300, 0, 1, 8), "training"), (DataShape(1000, 300, 10, 1, 8, False, 0, 300), "evaluation")],
)
def test_images_without_labels_are_refused_in_one_sentence(
    write: Write, probe: str, shape: DataShape, part: str
) -> None:
    share = "" if probe == "knn_probe" else f"fixed: {{{probe}.label_share: 0.01, {probe}.batch_size: 10}}\n"
    metric = "knn_acc" if probe == "knn_probe" else "loss"
    page = f"method: kmeans\nuntil: pretext\nprobes: [{probe}]\noracle: true\n"
    study = load_study(write(f"{page}{share}objective: {{metric: {probe}/{metric}, mode: max}}\n"))
    assert [str(error) for error in data_errors(study, shape)] == [
        "spc.yaml:3: probes: probes learn from the labels of training images and are judged by those of evaluation "
        f"images, but no {part} image has one. Take probes out, or set probe_dataset to images with labels."
    ]
    assert data_errors(study, DataShape(1000, 300, 10, 1, 8)) == []


@pytest.mark.parametrize("method", sorted(pipeline.METHODS))
@pytest.mark.parametrize("probe", registry.probes())
def test_a_probe_after_a_method_without_a_backbone_is_refused_before_anything_starts(
    write: Write, method: str, probe: str
) -> None:
    text = f"method: {method}\nprobes: [{probe}]\n"
    if any(map(registry.leaves_backbone, pipeline.METHODS[method])):
        assert load_study(write(text)).probes == (probe,)
    else:
        assert f"no stage of '{method}' leaves a backbone for a probe to judge. Take probes out." in errors(write, text)


def test_a_row_whose_method_leaves_no_backbone_is_refused_where_it_names_it(write: Write) -> None:
    text = "method: scan\nprobes: [linear_probe]\nablate:\n  a: {}\n  b: {method: dec}\n"
    sentence = "no stage of 'dec' leaves a backbone for a probe to judge. Take probes out."
    assert errors(write, text) == f"spc.yaml:5: ablate.b.method: {sentence}"
