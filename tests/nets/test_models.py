"""Heads on backbones, prediction over a split, and the classifier that a trial leaves behind."""

import io

import pytest
import torch
from torch import nn

from trainables.nets.backbones import Backbone, build
from trainables.nets.models import ClusterClassifier, ClusteringModel, ContrastiveModel, predict

IMAGES = torch.randint(0, 256, (21, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
MEAN, STD = (0.3,), (0.4,)


def small(seed: int = 0) -> Backbone:
    return build("small", in_channels=1, image_size_px=8, seed=seed)


def by_hand(images: torch.Tensor) -> torch.Tensor:
    return (images.float() / 255 - 0.3) / 0.4


@pytest.mark.parametrize("head", ["mlp", "linear"])
def test_contrastive_embeddings_have_length_one(head: str) -> None:
    embeddings_BE = ContrastiveModel(small(), 16, head).eval()(by_hand(IMAGES))
    assert embeddings_BE.shape == (21, 16)
    torch.testing.assert_close(embeddings_BE.norm(dim=1), torch.ones(21))


def test_the_mlp_head_has_two_layers_and_no_batch_norm() -> None:
    head = ContrastiveModel(small(), 128, "mlp").head
    assert [type(layer) for layer in head] == [nn.Linear, nn.ReLU, nn.Linear]
    assert (head[0].in_features, head[0].out_features, head[2].out_features) == (512, 512, 128)


def test_a_zero_embedding_stays_finite() -> None:
    model = ContrastiveModel(small(), 4, "linear")
    nn.init.zeros_(model.head.weight)
    nn.init.zeros_(model.head.bias)
    assert model(by_hand(IMAGES)).abs().sum() == 0


def test_features_are_the_backbones_and_both_gives_the_same_two() -> None:
    for model in (ContrastiveModel(small()).eval(), ClusteringModel(small(), 3, 2).eval()):
        images_BCHW = by_hand(IMAGES)
        features_BD = model(images_BCHW, "features")
        assert torch.equal(features_BD, model.backbone(images_BCHW))
        outputs, same_BD = model(images_BCHW, "both")
        assert torch.equal(outputs, model(images_BCHW)) and torch.equal(same_BD, features_BD)


def test_clustering_logits_come_by_head() -> None:
    model = ClusteringModel(small(), num_clusters=3, num_heads=2).eval()
    logits_HBC = model(by_hand(IMAGES))
    assert logits_HBC.shape == (2, 21, 3)
    torch.testing.assert_close(logits_HBC[1], model.heads[1](model.backbone(by_hand(IMAGES))))
    assert not torch.equal(model.heads[0].weight, model.heads[1].weight)


def test_head_weights_come_from_the_backbones_seed_unless_one_is_given() -> None:
    torch.manual_seed(1)
    first = ClusteringModel(small(3), 4).heads[0].weight
    torch.manual_seed(2)
    assert torch.equal(first, ClusteringModel(small(3), 4).heads[0].weight)
    assert not torch.equal(first, ClusteringModel(small(3), 4, seed=9).heads[0].weight)
    linear = ContrastiveModel(small(3), head="linear").head
    assert torch.equal(linear.weight, ContrastiveModel(small(3), head="linear").head.weight)


def test_bad_heads_are_refused() -> None:
    with pytest.raises(ValueError, match="head must be one of mlp, linear, but is 'conv'"):
        ContrastiveModel(small(), head="conv")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="feature_dim must be at least 1, but is 0"):
        ContrastiveModel(small(), 0)
    with pytest.raises(ValueError, match="num_heads must be at least 1, but is 0"):
        ClusteringModel(small(), 3, 0)
    with pytest.raises(ValueError, match="what must be one of logits, features, both for this model, but is 'z'"):
        ClusteringModel(small(), 3)(by_hand(IMAGES), "z")


def test_prediction_equals_the_model_by_hand_whatever_the_batch_size() -> None:
    model = ClusteringModel(small(), 3, 2)
    wanted_HNC = model.eval()(by_hand(IMAGES)).softmax(dim=2)
    for batch_size in (4, 21, 100):
        got_HNC = predict(model, IMAGES, MEAN, STD, batch_size, "probabilities")
        torch.testing.assert_close(got_HNC, wanted_HNC)
    contrastive = ContrastiveModel(small(), 16).eval()
    torch.testing.assert_close(predict(contrastive, IMAGES, MEAN, STD, 4, "embeddings"), contrastive(by_hand(IMAGES)))
    torch.testing.assert_close(
        predict(contrastive.backbone, IMAGES, MEAN, STD, 4), predict(contrastive, IMAGES, MEAN, STD, 4)
    )


def test_prediction_restores_the_mode_of_every_module_and_moves_no_running_mean() -> None:
    model = ClusteringModel(small(), 3).train()
    model.backbone.eval()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    outputs = predict(model, IMAGES, MEAN, STD)
    assert model.training and not any(module.training for module in model.backbone.modules())
    assert not outputs.requires_grad
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


def test_prediction_restores_the_mode_after_an_error_too() -> None:
    model = ClusteringModel(small(), 3).train()
    with pytest.raises(RuntimeError):
        predict(model, IMAGES.expand(-1, 2, -1, -1), MEAN, STD)
    assert all(module.training for module in model.modules())


def test_prediction_refuses_float_images_no_images_and_outputs_the_model_lacks() -> None:
    model = ContrastiveModel(small())
    with pytest.raises(
        ValueError, match=r"images_NCHW must be uint8 .*, but is torch.float32 of shape \(21, 1, 8, 8\)"
    ):
        predict(model, IMAGES.float(), MEAN, STD)
    with pytest.raises(ValueError, match=r"not empty, but is torch.uint8 of shape \(0, 1, 8, 8\)"):
        predict(model, IMAGES[:0], MEAN, STD)
    with pytest.raises(ValueError, match="what must be one of features, embeddings for this .* 'probabilities'"):
        predict(model, IMAGES, MEAN, STD, what="probabilities")
    with pytest.raises(ValueError, match="batch_size must be at least 1, but is 0"):
        predict(model, IMAGES, MEAN, STD, 0)
    with pytest.raises(TypeError, match="but got Linear"):
        predict(nn.Linear(1, 1), IMAGES, MEAN, STD)


def classifier() -> tuple[ClusterClassifier, torch.Tensor]:
    model = ClusteringModel(small(), 3, 2)
    wanted_NC = predict(model, IMAGES, MEAN, STD, what="probabilities")[1]
    return ClusterClassifier(model.backbone, model.heads[1], MEAN, STD), wanted_NC


def test_the_classifier_gives_its_heads_probabilities_for_bytes_and_for_floats() -> None:
    left_behind, wanted_NC = classifier()
    torch.testing.assert_close(left_behind(IMAGES), wanted_NC)
    torch.testing.assert_close(left_behind(IMAGES.double() / 255), wanted_NC)


def test_the_classifier_refuses_what_it_would_misread() -> None:
    left_behind, _ = classifier()
    with pytest.raises(
        ValueError, match=r"must lie in \[0, 1\], but reach from 0 to 255. Give pixels of 0..255 as uint8"
    ):
        left_behind(torch.tensor([0.0, 255.0]).repeat(32).reshape(1, 1, 8, 8))
    with pytest.raises(ValueError, match="but reach from nan to nan"):
        left_behind(torch.full((1, 1, 8, 8), torch.nan))
    with pytest.raises(ValueError, match="must be uint8 or floating point, but are torch.int64"):
        left_behind(IMAGES.long())
    with pytest.raises(ValueError, match=r"must have shape \(B, 1, H, W\), but have \(1, 8, 8\)"):
        left_behind(IMAGES[0])


def test_the_classifier_survives_saving_and_its_state_dict_holds_the_normalization() -> None:
    left_behind, wanted_NC = classifier()
    file = io.BytesIO()
    torch.save(left_behind, file)
    file.seek(0)
    torch.testing.assert_close(torch.load(file, weights_only=False)(IMAGES), wanted_NC)
    assert {"mean_C11", "std_C11"} <= set(left_behind.state_dict())


def test_the_classifier_can_be_exported() -> None:
    left_behind, wanted_NC = classifier()
    batch = torch.export.Dim("batch", min=2)
    exported = torch.export.export(left_behind, (IMAGES,), dynamic_shapes=({0: batch},))
    torch.testing.assert_close(exported.module()(IMAGES[:7]), wanted_NC[:7])
