"""Which part of a backbone is trained, and in which mode the rest stays."""

import pytest
import torch
from torch import nn

from trainables.nets import backbones, freezing, models


@pytest.mark.parametrize(
    ("name", "size_px", "learning"),
    [
        ("small", 8, "8."),
        ("resnet18_cifar", 8, "layer4."),
        ("resnet50", 64, "layer4."),
        ("alexnet_dc", 64, "fc7."),
        ("vit_b16", 224, "encoder.layers.encoder_layer_11."),
    ],
)
def test_the_last_block_of_every_backbone_is_its_deepest_layers(name: str, size_px: int, learning: str) -> None:
    with torch.device("meta"):
        backbone = backbones.build(name, in_channels=3, image_size_px=size_px, seed=0)
    freezing.train_part(backbone, "last_block")
    trained = [key.removeprefix("layers.") for key, weights in backbone.named_parameters() if weights.requires_grad]
    parts = (learning, "9.") if name == "small" else (learning,)
    assert trained and all(key.startswith(parts) for key in trained)


def test_frozen_batch_norms_stay_in_eval_mode_while_the_rest_trains() -> None:
    model = models.ContrastiveModel(backbones.build("small", in_channels=1, image_size_px=8, seed=0), 4)
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    for part, training in (("none", [False] * 3), ("last_block", [False, False, True]), ("all", [True] * 3)):
        freezing.train_part(model.backbone, part)
        freezing.train_mode(model)
        assert [norm.training for norm in norms] == training
        assert model.head.training
