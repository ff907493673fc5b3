"""DeepCluster's AlexNet: shapes, what it starts from, Sobel, dropout; and the taps of every network."""

import math

import pytest
import torch

from trainables.data.batch_random import BatchRandom
from trainables.interfaces import DataShape
from trainables.nets import alexnet, backbones, feature_maps
from trainables.nets.backbones import Backbone, build

TINY = DataShape(10, 10, 10, 3, 64)


@pytest.fixture(scope="module")
def network() -> Backbone:
    return build("alexnet_dc", in_channels=3, image_size_px=64, seed=0, sobel=True)


def test_the_maps_have_the_published_shapes() -> None:
    found = feature_maps.shapes("alexnet_dc", TINY, True)
    assert {name: found[name] for name in ("conv1", "pool1", "conv2", "conv3", "conv4", "conv5", "last_pool")} == {
        "conv1": (96, 55, 55),
        "pool1": (96, 27, 27),
        "conv2": (256, 27, 27),
        "conv3": (384, 13, 13),
        "conv4": (384, 13, 13),
        "conv5": (256, 13, 13),
        "last_pool": (256, 6, 6),
    }
    assert found["top"] == found["output"] == (4096,)


def test_weights_are_drawn_as_published(network: Backbone) -> None:
    weights = {name: each.detach() for name, each in network.layers.named_parameters()}
    assert tuple(weights["conv2.0.weight"].shape) == (256, 96, 5, 5)
    assert float(weights["conv2.0.weight"].std()) == pytest.approx(math.sqrt(2 / (25 * 256)), rel=0.02)
    assert float(weights["fc6.weight"].std()) == pytest.approx(0.01, rel=0.02)
    assert not weights["fc6.bias"].any() and not weights["conv2.0.bias"].any()


def test_with_sobel_the_first_convolution_sees_two_channels(network: Backbone) -> None:
    assert network.layers.get_submodule("conv1.0").weight.shape[1] == 2
    assert not [name for name, _ in network.named_parameters() if "front" in name]
    assert not [name for name in network.state_dict() if "front" in name]


def test_sobel_of_a_step_edge() -> None:
    # Gray is the mean of the channels: 0, 0, 1, 1 along x. Gx at the edge is (left - right) * (1 + 2 + 1).
    image_BCHW = torch.tensor([0.0, 0.0, 3.0, 3.0]).expand(1, 1, 5, 4) * torch.tensor([1.0, 0.0, 0.0]).view(1, 3, 1, 1)
    across_HW, down_HW = alexnet.Sobel()(image_BCHW)[0]
    assert across_HW[2, 1:3].tolist() == [-4.0, -4.0]
    assert down_HW[2, 1:3].tolist() == [0.0, 0.0]


def test_the_top_is_the_output_before_its_last_relu(network: Backbone) -> None:
    images_BCHW = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found = feature_maps.collect(network.eval(), images_BCHW, ("top", "output"))
    assert bool((found["top"] < 0).any())
    assert torch.equal(found["top"].relu(), found["output"])


def test_images_of_another_size_are_enlarged_to_224_px() -> None:
    assert alexnet.enlarged(torch.zeros(1, 3, 64, 64)).shape == (1, 3, 224, 224)
    assert alexnet.enlarged(torch.zeros(1, 3, 256, 256)).shape == (1, 3, 224, 224)
    same = torch.zeros(1, 3, 224, 224)
    assert alexnet.enlarged(same) is same


def test_images_below_64_px_are_refused() -> None:
    with pytest.raises(ValueError, match="backbone alexnet_dc takes images of at least 64 px, but these have 32 px"):
        backbones.check_size("alexnet_dc", 32)


def test_dropout_is_the_same_for_one_rank_and_for_two() -> None:
    layer = alexnet.DrawnDropout(0.5).train()
    rows_BD = torch.ones(6, 50)
    layer.draws = BatchRandom(torch.Generator().manual_seed(1), 6)
    whole_BD = layer(rows_BD)
    parts = []
    for start in (0, 3):
        layer.draws = BatchRandom(torch.Generator().manual_seed(1), 6, start, 3)
        parts.append(layer(rows_BD[:3]))
    assert torch.equal(torch.cat(parts), whole_BD)
    assert set(whole_BD.flatten().tolist()) == {0.0, 2.0}


def test_dropout_without_draws_or_in_eval_mode_drops_nothing() -> None:
    layer, rows_BD = alexnet.DrawnDropout(0.5), torch.ones(2, 3)
    assert torch.equal(layer.train()(rows_BD), rows_BD)
    alexnet.feed_dropout(torch.nn.Sequential(layer), BatchRandom(torch.Generator(), 2))
    assert layer.draws is not None
    assert torch.equal(layer.eval()(rows_BD), rows_BD)


@pytest.mark.parametrize(
    ("name", "shape", "low", "convolutions"),
    [
        ("small", DataShape(9, 9, 3, 1, 8), (32, 4, 4), 3),
        ("resnet18_cifar", DataShape(9, 9, 3, 3, 32), (64, 32, 32), 5),
    ],
)
def test_other_networks_have_the_same_names(
    name: str, shape: DataShape, low: tuple[int, ...], convolutions: int
) -> None:
    found = feature_maps.shapes(name, shape, False)
    assert found["pool1"] == low
    assert sum(layer in found for layer in feature_maps.CONVOLUTIONS) == convolutions
    assert found["top"] == found["output"] == (512,)


def test_taps_leave_no_hook_behind_and_change_nothing() -> None:
    backbone = build("small", in_channels=1, image_size_px=8, seed=0).eval()
    images_BCHW = torch.randn(2, 1, 8, 8)
    with torch.no_grad():
        before = backbone(images_BCHW)
        found = feature_maps.collect(backbone, images_BCHW, ("conv1", "top"))
        assert torch.equal(found["top"], before)
    assert all(not module._forward_hooks for module in backbone.modules())


def test_a_network_that_is_not_known_has_its_output_alone() -> None:
    backbone = Backbone("other", torch.nn.Flatten(), 4, 0)
    assert feature_maps.names(backbone) == ("top", "output")
    with pytest.raises(KeyError):
        feature_maps.collect(backbone, torch.zeros(1, 1, 2, 2), ("conv1",))


def test_asking_for_shapes_does_not_touch_torch_s_generator() -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    feature_maps.shapes.cache_clear()
    feature_maps.shapes("small", DataShape(9, 9, 3, 1, 8), True)
    assert torch.equal(torch.rand(1), expected)
