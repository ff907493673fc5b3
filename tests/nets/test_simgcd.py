"""SimGCD's model: cosines to prototypes, and a projection."""

import pytest
import torch
from torch.nn import functional

from trainables.nets import backbones
from trainables.nets.simgcd import CategoryModel


def model(seed: int = 0) -> CategoryModel:
    return CategoryModel(backbones.build("small", in_channels=1, image_size_px=8, seed=seed), 16, 32, 5)


def images() -> torch.Tensor:
    return torch.rand(6, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def test_what_is_trained_are_unit_embeddings_and_cosines_of_the_features() -> None:
    made = model().eval()
    embeddings_BE, cosines_BC = made(images(), "trained")
    assert (embeddings_BE.shape, cosines_BC.shape) == ((6, 16), (6, 5))
    torch.testing.assert_close(embeddings_BE.norm(dim=1), torch.ones(6))
    assert torch.equal(embeddings_BE, made(images(), "embeddings"))
    features_BD = made(images(), "features")
    expected_BC = functional.cosine_similarity(features_BD[:, None], made.prototypes.weight[None], dim=2)
    torch.testing.assert_close(cosines_BC, expected_BC)


def test_neither_the_length_of_a_prototype_nor_that_of_a_feature_counts() -> None:
    made, features_BD = model(), torch.randn(4, 512)
    before_BC = made.cosines(features_BD)
    with torch.no_grad():
        made.prototypes.weight.mul_(torch.tensor([0.1, 1.0, 2.0, 30.0, 4.0])[:, None])
    torch.testing.assert_close(made.cosines(features_BD * 7), before_BC)


def test_weights_come_from_the_backbone_s_seed_and_the_global_generator_is_untouched() -> None:
    torch.manual_seed(1)
    wanted = torch.rand(3)
    torch.manual_seed(1)
    first, again, other = (model(seed).state_dict() for seed in (0, 0, 1))
    assert torch.equal(torch.rand(3), wanted)
    assert all(torch.equal(first[key], again[key]) for key in first)
    for key in ("head.0.weight", "prototypes.weight"):
        assert not torch.equal(first[key], other[key])
    # Truncated normal of standard deviation 0.02, biases zero.
    assert float(first["head.0.weight"].std()) == pytest.approx(0.02, abs=0.001)
    assert not first["head.4.bias"].any()
