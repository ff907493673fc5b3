"""Files of weights in every layout that is understood, and each way in which one does not fit."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from trainables.interfaces import DataShape
from trainables.nets import backbones, checkpoints
from trainables.nets.checkpoints import CheckpointError

SHAPE = DataShape(100, 50, 3, 3, 32)


@pytest.fixture(scope="module")
def ours() -> dict[str, Tensor]:
    return backbones.build("resnet18_cifar", in_channels=3, image_size_px=32, seed=3).state_dict()


def bare(ours: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key.removeprefix("layers."): value for key, value in ours.items()}


def torchvision(ours: dict[str, Tensor]) -> Any:
    return {**bare(ours), "fc.weight": torch.zeros(1000, 512), "fc.bias": torch.zeros(1000)}


def moco(ours: dict[str, Tensor]) -> Any:
    queries = {f"module.encoder_q.{key}": value for key, value in torchvision(ours).items()}
    keys = {f"module.encoder_k.{key}": value + 1 for key, value in bare(ours).items()}
    return {"epoch": 800, "arch": "resnet18", "state_dict": {**keys, **queries, "module.queue": torch.zeros(128, 4)}}


def saved(folder: Path, content: Any) -> Path:
    path = folder / "weights.pt"
    torch.save(content, path)
    return path


@pytest.mark.parametrize("layout", [dict, torchvision, moco, lambda ours: {"state_dict": ours}])
def test_every_layout_gives_the_same_weights(tmp_path: Path, ours: dict[str, Tensor], layout: Any) -> None:
    found = checkpoints.backbone_weights(saved(tmp_path, layout(ours)), "resnet18_cifar", SHAPE)
    assert found.keys() == ours.keys()
    assert all(torch.equal(found[key], ours[key]) for key in ours)


def test_the_keys_of_torchvision_s_resnet50_are_taken_without_its_classifier() -> None:
    from torchvision.models import resnet50

    with torch.device("meta"):
        keys = resnet50(weights=None).state_dict()
    published = {f"module.encoder_q.{key}": value for key, value in keys.items()}
    for content in (keys, published):
        assert set(checkpoints._of_backbone(content)) == {key for key in keys if not key.startswith("fc.")}


def dino_s_forward(weights: dict[str, Tensor], images_BCHW: Tensor, heads: int) -> Tensor:
    """The ViT of Dosovitskiy et al. 2021 written out on weights with DINO's names; (B, D), the class token."""
    patches_BDP = functional.conv2d(
        images_BCHW, weights["patch_embed.proj.weight"], weights["patch_embed.proj.bias"], stride=4
    ).flatten(2)
    token_B1D = weights["cls_token"].expand(len(images_BCHW), -1, -1)
    x_BTD = torch.cat([token_B1D, patches_BDP.transpose(1, 2)], 1) + weights["pos_embed"]

    def normed(x: Tensor, name: str) -> Tensor:
        return functional.layer_norm(x, x.shape[-1:], weights[f"{name}.weight"], weights[f"{name}.bias"], eps=1e-6)

    def linear(x: Tensor, name: str) -> Tensor:
        return functional.linear(x, weights[f"{name}.weight"], weights[f"{name}.bias"])

    for block in ("blocks.0", "blocks.1"):
        qkv = linear(normed(x_BTD, f"{block}.norm1"), f"{block}.attn.qkv").chunk(3, dim=-1)
        q, k, v = (part.unflatten(-1, (heads, -1)).transpose(1, 2) for part in qkv)
        share = (q @ k.transpose(-2, -1) * k.shape[-1] ** -0.5).softmax(-1)
        x_BTD = x_BTD + linear((share @ v).transpose(1, 2).flatten(2), f"{block}.attn.proj")
        hidden = functional.gelu(linear(normed(x_BTD, f"{block}.norm2"), f"{block}.mlp.fc1"))
        x_BTD = x_BTD + linear(hidden, f"{block}.mlp.fc2")
    return normed(x_BTD, "norm")[:, 0]


def test_weights_with_dino_s_names_compute_what_dino_computes() -> None:
    from torchvision.models import VisionTransformer

    torch.manual_seed(0)
    network = VisionTransformer(8, 4, num_layers=2, num_heads=2, hidden_dim=12, mlp_dim=24)
    network.heads = torch.nn.Identity()
    shapes = {"norm": (12,), "norm1": (12,), "norm2": (12,), "attn.proj": (12, 12)}
    shapes |= {"attn.qkv": (36, 12), "mlp.fc1": (24, 12), "mlp.fc2": (12, 24)}
    weights = {"cls_token": torch.randn(1, 1, 12), "pos_embed": torch.randn(1, 5, 12)}
    weights |= {"patch_embed.proj.weight": torch.randn(12, 3, 4, 4), "patch_embed.proj.bias": torch.randn(12)}
    for name, size in shapes.items():
        for prefix in ("",) if name == "norm" else ("blocks.0.", "blocks.1."):
            weights[f"{prefix}{name}.weight"] = torch.randn(size) / 2
            weights[f"{prefix}{name}.bias"] = torch.randn(size[0]) / 2
    network.load_state_dict(checkpoints._of_backbone(weights))
    images_BCHW = torch.randn(3, 3, 8, 8)
    torch.testing.assert_close(network.eval()(images_BCHW), dino_s_forward(weights, images_BCHW, heads=2))


def test_every_name_of_dino_s_vit_is_one_of_the_backbone_s() -> None:
    with torch.device("meta"):
        ours = backbones.build("vit_b16", in_channels=3, image_size_px=224, seed=0).state_dict()
    whole = ("norm", "patch_embed.proj")
    parts = ("norm1", "attn.qkv", "attn.proj", "norm2", "mlp.fc1", "mlp.fc2")
    names = [*whole, *(f"blocks.{number}.{part}" for number in range(12) for part in parts)]
    keys = {f"{name}.{kind}" for name in names for kind in ("weight", "bias")} | {"cls_token", "pos_embed"}
    found = checkpoints._of_backbone(dict.fromkeys(keys, torch.zeros(1)))
    assert {f"layers.{key}" for key in found} == set(ours)


def test_a_file_without_batch_counters_is_taken(tmp_path: Path, ours: dict[str, Tensor]) -> None:
    old = {key: value for key, value in ours.items() if not key.endswith("num_batches_tracked")}
    found = checkpoints.backbone_weights(saved(tmp_path, old), "resnet18_cifar", SHAPE)
    assert found.keys() == ours.keys()


def refused(folder: Path, content: Any, network: str = "resnet18_cifar") -> str:
    path = saved(folder, content)
    with pytest.raises(CheckpointError) as caught:
        checkpoints.backbone_weights(path, network, SHAPE)
    assert str(caught.value).startswith(f"{path}: ")
    return str(caught.value).removeprefix(f"{path}: ")


def test_another_shape_is_named_with_key_and_both_shapes(tmp_path: Path, ours: dict[str, Tensor]) -> None:
    assert refused(tmp_path, {**bare(ours), "conv1.weight": torch.zeros(64, 3, 7, 7)}) == (
        "conv1.weight: resnet18_cifar expects a tensor of shape (64, 3, 3, 3), but found (64, 3, 7, 7); "
        "choose the network and image channels it was trained with"
    )


def test_a_missing_and_a_surplus_key_are_named(tmp_path: Path, ours: dict[str, Tensor]) -> None:
    short = {key: value for key, value in bare(ours).items() if key != "bn1.bias"}
    assert refused(tmp_path, short).startswith("bn1.bias: resnet18_cifar expects a tensor of shape (64,), but the file")
    assert refused(tmp_path, {**bare(ours), "layer9.x": torch.zeros(1)}).startswith(
        "layer9.x: resnet18_cifar expects no"
    )


def test_numbers_that_are_not_finite_are_refused(tmp_path: Path, ours: dict[str, Tensor]) -> None:
    assert "not finite" in refused(tmp_path, {**bare(ours), "bn1.bias": torch.full((64,), torch.nan)})


class Code:
    """What ``weights_only`` must not open."""


def test_a_file_that_could_run_code_is_refused(tmp_path: Path) -> None:
    assert refused(tmp_path, {"conv1.weight": Code()}).startswith("this is no file of tensors and plain values alone")


def test_a_list_and_a_text_file_are_refused(tmp_path: Path) -> None:
    assert refused(tmp_path, [1, 2]) == "a checkpoint is a mapping of names to tensors, but this is list"
    text = tmp_path / "text.pt"
    text.write_text("hello")
    with pytest.raises(CheckpointError, match="no file of tensors"):
        checkpoints.backbone_weights(text, "resnet18_cifar", SHAPE)


def test_a_missing_file_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="cannot be read: No such file"):
        checkpoints.digest(tmp_path / "none.pt")


def deepcluster_s_alexnet() -> torch.nn.ModuleDict:
    """The layout of DeepCluster's released files: two sequences by number, a filter and a top layer."""
    layers: list[torch.nn.Module] = []
    channels = 2
    for width, kernel, stride, padding, pooled in (
        (96, 11, 4, 2, True), (256, 5, 1, 2, True), (384, 3, 1, 1, False), (384, 3, 1, 1, False), (256, 3, 1, 1, True)
    ):  # fmt: skip
        layers += [torch.nn.Conv2d(channels, width, kernel, stride, padding), torch.nn.BatchNorm2d(width)]
        layers += [torch.nn.ReLU(), *([torch.nn.MaxPool2d(3, 2)] if pooled else [])]
        channels = width
    classifier = [torch.nn.Dropout(), torch.nn.Linear(9216, 4096), torch.nn.ReLU()]
    classifier += [torch.nn.Dropout(), torch.nn.Linear(4096, 4096), torch.nn.ReLU()]
    gray, edges = torch.nn.Conv2d(3, 1, 1), torch.nn.Conv2d(1, 2, 3, padding=1)
    with torch.no_grad():
        gray.weight.fill_(1 / 3)
        edges.weight[0, 0] = torch.tensor([[1.0, 0, -1], [2, 0, -2], [1, 0, -1]])
        edges.weight[1, 0] = torch.tensor([[1.0, 2, 1], [0, 0, 0], [-1, -2, -1]])
        for each in (gray, edges):
            assert each.bias is not None
            each.bias.zero_()
    return torch.nn.ModuleDict(
        {"features": torch.nn.Sequential(*layers), "classifier": torch.nn.Sequential(*classifier),
         "sobel": torch.nn.Sequential(gray, edges), "top_layer": torch.nn.Linear(4096, 7)}
    )  # fmt: skip


@pytest.mark.parametrize("prefix", ["features.", "features.module.", "module.features."])
def test_deepcluster_s_released_alexnet_gives_its_own_features(tmp_path: Path, prefix: str) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        released = deepcluster_s_alexnet().eval()
        images_BCHW = torch.randn(2, 3, 224, 224)
        with torch.no_grad():
            for module in released.modules():
                if isinstance(module, torch.nn.BatchNorm2d):
                    module.running_mean.normal_(std=0.1)  # type: ignore[union-attr, operator]
                    module.running_var.uniform_(0.5, 2)  # type: ignore[union-attr, operator]
    keys = {key.replace("features.", prefix, 1): value for key, value in released.state_dict().items()}
    file, shape = saved(tmp_path, {"epoch": 200, "arch": "alexnet", "state_dict": keys}), DataShape(9, 9, 10, 3, 224)
    with pytest.raises(checkpoints.SobelError, match="looks at image gradients, but sobel is false; write pretext.sob"):
        checkpoints.backbone_weights(file, "alexnet_dc", shape)
    backbone = backbones.build("alexnet_dc", in_channels=3, image_size_px=224, seed=1, sobel=True)
    backbone.load_state_dict(checkpoints.backbone_weights(file, "alexnet_dc", shape, sobel=True))
    with torch.no_grad():
        maps_BCHW = released["features"](released["sobel"](images_BCHW))
        expected_BD = released["classifier"](maps_BCHW.flatten(1))
        found_BD = backbone.eval()(images_BCHW)
    torch.testing.assert_close(found_BD, expected_BD, atol=1e-5, rtol=1e-5)
