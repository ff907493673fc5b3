"""Published files of weights: each layout is planted tensor by tensor, and computes what its own code computes.

The references are written out here on the file's own names, or are torchvision's; none is the network under test.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from trainables.interfaces import DataShape
from trainables.nets import backbones, checkpoints, described, freezing, layouts, safetensors_file
from trainables.nets.checkpoints import CheckpointError, Reading

Weights = dict[str, Tensor]
Forward = Callable[[Tensor], Tensor]

SIZE_PX = 40
IMAGENET, HALF = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)), ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
CIFAR10 = ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))
DATA = {3: ((0.4, 0.5, 0.6), (0.2, 0.3, 0.25)), 1: ((0.3,), (0.2,))}


def shape(channels: int = 3, size_px: int = SIZE_PX) -> DataShape:
    return DataShape(100, 50, 3, channels, size_px)


def conv(weights: Weights, name: str, out: int, into: int, side: int) -> None:
    weights[f"{name}.weight"] = torch.randn(out, into, side, side) * (2 / (into * side * side)) ** 0.5


def norm(weights: Weights, name: str, width: int) -> None:
    weights |= {f"{name}.weight": 1 + torch.randn(width) / 10, f"{name}.bias": torch.randn(width) / 10}
    weights |= {f"{name}.running_mean": torch.randn(width) / 10, f"{name}.running_var": 1 + torch.rand(width)}
    weights[f"{name}.num_batches_tracked"] = torch.tensor(7)


def resnet(
    counts: tuple[int, ...], *, bottleneck: bool = False, stem: int = 7, shortcut: str = "downsample"
) -> Weights:
    weights: Weights = {}
    conv(weights, "conv1", 64, 3, stem)
    norm(weights, "bn1", 64)
    into = 64
    for stage, count in enumerate(counts, start=1):
        planes = 64 * 2 ** (stage - 1)
        out = planes * (4 if bottleneck else 1)
        for number in range(count):
            name = f"layer{stage}.{number}"
            plan = [(planes, into, 1), (planes, planes, 3), (out, planes, 1)] if bottleneck else [
                (planes, into, 3), (planes, planes, 3)
            ]  # fmt: skip
            for index, (o, i, side) in enumerate(plan, start=1):
                conv(weights, f"{name}.conv{index}", o, i, side)
                norm(weights, f"{name}.bn{index}", o)
            if number == 0 and (into != out or stage > 1):
                conv(weights, f"{name}.{shortcut}.0", out, into, 1)
                norm(weights, f"{name}.{shortcut}.1", out)
            into = out
    return weights


def resnet_forward(weights: Weights, pool: str, shortcut: str = "downsample") -> Forward:
    def normed(x: Tensor, name: str) -> Tensor:
        mean, var, scale, shift = (weights[f"{name}.{k}"] for k in ("running_mean", "running_var", "weight", "bias"))
        return (x - mean[:, None, None]) / (var[:, None, None] + 1e-5).sqrt() * scale[:, None, None] + shift[
            :, None, None
        ]

    def block(x: Tensor, name: str, stride: int) -> Tensor:
        last = 3 if f"{name}.conv3.weight" in weights else 2
        y = x
        for index in range(1, last + 1):
            kernel = weights[f"{name}.conv{index}.weight"]
            # The stride lies in the first 3x3 convolution.
            step = stride if index == last - 1 else 1
            y = normed(functional.conv2d(y, kernel, stride=step, padding=kernel.shape[-1] // 2), f"{name}.bn{index}")
            y = y.relu() if index < last else y
        if f"{name}.{shortcut}.0.weight" in weights:
            x = normed(
                functional.conv2d(x, weights[f"{name}.{shortcut}.0.weight"], stride=stride), f"{name}.{shortcut}.1"
            )
        return (x + y).relu()

    def forward(x: Tensor) -> Tensor:
        stem = weights["conv1.weight"]
        x = functional.conv2d(x, stem, stride=2 if stem.shape[-1] == 7 else 1, padding=stem.shape[-1] // 2)
        x = normed(x, "bn1").relu()
        if pool == "3x3":
            x = functional.max_pool2d(x, 3, 2, 1)
        if pool == "2x2":
            x = functional.max_pool2d(x, 2, 2, 1)
        for stage in range(1, 5):
            number = 0
            while f"layer{stage}.{number}.conv1.weight" in weights:
                x = block(x, f"layer{stage}.{number}", 2 if stage > 1 and number == 0 else 1)
                number += 1
        return x.mean((2, 3))

    return forward


def vit(width: int, patch: int, positions: int, *, scaled: bool = False, last: str = "norm") -> Weights:
    weights = {"cls_token": torch.randn(1, 1, width), "pos_embed": torch.randn(1, positions, width)}
    weights["patch_embed.proj.weight"] = torch.randn(width, 3, patch, patch) / patch
    weights["patch_embed.proj.bias"] = torch.randn(width)
    sizes = {"attn.qkv": (3 * width, width), "attn.proj": (width, width), "mlp.fc1": (2 * width, width)}
    sizes |= {"mlp.fc2": (width, 2 * width), "norm1": (width,), "norm2": (width,)}
    for number in range(2):
        for part, size in sizes.items():
            weights[f"blocks.{number}.{part}.weight"] = torch.randn(size) / size[-1] ** 0.5
            weights[f"blocks.{number}.{part}.bias"] = torch.randn(size[0]) / 5
        if scaled:
            weights |= {f"blocks.{number}.ls{k}.gamma": torch.rand(width) for k in (1, 2)}
    weights |= {f"{last}.weight": torch.rand(width) + 0.5, f"{last}.bias": torch.randn(width)}
    return weights


def vit_forward(weights: Weights, heads: int, positions: Tensor, registers: str = "", last: str = "norm") -> Forward:
    """positions: (1, T, D) as they are to be added, with the class token's where it has one."""
    width = weights["cls_token"].shape[-1]

    def normed(x: Tensor, name: str) -> Tensor:
        centered = x - x.mean(-1, keepdim=True)
        scaled = centered / (centered.square().mean(-1, keepdim=True) + 1e-6).sqrt()
        return scaled * weights[f"{name}.weight"] + weights[f"{name}.bias"]

    def linear(x: Tensor, name: str) -> Tensor:
        return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    def forward(images_BCHW: Tensor) -> Tensor:
        patch = weights["patch_embed.proj.weight"].shape[-1]
        maps = functional.conv2d(
            images_BCHW, weights["patch_embed.proj.weight"], weights["patch_embed.proj.bias"], stride=patch
        )
        x, token = maps.flatten(2).transpose(1, 2), weights["cls_token"].expand(len(images_BCHW), -1, -1)
        if positions.shape[1] > x.shape[1]:
            x, token = x + positions[:, 1:], token + positions[:, :1]
        else:
            x = x + positions
        extra = [weights[registers].expand(len(x), -1, -1)] if registers else []
        x = torch.cat([token, *extra, x], 1)
        for number in range(2):
            block = f"blocks.{number}"
            q, k, v = linear(normed(x, f"{block}.norm1"), f"{block}.attn.qkv").split(width, dim=-1)
            mixed = [
                ((a @ b.transpose(1, 2)) / (width // heads) ** 0.5).softmax(-1) @ c
                for a, b, c in zip(q.chunk(heads, -1), k.chunk(heads, -1), v.chunk(heads, -1), strict=True)
            ]
            branch = linear(torch.cat(mixed, -1), f"{block}.attn.proj")
            x = x + branch * weights.get(f"{block}.ls1.gamma", torch.ones(width))
            branch = linear(
                functional.gelu(linear(normed(x, f"{block}.norm2"), f"{block}.mlp.fc1")), f"{block}.mlp.fc2"
            )
            x = x + branch * weights.get(f"{block}.ls2.gamma", torch.ones(width))
        if last == "fc_norm":
            return normed(x[:, x.shape[1] - maps[0, 0].numel() :].mean(1), last)
        return normed(x, last)[:, 0]

    return forward


def renamed(weights: Weights, prefix: str) -> Weights:
    return {f"{prefix}{key}": value for key, value in weights.items()}


def scan_cifar() -> tuple[Any, Forward]:
    weights = resnet((1, 1, 1, 1), stem=3, shortcut="shortcut")
    head = {"contrastive_head.0.weight": torch.randn(512, 512) / 20, "contrastive_head.0.bias": torch.randn(512)}
    head |= {"contrastive_head.2.weight": torch.randn(6, 512) / 20, "contrastive_head.2.bias": torch.randn(6)}
    return {**renamed(weights, "backbone."), **head}, resnet_forward(weights, "none", "shortcut")


def scan_stl() -> tuple[Any, Forward]:
    weights = resnet((1, 1, 1, 1), stem=3, shortcut="shortcut")
    head = {"contrastive_head.weight": torch.randn(6, 512) / 20, "contrastive_head.bias": torch.randn(6)}
    return {"model": {**renamed(weights, "backbone."), **head}, "epoch": 3}, resnet_forward(weights, "2x2", "shortcut")


def moco_v2() -> tuple[Any, Forward]:
    weights = resnet((1, 1, 1, 1), bottleneck=True)
    content = renamed({**weights, "fc.0.weight": torch.zeros(9, 9), "fc.2.bias": torch.zeros(9)}, "module.encoder_q.")
    content |= renamed({key: value + 1 for key, value in weights.items()}, "module.encoder_k.")
    return {"arch": "resnet50", "state_dict": {**content, "module.queue": torch.zeros(9, 9)}}, resnet_forward(
        weights, "3x3"
    )


def moco_v3_resnet() -> tuple[Any, Forward]:
    weights = resnet((1, 2, 1, 1))
    content = renamed({**weights, "fc.0.weight": torch.zeros(9, 9)}, "module.base_encoder.")
    content |= renamed(weights, "module.momentum_encoder.") | {"module.predictor.0.weight": torch.zeros(9, 9)}
    return {"state_dict": content, "optimizer": {}, "scaler": {}}, resnet_forward(weights, "3x3")


def moco_v3_vit() -> tuple[Any, Forward]:
    weights = vit(48, 16, 14 * 14 + 1)
    content = renamed({**weights, "head.0.weight": torch.zeros(9, 9)}, "module.base_encoder.")
    return {"state_dict": content | renamed(weights, "module.momentum_encoder.")}, vit_forward(
        weights, 12, weights["pos_embed"]
    )


def dino_teacher_vit() -> tuple[Any, Forward]:
    weights = vit(128, 16, 14 * 14 + 1)
    teacher = {**renamed(weights, "backbone."), "head.mlp.0.weight": torch.zeros(9, 9)}
    student = renamed({key: value + 1 for key, value in teacher.items()}, "module.")
    return {"student": student, "teacher": teacher, "epoch": 1}, vit_forward(weights, 2, weights["pos_embed"])


def dino_teacher_resnet() -> tuple[Any, Forward]:
    weights = resnet((1, 1, 1, 1))
    teacher = renamed({**renamed(weights, "backbone."), "head.mlp.0.weight": torch.zeros(9, 9)}, "module.")
    return {"teacher": teacher}, resnet_forward(weights, "3x3")


def dinov2() -> tuple[Any, Forward]:
    weights = vit(64, 14, 37 * 37 + 1, scaled=True) | {"mask_token": torch.zeros(1, 64)}
    grid = weights["pos_embed"][:, 1:].reshape(1, 37, 37, 64).permute(0, 3, 1, 2)
    small = functional.interpolate(grid, scale_factor=(16.1 / 37, 16.1 / 37), mode="bicubic")
    positions = torch.cat([weights["pos_embed"][:, :1], small.permute(0, 2, 3, 1).reshape(1, 256, 64)], 1)
    return weights, vit_forward(weights, 1, positions)


def dinov2_registers() -> tuple[Any, Forward]:
    weights = vit(64, 14, 37 * 37 + 1, scaled=True) | {"mask_token": torch.zeros(1, 64)}
    weights["register_tokens"] = torch.randn(1, 4, 64)
    grid = weights["pos_embed"][:, 1:].reshape(1, 37, 37, 64).permute(0, 3, 1, 2)
    small = functional.interpolate(grid, size=(16, 16), mode="bicubic", antialias=True)
    positions = torch.cat([weights["pos_embed"][:, :1], small.permute(0, 2, 3, 1).reshape(1, 256, 64)], 1)
    return weights, vit_forward(weights, 1, positions, "register_tokens")


def dinov2_of_timm() -> tuple[Any, Forward]:
    """With registers timm gives the class token no position."""
    weights = vit(64, 14, 16 * 16, scaled=True) | {"reg_token": torch.randn(1, 4, 64)}
    return weights, vit_forward(weights, 1, weights["pos_embed"], "reg_token")


def timm_vit() -> tuple[Any, Forward]:
    weights = vit(64, 16, 14 * 14 + 1)
    return {**weights, "head.weight": torch.zeros(9, 64), "head.bias": torch.zeros(9)}, vit_forward(
        weights, 1, weights["pos_embed"]
    )


def timm_mean_vit() -> tuple[Any, Forward]:
    weights = vit(64, 16, 14 * 14 + 1, last="fc_norm")
    return {**weights, "head.weight": torch.zeros(9, 64)}, vit_forward(weights, 1, weights["pos_embed"], last="fc_norm")


def dino_vit() -> tuple[Any, Forward]:
    weights = vit(128, 8, 28 * 28 + 1)
    return weights, vit_forward(weights, 2, weights["pos_embed"])


def torchvision_vit() -> tuple[Any, Forward]:
    from torchvision.models import VisionTransformer

    network = VisionTransformer(224, 16, num_layers=2, num_heads=2, hidden_dim=128, mlp_dim=96, num_classes=5).eval()
    torch.nn.init.normal_(network.encoder.pos_embedding)
    weights = {key: value.clone() for key, value in network.state_dict().items()}
    network.heads = torch.nn.Identity()
    return weights, network


def torchvision_resnet() -> tuple[Any, Forward]:
    from torchvision.models.resnet import Bottleneck, ResNet

    network = ResNet(Bottleneck, [1, 1, 1, 1], groups=2, width_per_group=16).eval()
    weights = {key: value.clone() for key, value in network.state_dict().items()}
    network.fc = torch.nn.Identity()
    return weights, network


CASES: dict[str, tuple[str, Callable[[], tuple[Any, Forward]], Any, str, int]] = {
    "SCAN at 32 px": ("SCAN's files for CIFAR", scan_cifar, CIFAR10, "bilinear", 32),
    "SCAN at 96 px": ("SCAN's files for STL-10", scan_stl, IMAGENET, "bilinear", 96),
    "MoCo v2": ("MoCo v2", moco_v2, IMAGENET, "bilinear", 224),
    "MoCo v3 ResNet": ("MoCo v3 (ResNet)", moco_v3_resnet, IMAGENET, "bilinear", 224),
    "MoCo v3 ViT": ("MoCo v3 (ViT)", moco_v3_vit, IMAGENET, "bicubic", 224),
    "DINO teacher ViT": ("DINO's teacher (ViT)", dino_teacher_vit, IMAGENET, "bicubic", 224),
    "DINO teacher ResNet": ("DINO's teacher (ResNet)", dino_teacher_resnet, IMAGENET, "bicubic", 224),
    "DINOv2": ("DINOv2", dinov2, IMAGENET, "bicubic", 224),
    "DINOv2 with registers": ("DINOv2", dinov2_registers, IMAGENET, "bicubic", 224),
    "DINOv2 of timm": ("DINOv2", dinov2_of_timm, IMAGENET, "bicubic", 224),
    "timm ViT": ("timm's ViT with a classifier", timm_vit, HALF, "bicubic", 224),
    "timm ViT, mean": ("timm's ViT with a classifier", timm_mean_vit, HALF, "bicubic", 224),
    "DINO": ("DINO (ViT)", dino_vit, IMAGENET, "bicubic", 224),
    "torchvision ViT": ("torchvision's ViT", torchvision_vit, IMAGENET, "bilinear", 224),
    "ResNet": ("torchvision's ResNet (also timm's, DINO's, SwAV's)", torchvision_resnet, IMAGENET, "bilinear", 224),
}
"""Layout, its file and its reference, its mean and deviation, how images are resized, and to which side."""


def saved(folder: Path, content: Any) -> Path:
    path = folder / "weights.pt"
    torch.save(content, path)
    return path


def loaded(path: Path, size_px: int, channels: int) -> backbones.Backbone:
    found = checkpoints.pretrained(path, shape(channels, size_px), Reading())
    assert found is not None
    backbone = backbones.build(found.description.network, in_channels=channels, image_size_px=size_px, seed=0)
    backbone.load_state_dict(found.weights(*DATA[channels]))
    return backbone.eval()


def test_every_layout_of_the_table_is_tried() -> None:
    assert {layout for layout, *_ in CASES.values()} == {layout.name for layout in layouts.LAYOUTS}


@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_a_file_computes_what_its_own_code_computes(tmp_path: Path, case: str) -> None:
    layout, make, (mean, std), resize, px = CASES[case]
    torch.manual_seed(0)
    content, reference = make()
    path, size_px = saved(tmp_path, content), 70 if px == 96 else SIZE_PX
    for channels in (3, 1):
        pixels_BCHW = torch.rand(2, channels, size_px, size_px)
        wanted_BCHW = functional.interpolate(pixels_BCHW.expand(-1, 3, -1, -1), (px, px), mode=resize, antialias=True)
        expected_BD = reference((wanted_BCHW - column(mean)) / column(std))
        data_mean, data_std = DATA[channels]
        given_BCHW = (pixels_BCHW - column(data_mean)) / column(data_std)
        found_BD = loaded(path, size_px, channels)(given_BCHW)
        assert expected_BD.std() > 1e-3
        torch.testing.assert_close(found_BD, expected_BD, rtol=1e-5, atol=1e-5)
    found = checkpoints.description(path, shape(3, size_px), Reading())
    assert found is not None and found.layout == layout


def column(values: tuple[float, ...]) -> Tensor:
    return torch.tensor(values).reshape(-1, 1, 1)


@pytest.mark.parametrize("case", CASES)
def test_a_backbone_can_be_built_again_from_its_name(tmp_path: Path, case: str) -> None:
    torch.manual_seed(0)
    size_px = 70 if CASES[case][4] == 96 else SIZE_PX
    backbone = loaded(saved(tmp_path, CASES[case][1]()[0]), size_px, 3)
    with torch.device("meta"):
        again = backbones.build(backbone.name, in_channels=3, image_size_px=size_px, seed=1)
    assert {key: value.shape for key, value in again.state_dict().items()} == {
        key: value.shape for key, value in backbone.state_dict().items()
    }
    written = described.written(*described.parsed(backbone.name))
    assert written == backbone.name and json.dumps(written)
    freezing.train_part(again, "last_block")
    trained = {key.rpartition(".")[0] for key, value in again.named_parameters() if value.requires_grad}
    assert trained and len(trained) < len({key.rpartition(".")[0] for key, _ in again.named_parameters()})


@pytest.mark.parametrize("case", CASES)
def test_a_missing_a_misshapen_and_a_surplus_tensor_are_named(tmp_path: Path, case: str) -> None:
    torch.manual_seed(0)
    content, _ = CASES[case][1]()
    whole = next((content[key] for key in ("state_dict", "model", "teacher") if key in content), content)
    parts = ("blocks.1.norm1.bias", "encoder_layer_1.ln_1.bias", "layer4.0.bn2.bias")
    key = next(key for key in whole if key.endswith(parts) and "momentum" not in key and "encoder_k" not in key)
    size_px = 70 if CASES[case][4] == 96 else SIZE_PX
    for value, message in (
        (None, "has no such key"),
        (torch.zeros(3), r"but found \(3,\)"),
        (whole[key] / 0, "not finite"),
    ):
        spoilt = {**whole, key: value} if value is not None else {k: v for k, v in whole.items() if k != key}
        with pytest.raises(CheckpointError, match=message):
            checkpoints.pretrained(saved(tmp_path, spoilt), shape(3, size_px), Reading())
    with pytest.raises(CheckpointError, match="expects no such key"):
        surplus = {**whole, key.replace("bias", "surplus"): torch.zeros(3)}
        checkpoints.pretrained(saved(tmp_path, surplus), shape(3, size_px), Reading())


def test_a_file_of_no_known_layout_is_refused_with_the_layouts_and_its_first_keys(tmp_path: Path) -> None:
    content = {f"stages.{number}.weight": torch.zeros(1) for number in range(5)}
    with pytest.raises(CheckpointError) as refused:
        checkpoints.pretrained(saved(tmp_path, content), shape(), Reading())
    assert "no known layout has its keys (stages.0.weight, stages.1.weight, stages.2.weight, ...). Known are" in str(
        refused.value
    )
    assert all(layout.name in str(refused.value) for layout in layouts.LAYOUTS)


def test_a_head_of_another_shape_is_refused(tmp_path: Path) -> None:
    content, _ = scan_cifar()
    with pytest.raises(
        CheckpointError, match="a head of one linear layer or of two on features of 512, but the file has"
    ):
        checkpoints.pretrained(
            saved(tmp_path, {**content, "contrastive_head.2.bias": torch.zeros(5)}), shape(), Reading()
        )


def test_a_file_without_what_its_layout_has_is_refused(tmp_path: Path) -> None:
    weights = vit(64, 16, 14 * 14 + 1)
    del weights["pos_embed"]
    with pytest.raises(CheckpointError, match=r"pos_embed: DINO \(ViT\) has this key, but the file has not"):
        checkpoints.pretrained(saved(tmp_path, weights), shape(), Reading())


def test_images_with_other_channels_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="takes gray or color images, but these have 4 channels"):
        checkpoints.pretrained(saved(tmp_path, dino_vit()[0]), shape(4), Reading())


def test_size_and_heads_can_be_said_and_are_refused_where_they_do_not_fit(tmp_path: Path) -> None:
    path = saved(tmp_path, dinov2()[0])
    found = checkpoints.description(path, shape(), Reading(px=518, heads=4, normalization="half"))
    assert found is not None and "px=518" in found.network and "heads=4" in found.network
    assert found.sentence() == "DINOv2, images at 518 px (bicubic), normalized as half"
    for reading, message in ((Reading(px=100), "not whole patches of 14 px"), (Reading(heads=7), "into 7 heads")):
        with pytest.raises(CheckpointError, match=message):
            checkpoints.description(path, shape(), reading)


def test_a_file_is_read_once_until_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path, dino_vit()[0])
    first = checkpoints.description(path, shape(), Reading())
    with monkeypatch.context() as without:
        without.setattr(checkpoints, "_opened", lambda path: pytest.fail("the file was read again"))
        assert checkpoints.description(path, shape(), Reading()) is first
    saved(tmp_path, vit(64, 16, 17))
    assert checkpoints.description(path, shape(), Reading()) != first


def test_training_arguments_beside_the_weights_are_taken(tmp_path: Path) -> None:
    import argparse

    content = {"teacher": renamed(vit(64, 16, 5), "backbone."), "args": argparse.Namespace(arch="vit_small")}
    assert checkpoints.pretrained(saved(tmp_path, content), shape(), Reading()) is not None


def as_safetensors(weights: Weights) -> bytes:
    table, rows = {"__metadata__": {"format": "pt"}}, b""
    for key, value in weights.items():
        text = value.contiguous().numpy().tobytes()
        table[key] = {"dtype": "F32", "shape": list(value.shape), "data_offsets": [len(rows), len(rows) + len(text)]}
        rows += text
    header = json.dumps(table).encode()
    return len(header).to_bytes(8, "little") + header + rows


def test_a_safetensors_file_gives_the_same_tensors_and_a_cut_one_is_refused(tmp_path: Path) -> None:
    weights = {**vit(64, 16, 5), "empty": torch.zeros(0, 3)}
    path = tmp_path / "model.safetensors"
    path.write_bytes(as_safetensors(weights))
    read = safetensors_file.read(path)
    assert read.keys() == weights.keys() and all(torch.equal(read[key], weights[key]) for key in weights)
    for length in (3, 40, path.stat().st_size - 4):
        path.write_bytes(as_safetensors(weights)[:length])
        with pytest.raises(CheckpointError, match="no file of tensors"):
            checkpoints.pretrained(path, shape(), Reading())
