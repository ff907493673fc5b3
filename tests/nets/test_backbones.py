"""Backbones: shapes, what they refuse, and weights that come from the seed alone."""

import copy
import math

import pytest
import torch
from torch import nn

from trainables.interfaces import DataShape
from trainables.nets.backbones import BACKBONES, build, resolve

CONVOLUTIONAL = [name for name in BACKBONES if name != "vit_b16"]


def shape(size_px: int, channels: int = 3) -> DataShape:
    return DataShape(100, 50, 10, channels, size_px)


@pytest.mark.parametrize(
    ("name", "channels", "size_px"),
    [
        ("resnet18_cifar", 3, 32),
        ("resnet18_cifar", 1, 8),
        ("resnet18_cifar", 3, 64),
        ("resnet18_stl", 3, 96),
        ("resnet18_stl", 3, 111),
        ("resnet18_tiny", 3, 64),
        ("resnet18_tiny", 1, 33),
        ("resnet50", 3, 64),
        ("resnet50", 1, 65),
        ("small", 1, 8),
        ("small", 3, 16),
        ("small", 1, 17),
        ("small", 1, 28),
        ("small", 3, 32),
    ],
)
def test_a_backbone_gives_one_row_of_its_width_per_image(name: str, channels: int, size_px: int) -> None:
    backbone = build(name, in_channels=channels, image_size_px=size_px, seed=0).eval()
    features_BD = backbone(torch.rand(2, channels, size_px, size_px))
    assert features_BD.shape == (2, backbone.width) == (2, 2048 if name == "resnet50" else 512)


def test_the_stl_backbone_refuses_64_px_and_names_one_that_fits() -> None:
    with pytest.raises(ValueError) as caught:
        build("resnet18_stl", in_channels=3, image_size_px=64, seed=0)
    assert str(caught.value) == (
        "backbone resnet18_stl takes images of 96 to 111 px, but these have 64 px. "
        "Use resnet18_cifar or resnet18_tiny or resnet50 or alexnet_dc."
    )


def test_images_too_small_for_all_are_refused() -> None:
    with pytest.raises(ValueError, match="small takes images of 8 to 32 px, but these have 4 px. No backbone takes"):
        build("small", in_channels=1, image_size_px=4, seed=0)
    with pytest.raises(ValueError, match="resnet18_cifar takes images of at least 8 px, but these have 7 px"):
        build("resnet18_cifar", in_channels=1, image_size_px=7, seed=0)


def test_an_unknown_backbone_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="one of resnet18_cifar, .*, small, but is 'resnet101'"):
        build("resnet101", in_channels=3, image_size_px=32, seed=0)


@pytest.mark.parametrize("name", CONVOLUTIONAL)
def test_weights_come_from_the_seed_alone_and_the_global_generator_is_untouched(name: str) -> None:
    size_px = BACKBONES[name][0]
    torch.manual_seed(1)
    wanted = torch.rand(3)
    torch.manual_seed(1)
    first = build(name, in_channels=1, image_size_px=size_px, seed=5).state_dict()
    assert torch.equal(torch.rand(3), wanted)
    again = build(name, in_channels=1, image_size_px=size_px, seed=5).state_dict()
    other = build(name, in_channels=1, image_size_px=size_px, seed=6).state_dict()
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not all(torch.equal(first[key], other[key]) for key in first)


@pytest.mark.parametrize("name", CONVOLUTIONAL)
def test_convolutions_are_kaiming_normal_over_fan_out_and_batch_norms_one_and_zero(name: str) -> None:
    backbone = build(name, in_channels=3, image_size_px=BACKBONES[name][0], seed=0)
    convolutions = [module for module in backbone.modules() if isinstance(module, nn.Conv2d)]
    norms = [module for module in backbone.modules() if isinstance(module, nn.BatchNorm2d)]
    assert len(convolutions) == len(norms) == {"small": 3, "alexnet_dc": 5, "resnet50": 53}.get(name, 20)
    for convolution in convolutions:
        kernel_area = convolution.kernel_size[0] ** 2
        wanted = math.sqrt(2 / (convolution.out_channels * kernel_area))
        assert convolution.weight.std().item() == pytest.approx(wanted, rel=0.1)
    assert all(bool((norm.weight == 1).all()) and bool((norm.bias == 0).all()) for norm in norms)


def test_the_resnet_stem_keeps_the_size_and_the_stages_halve_it_as_the_paper_says() -> None:
    # stl at 96 px: stem 96, pooled 49, stages 49, 25, 13, 7, end 1.
    backbone = build("resnet18_stl", in_channels=3, image_size_px=96, seed=0).eval()
    seen: list[int] = []
    names = ("conv1", "maxpool", "layer1", "layer2", "layer3", "layer4", "avgpool")
    for name in names:
        backbone.layers.get_submodule(name).register_forward_hook(lambda _m, _i, out: seen.append(out.shape[-1]))
    backbone(torch.rand(1, 3, 96, 96))
    assert seen == [96, 49, 49, 25, 13, 7, 1]


def test_the_tiny_backbone_averages_over_a_map_of_5_px_at_64_px() -> None:
    backbone = build("resnet18_tiny", in_channels=3, image_size_px=64, seed=0).eval()
    seen: list[int] = []
    for name in ("conv1", "maxpool", "layer1", "layer2", "layer3", "layer4", "avgpool"):
        backbone.layers.get_submodule(name).register_forward_hook(lambda _m, _i, out: seen.append(out.shape[-1]))
    backbone(torch.rand(1, 3, 64, 64))
    assert seen == [64, 33, 33, 17, 9, 5, 1]


def test_resnet50_has_as_many_weights_as_published_without_its_last_layer() -> None:
    # 25,557,032 in all (torchvision), of which 2048 x 1000 + 1000 are the last layer's.
    backbone = build("resnet50", in_channels=3, image_size_px=224, seed=0)
    assert sum(weights.numel() for weights in backbone.parameters()) == 25_557_032 - 2_049_000


@pytest.mark.parametrize(("channels", "fewer"), [(3, 0), (1, 2 * 768 * 16**2)])
def test_the_vit_has_as_many_weights_as_published_without_its_last_layer(channels: int, fewer: int) -> None:
    # 86,567,656 in all (torchvision), of which 768 x 1000 + 1000 are the last layer's.
    with torch.device("meta"):
        backbone = build("vit_b16", in_channels=channels, image_size_px=224, seed=0).eval()
        assert sum(weights.numel() for weights in backbone.parameters()) == 86_567_656 - 769_000 - fewer
        assert backbone(torch.rand(2, channels, 224, 224)).shape == (2, 768)


@pytest.mark.parametrize("name", ["auto", "small", "resnet50"])
def test_rows_of_features_are_refused_by_every_backbone(name: str) -> None:
    with pytest.raises(ValueError, match="rows of 40 features, but every backbone takes images. Choose a data set of"):
        resolve(name, DataShape(100, 50, 10, 40, 1, is_features=True))


@pytest.mark.parametrize(
    ("data", "wanted"),
    [
        (shape(8, 1), "small"),
        (shape(28, 1), "small"),
        (shape(32, 1), "small"),
        (shape(28, 3), "small"),
        (shape(32), "resnet18_cifar"),
        (shape(64), "resnet18_tiny"),
        (shape(96), "resnet18_stl"),
        (shape(224), "resnet50"),
    ],
)
def test_auto_chooses_by_image_size(data: DataShape, wanted: str) -> None:
    assert resolve("auto", data) == wanted


def test_a_name_stays_what_it_is() -> None:
    assert resolve("resnet18_cifar", shape(8, 1)) == "resnet18_cifar"


def test_auto_refuses_a_size_it_does_not_know_and_an_unknown_name() -> None:
    with pytest.raises(
        ValueError, match="of up to 28, of 32, 64, 96, 224 px, but these have 65 px. Choose one of resnet18"
    ):
        resolve("auto", shape(65))
    with pytest.raises(ValueError, match="backbone must be auto or one of .*small, but is 'vgg'"):
        resolve("vgg", shape(32))


@pytest.mark.parametrize("name", ["small", "resnet18_cifar"])
def test_maps_lie_channels_last_also_after_loading_and_say_the_same(name: str) -> None:
    first, second = (build(name, in_channels=3, image_size_px=16, seed=seed).double() for seed in (0, 1))
    plain = copy.deepcopy(first).to(memory_format=torch.contiguous_format)
    # Weights from a file lie as they did there; those of the network stay as they are.
    second.load_state_dict(plain.state_dict())
    kernels = [weights for weights in second.parameters() if weights.ndim == 4]
    assert kernels and all(weights.is_contiguous(memory_format=torch.channels_last) for weights in kernels)
    images_BCHW = torch.rand(4, 3, 16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(second(images_BCHW), plain(images_BCHW))
