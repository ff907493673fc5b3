"""Contrastive Clustering on made-up patterns: the contrast of columns by hand, and what steers a training."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from trainables.interfaces import ImageData
from trainables.settings import build
from trainables.stages import cc
from trainables.stages.cc import Config

SMALL: dict[str, Any] = {"augmentation": "affine", "batch_size": 40, "epochs": 2, "optimizer.lr": 1e-3}


def trained(train: Callable[..., Any], data: ImageData, *, saved: Any = None, **changes: Any) -> Any:
    return train(cc, build(Config, {**SMALL, **changes}), data, saved=saved)


def rows(seed: int, num_images: int, num_clusters: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(num_images, num_clusters, generator=generator, dtype=torch.float64).softmax(1)


def test_the_cluster_loss_of_two_clusters_that_share_no_image() -> None:
    # Four images, certain, three and one in a cluster. Of the four columns of both views a column's other view has
    # cosine 1 and the two columns of the other cluster have cosine 0. The mean assignment is (3/4, 1/4) in each view.
    sure_BC = torch.eye(2, dtype=torch.float64)[[0, 0, 0, 1]]
    loss, entropy = cc.cluster_loss(sure_BC, sure_BC, temperature=0.5, entropy_weight=1.0)
    wanted_entropy = 2 * (2 * math.log(2) - 0.75 * math.log(3))
    assert float(entropy) == pytest.approx(wanted_entropy)
    assert float(loss) == pytest.approx(math.log(math.exp(2) + 2) - 2 - wanted_entropy)


def test_the_weight_multiplies_the_entropy_alone() -> None:
    p0_BC, p1_BC = rows(0, 6, 3), rows(1, 6, 3)
    found = [
        float(cc.cluster_loss(p0_BC, p1_BC, temperature=1.0, entropy_weight=weight)[0]) for weight in (0.0, 1.0, 3.0)
    ]
    entropy = float(cc.cluster_loss(p0_BC, p1_BC, temperature=1.0, entropy_weight=1.0)[1])
    assert found == pytest.approx([found[0], found[0] - entropy, found[0] - 3 * entropy])


def test_clusters_are_contrasted_and_not_images() -> None:
    # The definition, written out: 2C anchors, each a column over the B images, however many images there are.
    p0_BC, p1_BC = rows(2, 7, 3), rows(3, 7, 3)
    columns = [*p0_BC.unbind(1), *p1_BC.unbind(1)]
    terms = []
    for i, anchor_B in enumerate(columns):
        cosines = [float(functional.cosine_similarity(anchor_B, other_B, dim=0)) for other_B in columns]
        others = sum(math.exp(cosine / 0.5) for j, cosine in enumerate(cosines) if j != i)
        terms.append(-math.log(math.exp(cosines[(i + 3) % 6] / 0.5) / others))
    loss, _ = cc.cluster_loss(p0_BC, p1_BC, temperature=0.5, entropy_weight=0.0)
    assert float(loss) == pytest.approx(np.mean(terms))


def test_a_cluster_must_be_the_same_column_in_both_views() -> None:
    sure_BC = torch.eye(3, dtype=torch.float64).repeat(4, 1)
    same, _ = cc.cluster_loss(sure_BC, sure_BC, temperature=1.0, entropy_weight=1.0)
    permuted, _ = cc.cluster_loss(sure_BC, sure_BC[:, [1, 2, 0]], temperature=1.0, entropy_weight=1.0)
    assert float(permuted) == pytest.approx(float(same) + 1.0)  # cosine 0 where 1 was, among the same columns
    shuffled_B = torch.randperm(12, generator=torch.Generator().manual_seed(0))
    reordered, _ = cc.cluster_loss(sure_BC[shuffled_B], sure_BC[shuffled_B], temperature=1.0, entropy_weight=1.0)
    assert float(reordered) == pytest.approx(float(same))


def test_a_cluster_without_any_image_gives_finite_gradients() -> None:
    logits_BC = torch.tensor([[0.0, -200.0], [0.0, -200.0]], requires_grad=True)
    loss, _ = cc.cluster_loss(logits_BC.softmax(1), logits_BC.softmax(1), temperature=1.0, entropy_weight=1.0)
    (gradient_BC,) = torch.autograd.grad(loss, logits_BC)
    assert bool(loss.isfinite()) and bool(gradient_BC.isfinite().all())


def test_patterns_that_stand_apart_are_clustered(train: Callable[..., Any], data: ImageData) -> None:
    done = trained(train, data, epochs=12)
    assert done.metrics[-1]["loss"] < done.metrics[0]["loss"]
    assert done.result.metrics["acc"] > 0.9


def test_the_loss_is_the_sum_of_the_heads(train: Callable[..., Any], data: ImageData) -> None:
    for each in trained(train, data).metrics:
        assert each["loss"] == pytest.approx(each["instance_loss"] + each["cluster_loss"], rel=1e-5)
        assert 0 <= each["assignment_entropy"] <= 2 * math.log(3) + 1e-6


def test_the_heads_start_with_weights_of_their_own(data: ImageData) -> None:
    backbone = cc.pretext.backbone("small", data.shape, seed=0)
    model = cc.TwoHeads(backbone, feature_dim=3, num_clusters=3)
    for name, weights in model.head.state_dict().items():
        assert not torch.equal(weights, model.cluster_head.state_dict()[name]), name


def test_judging_on_the_training_images_predicts_them_once(train: Callable[..., Any], union: ImageData) -> None:
    arrays = trained(train, union, epochs=1).result.arrays
    assert np.shares_memory(arrays["probabilities_eval"], arrays["probabilities_train"])


def test_what_the_data_cannot_carry_is_found_before_the_start(data: ImageData) -> None:
    found = dict(cc.limits(Config(network="resnet50", num_clusters=121), data.shape))
    assert {"batch_size", "num_clusters"} <= set(found)
