"""What DeepCluster and UAD leave behind as one network: features, fused or not, whitened, to the nearest centroid.

Axes: B batch, C clusters, D width of a feature, E width of a point.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor
from torch.nn import functional

from ..interfaces import ImageData, Result, State
from ..maths import fusion as fusing
from ..nets import backbones, feature_maps, models
from .deepcluster_features import SMALLEST_NORM, Fusion


class NearestCentroid(models.ImageModel):
    """Images to (B, C) softmax of the negative squared distances to the centroids (see ``clustering.closeness``).

    It changes to eval mode.

    fused: how features are joined, as ``facts_of`` gives it, or None. state: as ``deepcluster.train`` leaves it.
    """

    def __init__(
        self,
        backbone: backbones.Backbone,
        fused: Mapping[str, Any] | None,
        state: State,
        mean: Sequence[float],
        std: Sequence[float],
    ) -> None:
        super().__init__(mean, std)
        self.backbone = backbone
        self._fused = dict(fused) if fused else None
        self.centroids_CE: Tensor
        self.register_buffer("centroids_CE", state["centroids"])
        self.matrix_DE: Tensor | None
        self.register_buffer("matrix_DE", state.get("matrix"))
        self.offset_E: Tensor | None
        self.register_buffer("offset_E", state.get("offset"))
        self.channels_L: Tensor | None
        self.register_buffer("channels_L", state.get("channels"))
        self.eval()

    def forward(self, images_BCHW: Tensor) -> Tensor:
        """(B, C) probabilities, of images as ``normalized`` takes them."""
        points_BE = self._features(self.normalized(images_BCHW)).float()
        if self.matrix_DE is not None and self.offset_E is not None:
            points_BE = points_BE @ self.matrix_DE + self.offset_E
        points_BE = functional.normalize(points_BE, dim=1, eps=SMALLEST_NORM)
        squared_BC = (
            points_BE.square().sum(1, keepdim=True)
            - 2 * points_BE @ self.centroids_CE.T
            + self.centroids_CE.square().sum(1)[None]
        )
        return (-squared_BC).softmax(1)

    def _features(self, images_BCHW: Tensor) -> Tensor:
        if self._fused is None or self.channels_L is None:
            return feature_maps.collect(self.backbone, images_BCHW, ("top",))["top"]
        low, high = self._fused["low_level_source"], self._fused["high_level_source"]
        found = feature_maps.collect(self.backbone, images_BCHW, (low, high))
        return fusing.fuse(
            found[low][:, self.channels_L].float(),
            found[high].flatten(1).float(),
            operation=self._fused["operation"],
            unit_blocks=self._fused["block_norm"] == "l2_each",
            seed=self._fused["seed"],
        )


def facts_of(fusion: Fusion | None, seed: int) -> dict[str, Any] | None:
    """How features were joined, fit for JSON; None where they were not. seed: of the projection."""
    if fusion is None:
        return None
    names = ("low_level_source", "high_level_source", "operation", "block_norm", "channel_selection_scope")
    return {name: getattr(fusion, name) for name in names} | {"seed": seed}


def classifier(result: Result, data: ImageData) -> NearestCentroid:
    """The network of a result of DeepCluster or UAD; its clusters are those of the final clustering.

    Raises:
        LookupError: the low-level channels were drawn anew for every batch, so no network gives these clusters.
    """
    fused = result.facts["fusion"]
    if fused is not None and fused["channel_selection_scope"] == "per_batch":
        raise LookupError("low-level channels were drawn anew in every batch, so no one network gives these clusters")
    backbone = backbones.build(
        result.facts["network"],
        in_channels=data.shape.num_channels,
        image_size_px=data.shape.image_size_px,
        seed=0,
        sobel=result.facts["sobel"],
    )
    backbone.load_state_dict(result.weights["backbone"])
    return NearestCentroid(backbone, fused, result.weights["clustering"], data.mean, data.std)
