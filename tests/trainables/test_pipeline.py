"""Methods as stages in order, and what their settings forbid each other."""

import dataclasses
from pathlib import Path

import pytest

from trainables import pipeline, registry, settings
from trainables.interfaces import DataShape
from trainables.maths import metrics

METHODS = sorted(pipeline.METHODS)
STAGES = sorted(
    path.stem for path in (Path(pipeline.__file__).parent / "stages").glob("*.py") if path.stem != "__init__"
)
DIGITS = DataShape(1437, 360, 10, 1, 8)


def test_stage_files_were_found() -> None:
    assert len(STAGES) >= 6


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_has_every_name_of_the_contract(name: str) -> None:
    stage = pipeline.load(name)
    assert pipeline.name_of(stage) == name
    assert isinstance(stage.NAMESPACE, str) and isinstance(stage.VERSION, int)
    assert callable(stage.limits) and callable(stage.train)
    assert len(set(stage.METRICS)) == len(stage.METRICS)


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_s_criterion_is_a_metric_of_its_own_that_looks_at_no_labels(name: str) -> None:
    stage = pipeline.load(name)
    if stage.CRITERION is None:
        return
    metric, mode = stage.CRITERION
    assert metric in stage.METRICS and mode in ("min", "max")
    assert not metrics.looks_at_labels(metric)


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_s_defaults_obey_their_own_rules(name: str) -> None:
    assert pipeline.load(name).Config() is not None


@pytest.mark.parametrize("name", STAGES)
def test_every_condition_of_a_setting_names_a_setting_and_a_value_it_may_have(name: str) -> None:
    config = pipeline.load(name).Config
    known = settings.rules(config)
    for rule in known.values():
        for other, values in rule.when.items():
            assert other in known
            assert all(settings.fault(config, other, value) is None for value in values)


@pytest.mark.parametrize("method", METHODS)
def test_a_stage_reads_only_what_came_before_it(method: str) -> None:
    seen: set[str] = set()
    for slot, stage in pipeline.stages(method).items():
        assert set(stage.INPUTS) <= seen
        seen.add(slot)


def test_no_method_holds_a_probe() -> None:
    assert not {name for names in pipeline.METHODS.values() for name in names} & set(registry.probes())


@pytest.mark.parametrize(
    ("method", "slot"),
    [
        ("kmeans", "pretext"),
        ("scan", "selflabel"),
        ("scan_loss", "scan"),
        ("spc", "spc"),
        ("uad", "uad"),
        ("swav", "swav"),
        ("simgcd", "simgcd"),
    ],
)
def test_a_probe_judges_the_last_stage_that_leaves_a_backbone(method: str, slot: str) -> None:
    by_slot = pipeline.stages(method, "", ("linear_probe", "knn_probe"))
    assert list(by_slot)[-2:] == ["linear_probe", "knn_probe"]
    assert pipeline.inputs(by_slot, "linear_probe") == pipeline.inputs(by_slot, "knn_probe") == {"probed": slot}


def test_a_probe_without_a_backbone_before_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "METHODS", {"bare": ("kmeans",)})
    by_slot = pipeline.stages("bare", "", ("knn_probe",))
    with pytest.raises(LookupError, match="no stage of this pipeline leaves a backbone for knn_probe to judge"):
        pipeline.inputs(by_slot, "knn_probe")


@pytest.mark.parametrize("name", registry.probes())
def test_every_number_of_a_probe_is_known_to_look_at_labels(name: str) -> None:
    stage = pipeline.load(name)
    assert all(metrics.looks_at_labels(f"{stage.NAMESPACE}/{metric}") for metric in stage.METRICS)
    assert stage.CRITERION is None


def test_a_probe_s_settings_and_limits_carry_its_slot() -> None:
    built = pipeline.configs("uad", "", {"linear_probe.epochs": 5}, ("linear_probe",))
    assert built["linear_probe"].epochs == 5
    small = dataclasses.replace(DIGITS, num_train=200)
    assert "linear_probe.batch_size" in dict(pipeline.limits("uad", "", built, small, ("linear_probe",)))


def test_slots_are_in_the_order_of_the_method() -> None:
    assert list(pipeline.stages("spc")) == ["pretext", "neighbors", "kmeans", "scan", "spc"]


def test_changes_reach_the_config_of_their_slot_alone() -> None:
    built = pipeline.configs("scan", "", {"scan.optimizer.lr": 0.5})
    assert built["scan"].optimizer.lr == 0.5
    assert built["pretext"] == pipeline.load("simclr").Config()


def test_a_bad_change_is_refused() -> None:
    with pytest.raises(settings.SettingsError, match="strong_threshold must be above 0 and below 1"):
        pipeline.configs("spc", "", {"spc.strong_threshold": 95.0})


@pytest.mark.parametrize("pretext", registry.pretexts())
def test_every_pretext_stands_in_the_slot_of_that_name(pretext: str) -> None:
    assert pipeline.load(pretext).NAMESPACE == "pretext"
    assert pipeline.name_of(pipeline.stages("scan", pretext)["pretext"]) == pretext


def limits(shape: DataShape, method: str = "scan", **changes: settings.Plain) -> dict[str, str]:
    named = {key.replace("__", "."): value for key, value in changes.items()}
    return dict(pipeline.limits(method, "", pipeline.configs(method, "", named), shape))


def test_the_defaults_fit_digits() -> None:
    assert limits(DIGITS) == {}


def test_scan_cannot_use_more_neighbors_than_are_mined() -> None:
    found = limits(DIGITS, neighbors__num_neighbors=10, scan__num_neighbors=20)
    assert found == {
        "scan.num_neighbors": "scan.num_neighbors is 20, but only 10 are mined; raise neighbors.num_neighbors"
    }


@pytest.mark.parametrize(
    ("method", "key", "value", "sentence"),
    [
        ("scan", "pretext__batch_size", 200, "batch_size is 200, but the data set trains on 100 images"),
        (
            "scan",
            "neighbors__num_neighbors",
            100,
            "num_neighbors must be below the number of training images (100), but is 100",
        ),
        ("scan", "scan__batch_size", 101, "batch_size must be at most the number of training images (100), but is 101"),
        (
            "scan",
            "scan__num_clusters",
            101,
            "num_clusters must be at most the number of training images (100), but is 101",
        ),
        (
            "scan",
            "selflabel__batch_size",
            101,
            "batch_size must be at most the number of training images (100), but is 101",
        ),
        (
            "kmeans",
            "kmeans__num_clusters",
            101,
            "num_clusters must be at most the number of training images (100), but is 101",
        ),
        (
            "spc",
            "spc__graph_neighbors",
            100,
            "graph_neighbors must be below the number of training images (100), but is 100",
        ),
        ("spc", "spc__batch_size", 101, "batch_size must be at most the number of training images (100), but is 101"),
        (
            "spc",
            "spc__top_fraction_per_class",
            0.005,
            "top_fraction_per_class must take at least one image per cluster, but 0.005 of 100 images is less; raise "
            "it to 0.01",
        ),
    ],
)
def test_a_setting_that_the_data_set_cannot_carry_is_named(
    method: str, key: str, value: settings.Plain, sentence: str
) -> None:
    shape = dataclasses.replace(DIGITS, num_train=100, num_eval=50)
    small = {
        "pretext__batch_size": 50,
        "neighbors__num_neighbors": 20,
        "scan__batch_size": 50,
        "selflabel__batch_size": 50,
        "spc__batch_size": 50,
    }
    own = {name: each for name, each in small.items() if name.split("__")[0] in pipeline.stages(method)}
    assert limits(shape, method, **own) == {}
    assert limits(shape, method, **{**own, key: value}) == {key.replace("__", "."): sentence}


FEW = {"pretext__batch_size": 30, "neighbors__num_neighbors": 20, "scan__batch_size": 30, "spc__batch_size": 30}


@pytest.mark.parametrize(
    ("num_images", "basis", "num_clusters", "sentence"),
    [
        (33, "dataset", 10, "but 0.03 of 33 images is less; raise it to 0.031"),
        (100, "class_expected", 20, "but 0.03 of 5 images is less; raise it to 0.2"),
        (100, "class_expected", 0, "but 0.03 of 10 images is less; raise it to 0.1"),
        (100, "class_expected", 60, "but 0.03 of 1.66667 images is less; raise it to 0.6"),
        (100, "class_expected", 3, ""),
    ],
)
@pytest.mark.parametrize("num_classes", [0, 10])
def test_the_strong_set_of_spc_can_have_an_image_of_each_cluster(
    num_images: int, basis: str, num_clusters: int, sentence: str, num_classes: int
) -> None:
    shape = dataclasses.replace(DIGITS, num_train=num_images, num_eval=20, num_classes=num_classes)
    changes = {**FEW, "scan__num_clusters": num_clusters, "spc__graph_neighbors": 20}
    changes |= {"spc__top_fraction_basis": basis, "spc__top_fraction_per_class": 0.03 if sentence else 0.04}
    found = limits(shape, "spc", **changes).get("spc.top_fraction_per_class", "")
    if num_clusters == 0 and num_classes == 0:
        assert found == ""  # the number of clusters is refused instead
        return
    assert found.endswith(sentence) and bool(found) == bool(sentence)
    if sentence:
        raised = float(sentence.rpartition(" ")[2])
        assert "spc.top_fraction_per_class" not in limits(
            shape, "spc", **{**changes, "spc__top_fraction_per_class": raised}
        )


COUNTED = [
    (method, f"{slot}.{name}")
    for method in sorted(pipeline.METHODS)
    for slot, stage in pipeline.stages(method).items()
    for name in ("num_clusters", "final_clusters")
    if name in settings.rules(stage.Config) and not (slot == "kmeans" and "scan" in pipeline.stages(method))
]  # k-means beside SCAN has as many clusters as SCAN


@pytest.mark.parametrize(("method", "name"), COUNTED)
def test_as_many_clusters_as_classes_must_fit_the_images(method: str, name: str) -> None:
    shape = dataclasses.replace(DIGITS, num_train=8, num_eval=8)
    sentence = limits(shape, method)[name]
    assert "as many as the 10 classes, but there are only 8 training images" in sentence or "but is 100" in sentence
    assert name not in limits(dataclasses.replace(DIGITS, num_train=200), method)


def test_pairs_of_one_class_need_labels_of_training_images() -> None:
    changes = {"scan__same_class_only": True, "scan__num_clusters": 3}
    without = dataclasses.replace(DIGITS, num_train_unlabeled=DIGITS.num_train)
    assert "no training image has one" in limits(without, **changes)["scan.same_class_only"]
    assert limits(DIGITS, **changes) == {}


def test_the_labeled_part_of_a_batch_is_below_the_batch() -> None:
    found = limits(DIGITS, "spc", spc__mix="code", spc__labeled_batch_size=256, spc__batch_size=256)
    assert found == {"spc.labeled_batch_size": "labeled_batch_size must be below batch_size (256), but is 256"}


def test_too_few_evaluation_images_for_the_selection_loss_are_refused() -> None:
    found = limits(dataclasses.replace(DIGITS, num_eval=5))
    assert found == {"neighbors.num_neighbors": "the evaluation split has 5 images; it needs more than 5"}


def test_a_network_that_cannot_take_the_image_size_is_refused() -> None:
    assert "pretext.network" in limits(DIGITS, pretext__network="resnet18_stl")


@pytest.mark.parametrize("method", sorted(pipeline.METHODS))
def test_a_network_behind_a_sobel_filter_is_not_trained_on_without_it(method: str) -> None:
    by_slot = pipeline.stages(method)
    if pipeline.name_of(by_slot.get("pretext", next(iter(by_slot.values())))) not in registry.pretexts():
        return
    changes = {"pretext.sobel": True}
    shape = DataShape(1000, 100, 10, 1, 8)
    configs = pipeline.configs(method, "untrained", changes)
    said = [
        sentence for name, sentence in pipeline.limits(method, "untrained", configs, shape) if name.endswith("sobel")
    ]
    assert bool(said) == (method != "kmeans")
    assert all("trains the network on colors; write false, or take method: kmeans" in each for each in said)
