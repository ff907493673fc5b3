"""DEC on made-up patterns and on rows of features, with and without refined assignments."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from trainables import pipeline, settings
from trainables.interfaces import ImageData, Result, Split
from trainables.maths import metrics, soft_assignment
from trainables.nets import autoencoder as nets
from trainables.settings import build
from trainables.stages import autoencoder, dec
from trainables.stages.dec import Config
from trainables.training import alternating_normalization

SMALL: dict[str, Any] = {"batch_size": 30, "epochs": 3, "target_update_interval": 3, "tolerance": 0.0}


def features(num_rows: int, seed: int) -> Split:
    """Three blobs that stand well apart, in eight dimensions and far from [0, 1]."""
    generator = torch.Generator().manual_seed(seed)
    labels_N = torch.arange(num_rows) % 3
    centers = torch.zeros(3, 8).index_put((torch.arange(3), torch.arange(3)), torch.tensor(40.0)) - 7
    rows_ND = centers[labels_N] + torch.randn(num_rows, 8, generator=generator)
    return Split(rows_ND[:, :, None, None], labels_N)


@pytest.fixture(scope="module")
def rows() -> ImageData:
    train = features(150, 0)
    return ImageData("blobs", train, train, ("a", "b", "c"), (), (), "blobs")


@pytest.fixture(scope="module")
def coded(train: Callable[..., Any], rows: ImageData) -> Result:
    config = autoencoder.Config(widths="64-64", embed_dim=4, batch_size=30, epochs=15)
    result: Result = train(autoencoder, config, rows).result
    return result


def trained(train: Callable[..., Any], data: ImageData, coded: Result, saved: Any = None, **changes: Any) -> Any:
    return train(dec, build(Config, {**SMALL, **changes}), data, {"pretext": coded}, saved=saved)


def test_blobs_that_stand_apart_are_clustered_almost_without_error(
    train: Callable[..., Any], rows: ImageData, coded: Result
) -> None:
    done = trained(train, rows, coded)
    assert done.result.metrics["acc"] > 0.95
    assert done.result.arrays["probabilities_eval"] is done.result.arrays["probabilities_train"]


def scaled_values(result: Result, data: ImageData) -> Any:
    model = nets.built(result.facts, seed=0)
    model.load_state_dict(result.weights["autoencoder"])
    return model.scaled(data.train.images_NCHW[:])


@pytest.mark.parametrize("scaling", ["auto", "matrix", "columns", "norm"])
def test_features_are_scaled_as_asked(train: Callable[..., Any], rows: ImageData, scaling: str) -> None:
    config = autoencoder.Config(widths="64-64", embed_dim=4, batch_size=30, epochs=1, scaling=scaling)
    result = train(autoencoder, config, rows).result
    values_ND = scaled_values(result, rows)
    if scaling == "norm":  # the mean over the images of |x|^2 / D, as DEC has it
        assert float(values_ND.square().mean()) == pytest.approx(1.0, abs=1e-5)
        return
    low, high = torch.aminmax(values_ND, dim=0 if scaling in ("auto", "columns") else None)
    assert torch.allclose(low, torch.zeros(())) and torch.allclose(high, torch.ones(()))
    assert result.facts["scaling"] == ("columns" if scaling == "auto" else scaling)


def test_a_column_without_spread_becomes_zero_and_a_matrix_without_it_is_refused(
    train: Callable[..., Any], rows: ImageData
) -> None:
    flat = rows.train.images_NCHW[:].clone()
    flat[:, 2] = 5.0
    config = autoencoder.Config(widths="64-64", embed_dim=4, batch_size=30, epochs=1)
    part = Split(flat, rows.train.labels_N)
    values_ND = scaled_values(train(autoencoder, config, replace(rows, train=part, eval=part)).result, rows)
    assert torch.allclose(values_ND[:, 2], rows.train.images_NCHW[:].flatten(1)[:, 2] - 5)
    part = Split(torch.full_like(flat, 5.0), rows.train.labels_N)
    with pytest.raises(ValueError, match="all values of the training data are 5; there is nothing to scale"):
        train(autoencoder, config, replace(rows, train=part, eval=part))


def test_pixels_are_scaled_by_255(finished: dict[str, Result], data: ImageData) -> None:
    result = finished["autoencoder"]
    assert (result.facts["scaling"], result.facts["num_values"]) == ("matrix", 64)
    assert torch.equal(scaled_values(result, data), data.train.images_NCHW[:].flatten(1).float() / 255)


def heavy_tailed() -> ImageData:
    """Four blobs in 20 dimensions and, in a few rows, values a thousand times as far out as all others."""
    draw = torch.Generator().manual_seed(0)
    labels_N = torch.arange(400) % 4
    rows_ND = 3 * torch.randn(4, 20, generator=draw)[labels_N] + torch.randn(400, 20, generator=draw)
    rows_ND[torch.arange(20) * 7, torch.randint(0, 20, (20,), generator=draw)] *= 1000
    split = Split(rows_ND[:, :, None, None], labels_N)
    return ImageData("tails", split, split, tuple("abcd"), (), (), "tails")


def test_one_column_of_outliers_leaves_the_others_their_spread(train: Callable[..., Any]) -> None:
    tails = heavy_tailed()
    spread = {}
    for scaling in ("matrix", "columns"):
        config = autoencoder.Config(widths="64-64", embed_dim=4, batch_size=50, epochs=1, scaling=scaling)
        spread[scaling] = float(scaled_values(train(autoencoder, config, tails).result, tails).std(0).median())
    assert spread["columns"] > 3 * spread["matrix"]


def test_dec_s_own_recipe_starts_from_small_weights_and_divides_its_rate(
    train: Callable[..., Any], data: ImageData, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates: list[float] = []
    plain = autoencoder.loop.step

    def step(loss: Any, optimizer: torch.optim.Optimizer) -> None:
        if not rates:
            first.extend(parameter.detach().clone() for parameter in optimizer.param_groups[0]["params"])
        rates.append(optimizer.param_groups[0]["lr"])
        plain(loss, optimizer)

    first: list[torch.Tensor] = []
    monkeypatch.setattr(autoencoder.loop, "step", step)
    small = {"widths": "64-64", "batch_size": 40, "layer_epochs": 2, "epochs": 1, "lr_decay_steps": 4}
    config = build(autoencoder.Config, {**autoencoder.PRESETS["paper"]["mnist"], **small})
    train(autoencoder, config, data)
    # 3 steps a pass; each of the three layers, and the whole, counts its steps anew.
    layer = [0.1] * 4 + [0.01] * 2
    assert rates == pytest.approx([*layer, *layer, *layer, *([0.1] * 3)])
    weight, bias = first[0], first[1]
    assert 0.008 < float(weight.std()) < 0.012 and not bias.any()


def test_images_are_clustered(train: Callable[..., Any], data: ImageData, finished: dict[str, Result]) -> None:
    done = trained(train, data, finished["autoencoder"])
    assert done.result.metrics["acc"] > 0.95
    assert done.result.arrays["probabilities_eval"].shape == (60, 3)


def test_the_reported_divergence_is_that_of_the_stored_assignments(
    train: Callable[..., Any], rows: ImageData, coded: Result
) -> None:
    result = trained(train, rows, coded).result
    q_NC = torch.tensor(result.arrays["probabilities_eval"]).double()
    own = float(soft_assignment.divergence(soft_assignment.target(q_NC), q_NC).mean())
    assert result.metrics["selection_loss"] == pytest.approx(own + result.metrics["label_change"], abs=1e-5)


def test_the_first_loss_is_that_of_the_first_centers(train: Callable[..., Any], rows: ImageData, coded: Result) -> None:
    # One step over all images: its loss is taken before anything has moved.
    done = trained(train, rows, coded, batch_size=150, epochs=1, **{"optimizer.lr": 1e-12})
    q_NC = torch.tensor(done.result.arrays["probabilities_train"]).double()
    own = float(soft_assignment.divergence(soft_assignment.target(q_NC), q_NC).mean())
    assert done.metrics[0]["loss"] == pytest.approx(own, abs=1e-5)


def test_training_ends_when_the_clusters_have_settled(
    train: Callable[..., Any], rows: ImageData, coded: Result
) -> None:
    done = trained(train, rows, coded, epochs=50, tolerance=0.01)
    assert len(done.epochs) < 50 and done.result.facts["is_settled"]
    assert done.result.metrics["label_change"] < 0.01
    assert "loss" in done.result.metrics


def test_without_tolerance_it_runs_to_the_end(train: Callable[..., Any], rows: ImageData, coded: Result) -> None:
    done = trained(train, rows, coded, epochs=6)
    assert len(done.epochs) == 6 and not done.result.facts["is_settled"]


def test_only_with_a_reconstruction_weight_does_the_decoder_learn(
    train: Callable[..., Any], rows: ImageData, coded: Result
) -> None:
    before = coded.weights["autoencoder"]["decoder.0.weight"]
    for weight, learns in ((0.0, False), (1.0, True)):
        done = trained(train, rows, coded, reconstruction_weight=weight, clustering_weight=0.1)
        after = done.result.weights["clustering"]["autoencoder.decoder.0.weight"]
        assert torch.equal(before, after) is not learns
        assert ("reconstruction" in done.result.metrics) is learns


def test_idec_adds_its_two_terms_with_their_weights(train: Callable[..., Any], rows: ImageData, coded: Result) -> None:
    for each in trained(train, rows, coded, reconstruction_weight=1.0, clustering_weight=0.1).metrics:
        assert each["loss"] == pytest.approx(0.1 * each["divergence"] + each["reconstruction"], abs=1e-6)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"reconstruction_weight": 1.0, "target_update_interval": 7},
        {"an.mode": "both", "an.class_prior": "running", "an.empty_reference": "queue", "an_batch_size": 40},
        {"optimizer.name": "adam", "optimizer.lr": 1e-3, "an.mode": "reweight", "an_site": "after_sharpening"},
    ],
)
def test_a_resumed_run_equals_an_uninterrupted_one(
    train: Callable[..., Any], rows: ImageData, coded: Result, changes: dict[str, Any]
) -> None:
    whole = trained(train, rows, coded, **changes)
    # An epoch's state shares memory with the model, so it is taken while that epoch is the last.
    first = trained(train, rows, coded, **{**changes, "epochs": 1}).epochs[-1].state()
    rest = trained(train, rows, coded, saved=first, **changes)
    assert rest.metrics == whole.metrics[1:]
    for name, value in whole.result.arrays.items():
        assert np.array_equal(value, rest.result.arrays[name]), name


@pytest.mark.parametrize("epochs", [1, 2, 3, 4])
def test_a_resumed_autoencoder_equals_an_uninterrupted_one(
    train: Callable[..., Any], data: ImageData, epochs: int
) -> None:
    small = {"widths": "64-64", "batch_size": 40, "pretraining": "layerwise", "layer_epochs": 2, "epochs": 1}
    whole = train(autoencoder, build(autoencoder.Config, small), data)
    assert len(whole.epochs) == 7
    steps = autoencoder.train(build(autoencoder.Config, small), data, {}, runtime_of(train))
    for _ in range(epochs):
        saved = next(steps).state()
    rest = train(autoencoder, build(autoencoder.Config, small), data, saved=saved)
    assert rest.metrics == whole.metrics[epochs:]
    assert np.array_equal(rest.result.arrays["embedding_eval"], whole.result.arrays["embedding_eval"])


def runtime_of(train: Callable[..., Any]) -> Any:
    from trainables.runner.runtime import SingleProcess, StageRuntime
    from trainables.vector_search.faiss_search import FaissSearch

    return StageRuntime(SingleProcess(torch.device("cpu")), "pretext", 0, FaissSearch(1))


def test_a_layer_alone_leaves_the_others_as_they_were(train: Callable[..., Any], data: ImageData) -> None:
    config = autoencoder.Config(widths="64-64", batch_size=40, pretraining="layerwise", layer_epochs=1, epochs=1)
    fresh = {
        name: value.clone()
        for name, value in autoencoder.autoencoder.built(autoencoder._facts(config, data), 0).state_dict().items()
    }
    state = next(autoencoder.train(config, data, {}, runtime_of(train))).state()["model"]
    moved = {name for name, value in state.items() if not torch.equal(value, fresh[name])}
    assert moved == {"encoder.0.weight", "encoder.0.bias", "decoder.0.weight", "decoder.0.bias"}


def test_refined_assignments_report_what_they_did(train: Callable[..., Any], rows: ImageData, coded: Result) -> None:
    done = trained(train, rows, coded, **{"an.mode": "both", "an.entropy_threshold": 0.3})
    for each in done.metrics:
        assert 0 <= each["an_changed_fraction"] <= each["an_unsure_fraction"] <= 1
    assert set(done.result.metrics) - set(metrics.EVALUATION_METRICS) <= set(dec.METRICS)


def test_reweighting_alone_changes_no_target_but_the_loss(
    train: Callable[..., Any], rows: ImageData, coded: Result
) -> None:
    plain = trained(train, rows, coded, epochs=1)
    weighed = trained(train, rows, coded, epochs=1, **{"an.mode": "reweight"})
    assert all(each["an_changed_fraction"] == 0 for each in weighed.metrics)
    assert plain.metrics[0]["loss"] != weighed.metrics[0]["loss"]


def test_a_correction_without_unsure_rows_is_plain_dec(
    train: Callable[..., Any], rows: ImageData, coded: Result
) -> None:
    plain = trained(train, rows, coded)
    sure = trained(
        train, rows, coded, **{"an.mode": "correction", "an.renormalize": False, "an.entropy_threshold": 50.0}
    )
    assert np.array_equal(plain.result.arrays["probabilities_train"], sure.result.arrays["probabilities_train"])


def test_before_its_first_epoch_refinement_does_nothing(
    train: Callable[..., Any], rows: ImageData, coded: Result
) -> None:
    plain = trained(train, rows, coded)
    late = trained(train, rows, coded, **{"an.mode": "both", "an.start_epoch": 3})
    assert plain.metrics == late.metrics


def test_labels_steer_nothing(train: Callable[..., Any], rows: ImageData, coded: Result) -> None:
    unknown = replace(rows.train, labels_N=torch.full_like(rows.train.labels_N, -1))
    blind = replace(rows, train=unknown, eval=unknown)
    seeing = trained(train, rows, coded, **{"an.mode": "both", "an.entropy_threshold": 0.3}).result.arrays
    found = trained(train, blind, coded, **{"an.mode": "both", "an.entropy_threshold": 0.3}).result
    assert np.array_equal(found.arrays["probabilities_train"], seeing["probabilities_train"])
    assert not any(metrics.looks_at_labels(name) for name in found.metrics)


def test_label_metrics_of_refinement_are_known_as_such() -> None:
    looking = {name for name in alternating_normalization.METRICS if metrics.looks_at_labels(name)}
    unsure = {"an_unsure_acc_before", "an_unsure_acc_after"}
    assert looking == {"an_acc_before", "an_acc_after", *unsure} <= metrics.LABEL_METRICS


def test_without_refinement_its_settings_do_not_count() -> None:
    assert {name for name in settings.effective(Config()) if name.startswith("an")} == {"an.mode"}
    assert "an.iterations" not in settings.effective(build(Config, {"an.mode": "reweight"}))


@pytest.mark.parametrize(
    ("name", "value"),
    [("an.mode", "all"), ("an.top_k", 1), ("an.power", 0.0), ("tolerance", 1.0), ("student_t_dof", 0.0)],
)
def test_a_bad_setting_is_refused(name: str, value: Any) -> None:
    with pytest.raises(settings.SettingsError, match=name):
        build(Config, {name: value})


def test_the_data_set_s_size_is_a_limit(rows: ImageData) -> None:
    built = pipeline.configs("dec", "", {"dec.batch_size": 256, "pretext.batch_size": 100})
    assert list(dict(pipeline.limits("dec", "", built, rows.shape))) == ["dec.batch_size"]


def usps_like() -> ImageData:
    """9,298 gray images of 16 px in ten classes, as USPS has: scikit-learn's digits, larger and with noise."""
    from sklearn.datasets import load_digits

    digits, draw = load_digits(), torch.Generator().manual_seed(0)
    picked = torch.randint(0, len(digits.target), (9298,), generator=draw)
    small = torch.from_numpy(digits.images).float()[picked, None] * (255 / 16)
    images = torch.nn.functional.interpolate(small, (16, 16), mode="bilinear")
    images += 20 * torch.randn(images.shape, generator=draw)
    split = Split(images.clamp(0, 255).to(torch.uint8), torch.from_numpy(digits.target).long()[picked])
    return ImageData("usps", split, split, tuple("0123456789"), (0.3,), (0.3,), "usps")


def test_dec_on_data_of_the_size_and_form_of_usps_stays_where_it_was(train: Callable[..., Any]) -> None:
    usps = usps_like()
    coded = train(autoencoder, autoencoder.Config(widths="256-128", epochs=8), usps).result
    start = train(dec, build(Config, {"epochs": 1, "optimizer.lr": 1e-12, "tolerance": 0.0}), usps, {"pretext": coded})
    done = train(dec, build(Config, {"epochs": 3, "target_update_interval": 36}), usps, {"pretext": coded})
    before, after = (each.result.metrics["acc"] for each in (start, done))
    # In three epochs it stays within five points of where k-means on the embedding put it, and far from chance.
    assert after > before - 0.05 and after > 0.3, (before, after)
