"""What every stage says of itself, held against what it does: each is trained once, with its own TINY settings.

A new stage needs no entry here: it is found by its file, and its inputs by the method that it stands in.
"""

import copy
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from trainables import pipeline, registry, settings
from trainables.data import augment
from trainables.data.batch_random import BatchRandom
from trainables.inference import model_input
from trainables.interfaces import ImageData, Result, Split
from trainables.maths import metrics
from trainables.nets import backbones, checkpoints, models
from trainables.runner.runtime import SingleProcess, StageRuntime
from trainables.vector_search.faiss_search import FaissSearch

Trained = Any
REFINED = "refined_eval"
"""What a stage with refined assignments may leave beside its ARRAYS."""

TRAINED = [name for name in registry.names() if "epochs" in settings.rules(pipeline.load(name).Config)]
LABEL_FREE = [name for name in TRAINED if not registry.trains_on_labels(name) and not registry.is_probe(name)]
ON_VIEWS = [name for name in registry.pretexts() if "augmentation" in settings.rules(pipeline.load(name).Config)]
CLUSTERINGS = [name for name in registry.names() if "probabilities_eval" in registry.literals(name)["ARRAYS"]]
WITHOUT_NETWORK = {"kmeans"}
"""Clusterings of what another stage left; they have no network of their own."""


@pytest.fixture(scope="session")
def trained(
    train: Callable[..., Trained], data: ImageData, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Trained]:
    """trained(name): a stage after its TINY settings, behind the tiny stages of the first method that holds it."""

    def changes(name: str) -> Mapping[str, Any]:
        if name != "checkpoint":
            return {}
        file = tmp_path_factory.mktemp("checkpoint") / "weights.pt"
        torch.save(dict(one("simclr").result.weights["backbone"]), file)
        return {"path": str(file), "sha256": checkpoints.digest(file)}

    @cache
    def one(name: str) -> Trained:
        stage: Any = pipeline.load(name)
        config = settings.build(stage.Config, {**stage.TINY, **changes(name)})
        assert not dict(stage.limits(config, data.shape))
        return train(stage, config, data, {slot: one(other).result for slot, other in inputs(name).items()})

    return one


def inputs(name: str) -> dict[str, str]:
    """Slot -> stage of everything that a stage reads."""
    if registry.is_probe(name):
        return {registry.PROBED: "simclr"}
    if not pipeline.load(name).INPUTS:
        return {}
    method = next(names for names in pipeline.METHODS.values() if name in names)
    by_slot = {pipeline.load(each).NAMESPACE: each for each in method}
    return {slot: by_slot[slot] for slot in pipeline.load(name).INPUTS}


@pytest.mark.parametrize("name", registry.names())
def test_a_stage_leaves_what_it_says(trained: Callable[[str], Trained], name: str) -> None:
    stage, result = pipeline.load(name), trained(name).result
    assert set(result.weights) == set(stage.WEIGHTS)
    assert set(result.arrays) - {REFINED} == set(stage.ARRAYS)
    assert set(result.facts) == set(stage.FACTS)


@pytest.mark.parametrize("name", registry.names())
def test_a_stage_reports_names_of_its_metrics_alone_and_its_criterion_at_the_end(
    trained: Callable[[str], Trained], name: str
) -> None:
    stage, done = pipeline.load(name), trained(name)
    reported = set(done.result.metrics) | {key for epoch in done.epochs for key in epoch.metrics}
    assert reported and reported <= set(stage.METRICS)
    assert stage.CRITERION is None or stage.CRITERION[0] in done.result.metrics


@pytest.mark.parametrize("name", registry.names())
def test_a_stage_that_says_so_leaves_a_backbone_that_a_probe_can_judge(
    trained: Callable[[str], Trained], train: Callable[..., Trained], data: ImageData, name: str
) -> None:
    probe: Any = pipeline.load("knn_probe")
    result = trained(name).result
    if registry.leaves_backbone(name):
        judged = train(probe, settings.build(probe.Config, probe.TINY), data, {"probed": result}).result
        assert 0 <= judged.metrics["knn_acc"] <= 1
    elif not registry.is_probe(name):
        with pytest.raises(ValueError, match="left no backbone behind"):
            train(probe, settings.build(probe.Config, probe.TINY), data, {"probed": result})


def test_the_pretexts_on_views_were_found() -> None:
    assert {"simclr", "moco", "rotnet", "instdisc"} <= set(ON_VIEWS)


@pytest.mark.parametrize("name", ON_VIEWS)
def test_every_pretext_on_views_says_how_far_they_move_the_features_in_which_neighbors_are_mined(
    trained: Callable[[str], Trained], data: ImageData, name: str
) -> None:
    stage: Any = pipeline.load(name)
    result = trained(name).result
    backbone = backbones.build(result.facts["network"], in_channels=1, image_size_px=8, seed=0)
    backbone.load_state_dict(result.weights["backbone"])
    model: Any = backbone
    if result.facts["mining_space"] == "head":
        kind: models.Head = "mlp" if "2.weight" in result.weights["head"] else "linear"
        model = models.ContrastiveModel(backbone, 128, kind)
        model.head.load_state_dict(result.weights["head"])
    generator = StageRuntime(SingleProcess(torch.device("cpu")), stage.NAMESPACE, 0, FaissSearch(1)).generator(
        "alignment"
    )
    torch.randperm(60, generator=generator)
    images_NCHW, norm = data.eval.images_NCHW[:], augment.Norm(data.mean, data.std)
    with torch.no_grad():
        model.eval()
        plain_ND, seen_ND = (
            torch.nn.functional.normalize(model(augment.AUGMENTATIONS[view](images_NCHW, draws, norm)))
            for view, draws in (("eval", BatchRandom(generator, 60)), ("affine", BatchRandom(generator, 60)))
        )
    expected = float((plain_ND - seen_ND).square().sum(1).mean())
    assert 0 < expected < 4 and result.metrics["alignment"] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("method", sorted(pipeline.METHODS))
@pytest.mark.parametrize("name", registry.probes())
def test_every_probe_judges_every_method_that_leaves_a_backbone(
    trained: Callable[[str], Trained], train: Callable[..., Trained], data: ImageData, method: str, name: str
) -> None:
    by_slot = pipeline.stages(method, probes=[name])
    if not any(map(registry.leaves_backbone, pipeline.METHODS[method])):
        with pytest.raises(LookupError, match="no stage of this pipeline leaves a backbone"):
            pipeline.inputs(by_slot, name)
        return
    probed = trained(pipeline.name_of(by_slot[pipeline.inputs(by_slot, name)[registry.PROBED]])).result
    probe: Any = pipeline.load(name)
    judged = train(probe, settings.build(probe.Config, probe.TINY), data, {registry.PROBED: probed}).result
    shares = [value for key, value in judged.metrics.items() if key.endswith("_acc")]
    assert shares and all(0 <= share <= 1 for share in shares)


@pytest.mark.parametrize("name", CLUSTERINGS)
def test_the_classifier_gives_the_probabilities_that_were_stored(
    trained: Callable[[str], Trained], data: ImageData, name: str
) -> None:
    stage, result = pipeline.load(name), trained(name).result
    assert hasattr(stage, "classifier") != (name in WITHOUT_NETWORK)
    if name in WITHOUT_NETWORK:
        return
    with torch.no_grad():
        found_NC = stage.classifier(result, data)(data.eval.images_NCHW[:])
    assert found_NC.dtype == torch.float32
    np.testing.assert_allclose(found_NC.numpy(), result.arrays["probabilities_eval"], atol=2e-5)


@pytest.mark.parametrize("name", [name for name in CLUSTERINGS if name not in WITHOUT_NETWORK])
def test_the_classifier_needs_no_image_of_the_data_set(
    trained: Callable[[str], Trained], data: ImageData, name: str
) -> None:
    stage, result = pipeline.load(name), trained(name).result
    unseen = model_input.stand_in(model_input.of_data(data, {"name": "digits"}))
    images_NCHW = data.eval.images_NCHW[:]
    with torch.no_grad():
        found_NC = stage.classifier(result, unseen)(images_NCHW)
        assert torch.equal(found_NC, stage.classifier(result, data)(images_NCHW))


@pytest.mark.parametrize("name", [name for name in CLUSTERINGS if name not in WITHOUT_NETWORK])
def test_the_classifier_can_be_exported_for_any_number_of_images(
    trained: Callable[[str], Trained], data: ImageData, name: str
) -> None:
    images_NCHW = data.eval.images_NCHW[:]
    model = pipeline.load(name).classifier(trained(name).result, data)
    exported = torch.export.export(
        model, (images_NCHW[:2],), dynamic_shapes=({0: torch.export.Dim("batch", min=2)},), strict=False
    )
    with torch.no_grad():
        torch.testing.assert_close(exported.module()(images_NCHW), model(images_NCHW), atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("name", registry.names())
def test_every_figure_can_be_drawn_and_has_a_caption(
    trained: Callable[[str], Trained], data: ImageData, name: str
) -> None:
    stage, done = pipeline.load(name), trained(name)
    if not hasattr(stage, "figures"):
        assert name not in CLUSTERINGS
        return
    history = [{"epoch": epoch.number, **epoch.metrics} for epoch in done.epochs]
    found = stage.figures(done.result, data, history)
    assert found
    for figure in found.values():
        assert figure.caption and not figure.caption.endswith(".")
        assert figure.draw().axes


def given(trained: Callable[[str], Trained], name: str) -> dict[str, Result]:
    """What a stage reads, by slot."""
    return {slot: trained(other).result for slot, other in inputs(name).items()}


def two_epochs(name: str) -> Any:
    """A stage's Config with its TINY settings for two epochs."""
    stage = pipeline.load(name)
    return settings.build(stage.Config, {**stage.TINY, "epochs": 2})


def assert_same_bits(one: Result, other: Result) -> None:
    for part, weights in one.weights.items():
        for key, value in weights.items():
            if isinstance(value, Tensor):
                assert torch.equal(value, other.weights[part][key]), (part, key)
    for array, values in one.arrays.items():
        np.testing.assert_array_equal(values, other.arrays[array])


@pytest.mark.parametrize("name", TRAINED)
def test_a_stage_goes_on_from_an_epoch_to_the_same_bits(
    train: Callable[..., Trained], trained: Callable[[str], Trained], data: ImageData, name: str
) -> None:
    stage, config, read = pipeline.load(name), two_epochs(name), given(trained, name)
    whole = train(stage, config, data, read)
    # A state is read when it is saved, before the next epoch goes on.
    runtime = StageRuntime(SingleProcess(torch.device("cpu")), stage.NAMESPACE, 0, FaissSearch(1))
    saved = copy.deepcopy(next(stage.train(config, data, read, runtime)).state())
    rest = train(stage, config, data, read, saved=saved)
    assert rest.metrics == whole.metrics[1:] and rest.metrics
    assert_same_bits(whole.result, rest.result)


@pytest.mark.parametrize("name", LABEL_FREE)
def test_labels_steer_nothing(
    train: Callable[..., Trained], trained: Callable[[str], Trained], data: ImageData, name: str
) -> None:
    def unlabeled(split: Split) -> Split:
        return Split(split.images_NCHW, torch.full_like(split.labels_N, -1))

    blind = replace(data, train=unlabeled(data.train), eval=unlabeled(data.eval))
    stage, config, read = pipeline.load(name), two_epochs(name), given(trained, name)
    seeing, unseeing = train(stage, config, data, read), train(stage, config, blind, read)
    label_free = [
        {key: value for key, value in epoch.items() if not metrics.looks_at_labels(key)} for epoch in seeing.metrics
    ]
    assert unseeing.metrics == label_free
    assert_same_bits(seeing.result, unseeing.result)
