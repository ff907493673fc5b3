"""The network that learns clusters as classes: a backbone under a top layer that every clustering makes anew.

UAD's Eq. 13 gives the classifier the fused feature, its figure 4 and the size of its weights the high-level one alone;
both can be had.

Axes: B batch, C clusters, D width of what the top layer sees.
"""

import torch
from torch import Tensor, nn

from ..interfaces import ImageData, Runtime
from ..nets import backbones, feature_maps
from .deepcluster_features import Fusion, kept_channels
from .deepcluster_settings import DeepClusterConfig


class Classifier(nn.Module):
    """The backbone and the layer that names the clusters.

    low_source: tap whose channels ``low_C`` stand before the high-level feature; "" for that feature alone.
    """

    def __init__(
        self, backbone: backbones.Backbone, num_clusters: int, low_source: str = "", low_width: int = 0
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.top = nn.Linear(low_width + backbone.width, num_clusters)
        self._low_source = low_source
        self.low_C: Tensor
        self.register_buffer("low_C", torch.empty(0, dtype=torch.int64))

    def forward(self, images_BCHW: Tensor) -> Tensor:
        if not self._low_source:
            logits_BC: Tensor = self.top(self.backbone(images_BCHW))
            return logits_BC
        maps = feature_maps.collect(self.backbone, images_BCHW, (self._low_source, "output"))
        low_BL = maps[self._low_source][:, self.low_C].flatten(1)
        fused_BC: Tensor = self.top(torch.cat([low_BL, maps["output"]], dim=1))
        return fused_BC


class Learner:
    """Backbone and optimizer, which last, and a classifier, which is made anew where the number of clusters changes.

    fusion: how features are joined for clustering; the classifier sees them so too where it says so.
    """

    def __init__(self, config: DeepClusterConfig, data: ImageData, runtime: Runtime, fusion: Fusion | None) -> None:
        self.config, self.data, self.runtime = config, data, runtime
        self._fusion = fusion if fusion is not None and fusion.for_classifier else None
        network, shape = backbones.resolve(config.network, data.shape), data.shape
        self.backbone = backbones.build(
            network,
            in_channels=shape.num_channels,
            image_size_px=shape.image_size_px,
            seed=runtime.seed,
            sobel=config.sobel,
        ).to(runtime.device)
        self.optimizer = torch.optim.SGD(
            self.backbone.parameters(),
            lr=config.optimizer.lr,
            momentum=config.optimizer.momentum,
            weight_decay=config.optimizer.weight_decay,
            fused=True,
        )
        self.classifier: Classifier | None = None
        self.trained: nn.Module | None = None

    def fresh_classifier(self, num_clusters: int, epoch: int) -> tuple[nn.Module, torch.optim.Optimizer]:
        """The backbone under a top layer with new weights, and the top layer's own optimizer."""
        if self.classifier is None or self.classifier.top.out_features != num_clusters:
            self.trained = None
            self.classifier = self._classifier(num_clusters).to(self.runtime.device)
            self.trained = self.runtime.prepare(self.classifier, self.config.compute)
        assert self.trained is not None
        if self._fusion is not None:
            self.classifier.low_C = self.kept_channels(self._fusion, epoch)
        top = self.classifier.top
        nn.init.normal_(top.weight, std=0.01, generator=self.runtime.generator("top", epoch))
        nn.init.zeros_(top.bias)
        return self.trained, torch.optim.SGD(
            top.parameters(), lr=self.config.optimizer.lr, weight_decay=self.config.optimizer.weight_decay, fused=True
        )

    def kept_channels(self, fusion: Fusion, epoch: int) -> Tensor:
        """The low-level channels that an epoch clusters."""
        return kept_channels(fusion, self._shapes, self.runtime, epoch)

    @property
    def _shapes(self) -> feature_maps.Shapes:
        return feature_maps.shapes(self.backbone.name, self.data.shape, self.backbone.sobel)

    def _classifier(self, num_clusters: int) -> Classifier:
        if self._fusion is None:
            return Classifier(self.backbone, num_clusters)
        source = self._fusion.low_level_source
        _, height, width = self._shapes[source]
        return Classifier(self.backbone, num_clusters, source, self._fusion.low_level_channels * height * width)
