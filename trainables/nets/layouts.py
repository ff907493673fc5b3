"""How published files of weights name their tensors, and what each kind of network was trained with.

``LAYOUTS`` is the whole list, tried from the top. A file says by its keys which layout it has, and by its tensors'
shapes how deep and wide its network is; mean, deviation, image size and number of heads are in no file and stand here.

Axes: T tokens, D feature width.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from torch import Tensor

from .described import Resize, ResNetShape, Shape
from .vit import VitShape, has_class_position, resampled_positions

Tensors = Mapping[str, Tensor]

NORMALIZATIONS: Mapping[str, tuple[tuple[float, float, float], tuple[float, float, float]]] = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    "cifar20": ((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)),
}
"""Mean and standard deviation of pixels in [0, 1]; the CIFAR ones as SCAN's code writes them."""

_HEAD_WIDTH = 64
_CLASSIFIERS = ("fc.", "head.", "heads.", "pre_logits.", "projection_head.", "prototypes.", "cluster_head.")
_NOT_READ = ("mask_token", "num_batches_tracked")


@dataclass(frozen=True)
class Layout:
    """One way in which files are written.

    marks: regular expressions, each of which a key starts with; without: ones that no key may start with. Both after
    "module." is taken off.
    prefix: of the backbone's keys; what has another one is left out. head: prefix of a projection head that is kept.
    renamed: (expression, replacement) from the file's names to DINO's for a ViT and torchvision's for a ResNet.
    images_from: side of the study's images from which this row counts, where keys alone do not tell two rows apart.
    normalization: a name of NORMALIZATIONS. px: side of the images; 0 is the size that a ViT's positions are for.
    stem, pool: of a ResNet, see ``ResNetShape``. heads: of a ViT; 0 is one for every 64 channels.
    offset: of a ViT, see ``resampled_positions``.
    """

    name: str
    family: Literal["resnet", "vit"]
    marks: tuple[str, ...]
    without: tuple[str, ...] = ()
    prefix: str = ""
    head: str = ""
    renamed: tuple[tuple[str, str], ...] = ()
    normalization: str = "imagenet"
    resize: Resize = "bilinear"
    px: int = 224
    stem: int = 7
    pool: Literal["3x3", "2x2", "none"] = "3x3"
    heads: int = 0
    offset: float = 0.0
    images_from: int = 0


_RESNET = Layout("", "resnet", ())
_VIT = Layout("", "vit", (), resize="bicubic", px=0)
_TORCHVISION_VIT = (
    (r"class_token$", "cls_token"),
    (r"conv_proj\.", "patch_embed.proj."),
    (r"encoder\.pos_embedding$", "pos_embed"),
    (r"encoder\.ln\.", "norm."),
    (r"encoder\.layers\.encoder_layer_(\d+)\.", r"blocks.\1."),
    (r"(blocks\.\d+)\.ln_(\d)\.", r"\1.norm\2."),
    (r"(blocks\.\d+)\.self_attention\.in_proj_", r"\1.attn.qkv."),
    (r"(blocks\.\d+)\.self_attention\.out_proj\.", r"\1.attn.proj."),
    (r"(blocks\.\d+)\.mlp\.(?:0|linear_1)\.", r"\1.mlp.fc1."),
    (r"(blocks\.\d+)\.mlp\.(?:3|linear_2)\.", r"\1.mlp.fc2."),
)

_SCAN = replace(
    _RESNET, prefix="backbone.", head="contrastive_head.", stem=3,
    renamed=((r"(layer\d\.\d+)\.shortcut\.", r"\1.downsample."),),
    marks=(r"backbone\.layer2\.0\.shortcut\.", r"(contrastive|cluster)_head\."),
)  # fmt: skip

LAYOUTS: tuple[Layout, ...] = (
    replace(_SCAN, name="SCAN's files for STL-10", px=96, pool="2x2", images_from=64),
    replace(_SCAN, name="SCAN's files for CIFAR", px=32, pool="none", normalization="cifar10"),
    replace(_RESNET, name="MoCo v2", prefix="encoder_q.", marks=(r"encoder_q\.conv1\.", r"encoder_q\.layer1\.")),
    replace(
        _RESNET, name="MoCo v3 (ResNet)", prefix="base_encoder.",
        marks=(r"base_encoder\.conv1\.", r"base_encoder\.layer1\."),
    ),
    replace(_VIT, name="MoCo v3 (ViT)", prefix="base_encoder.", marks=(r"base_encoder\.cls_token$",), heads=12),
    replace(_VIT, name="DINO's teacher (ViT)", prefix="backbone.", marks=(r"backbone\.cls_token$",), offset=0.1),
    replace(
        _RESNET, name="DINO's teacher (ResNet)", prefix="backbone.", resize="bicubic",
        marks=(r"backbone\.conv1\.", r"backbone\.layer1\."), without=("contrastive_head",),
    ),
    replace(
        _VIT, name="DINOv2", marks=(r"cls_token$", r"blocks\.0\.ls1\.gamma$"), without=(r"head\.",), px=224, offset=0.1,
        renamed=((r"reg_token$", "register_tokens"),),
    ),
    replace(
        _VIT, name="timm's ViT with a classifier", normalization="half",
        marks=(r"cls_token$", r"blocks\.0\.attn\.qkv\.", r"(head|fc_norm)\."),
        renamed=((r"reg_token$", "register_tokens"), (r"fc_norm\.", "norm.")),
    ),
    replace(_VIT, name="DINO (ViT)", marks=(r"cls_token$", r"blocks\.0\.attn\.qkv\."), offset=0.1),
    replace(
        _VIT, name="torchvision's ViT", marks=(r"class_token$", r"encoder\.layers\.encoder_layer_0\."),
        renamed=_TORCHVISION_VIT, resize="bilinear",
    ),
    replace(
        _RESNET, name="torchvision's ResNet (also timm's, DINO's, SwAV's)",
        marks=(r"conv1\.", r"layer1\.0\.conv1\."),
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Recognized:
    """What a file holds.

    backbone: named as the built network names them, without a classifier; positions fit ``shape``.
    head: of a projection head, by what follows its prefix; empty where there is none.
    """

    layout: Layout
    shape: Shape
    backbone: Tensors
    head: Tensors


def recognized(tensors: Tensors, image_size_px: int, *, px: int = 0, heads: int = 0) -> Recognized | None:
    """The layout of a file, or None where none fits.

    Args:
        tensors: all that the file holds.
        image_size_px: side of the study's images.
        px: side of the network's images, 0 for the layout's. heads: of a ViT, 0 for the layout's.

    Raises:
        ValueError: the file lacks a key that its layout has, or px or heads do not fit the network.
    """
    tensors = _without_wrapper(tensors)
    for layout in LAYOUTS:
        if image_size_px < layout.images_from or not _has_marks(layout, tensors):
            continue
        backbone = _backbone(layout, tensors)
        try:
            if layout.family == "resnet" and backbone["conv1.weight"].shape[-1] != layout.stem:
                continue
            shape = _resnet(layout, backbone, px) if layout.family == "resnet" else _vit(layout, backbone, px, heads)
        except KeyError as missing:
            raise ValueError(f"{missing.args[0]}: {layout.name} has this key, but the file has not") from None
        if isinstance(shape, VitShape):
            shape = replace(shape, pool="mean" if "fc_norm.weight" in tensors else "class")
            backbone = _with_positions(layout, shape, backbone)
        size = len(layout.head)
        head = {key[size:]: value for key, value in tensors.items() if size and key.startswith(layout.head)}
        return Recognized(layout, shape, backbone, head)
    return None


def _without_wrapper(tensors: Tensors) -> Tensors:
    wrapper = "module."
    if tensors and all(key.startswith(wrapper) for key in tensors):
        return {key.removeprefix(wrapper): value for key, value in tensors.items()}
    return tensors


def _has_marks(layout: Layout, tensors: Tensors) -> bool:
    def any_starts(mark: str) -> bool:
        return any(re.match(mark, key) for key in tensors)

    return all(map(any_starts, layout.marks)) and not any(map(any_starts, layout.without))


def _backbone(layout: Layout, tensors: Tensors) -> dict[str, Tensor]:
    backbone = {}
    for key, value in tensors.items():
        name = key.removeprefix(layout.prefix)
        if layout.prefix and name == key or name.startswith(_CLASSIFIERS) or name.endswith(_NOT_READ):
            continue
        for expression, replacement in layout.renamed:
            name = re.sub(f"^{expression}", replacement, name)
        if name in backbone:
            raise ValueError(f"{key}: {layout.name} has no such key beside the others")
        backbone[name] = value
    return backbone


def _resnet(layout: Layout, backbone: Tensors, px: int) -> ResNetShape:
    counts = []
    for stage in range(1, 5):
        found = re.compile(rf"layer{stage}\.(\d+)\.")
        counts.append(1 + max((int(match[1]) for key in backbone if (match := found.match(key))), default=-1))
    shape = ResNetShape(px or layout.px, "basic", "-".join(map(str, counts)), stem=layout.stem, pool=layout.pool)
    if "layer1.0.conv3.weight" not in backbone:
        return shape
    middle, inputs = backbone["layer1.0.conv2.weight"].shape[:2]
    return replace(shape, block="bottleneck", groups=middle // inputs, group_width=inputs)


def _vit(layout: Layout, backbone: Tensors, px: int, heads: int) -> VitShape:
    width, patch = backbone["cls_token"].shape[-1], backbone["patch_embed.proj.weight"].shape[-1]
    positions = backbone["pos_embed"]
    has_class = has_class_position(positions)
    px = px or layout.px or patch * round((positions.shape[1] - has_class) ** 0.5)
    if px % patch:
        raise ValueError(f"images of {px} px are not whole patches of {patch} px; choose a multiple of {patch}")
    heads = heads or layout.heads or width // _HEAD_WIDTH
    if not heads or width % heads:
        raise ValueError(
            f"a width of {width} does not come apart into {heads or 'heads of 64'}{' heads' if heads else ''}; "
            "say with heads how many the network has"
        )
    depth = 1 + max(int(match[1]) for key in backbone if (match := re.match(r"blocks\.(\d+)\.", key)))
    return VitShape(
        px,
        patch,
        width,
        depth,
        heads,
        backbone["blocks.0.mlp.fc1.weight"].shape[0],
        registers=backbone["register_tokens"].shape[1] if "register_tokens" in backbone else 0,
        class_position=has_class,
        scaled="blocks.0.ls1.gamma" in backbone,
    )


def _with_positions(layout: Layout, shape: VitShape, backbone: dict[str, Tensor]) -> dict[str, Tensor]:
    # DINOv2's networks with registers were published with other rules for their positions than those without.
    plain = layout.offset > 0 and not shape.registers
    positions_1TD = resampled_positions(
        backbone["pos_embed"], shape.grid, offset=layout.offset if plain else 0.0, antialias=not plain
    )
    return {**backbone, "pos_embed": positions_1TD}


def known() -> str:
    """The layouts' names, for an error."""
    return ", ".join(layout.name for layout in LAYOUTS)
