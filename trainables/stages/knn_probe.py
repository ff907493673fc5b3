"""k-NN probe: does a vote among an image's nearest training images name its class? Nothing is trained.

Source: the monitor of InstDisc, MoCo and SCAN's pretext tasks: each neighbor weighs exp(cosine / temperature). The
features are the backbone's output, of length 1. An image never votes for itself, also where train and eval are one.

Axes: N images, M evaluation images, K neighbors, D feature width.
"""

from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass

import torch

from .. import settings
from ..interfaces import DataShape, Epoch, ImageData, Result, Runtime
from ..maths import metrics
from ..nets import models
from ..training import probing

NAMESPACE = "knn_probe"
INPUTS = ("probed",)
VERSION = 1
METRICS = ("knn_acc",)
CRITERION = None  # It looks at labels.

TRAINS_ON_LABELS = True
WEIGHTS: tuple[str, ...] = ()
ARRAYS: tuple[str, ...] = ()
FACTS: tuple[str, ...] = ()
TINY: Mapping[str, settings.Plain] = {"num_neighbors": 5}


@dataclass(frozen=True, kw_only=True)
class Config:
    num_neighbors: int = settings.setting(20, "training images that vote", low=1, unit="neighbors", symbol="K")
    temperature: float = settings.setting(0.1, "divides the cosine similarities", above=0, high=10, symbol="τ")
    half_precision: bool = settings.setting(
        False, "keep the searched features in float16: half of the memory, and near ties may change places"
    )

    def __post_init__(self) -> None:
        settings.check(self)


def limits(config: Config, shape: DataShape) -> Iterator[tuple[str, str]]:
    if config.num_neighbors >= shape.num_train:
        rule = f"below the number of training images ({shape.num_train})"
        yield "num_neighbors", f"num_neighbors must be {rule}, but is {config.num_neighbors}"


def train(
    config: Config, data: ImageData, inputs: Mapping[str, Result], runtime: Runtime
) -> Generator[Epoch, None, Result]:
    """Search once; there are no epochs.

    Raises:
        ValueError: no backbone, or no labels.
    """
    data = probing.as_trained(inputs["probed"], data)
    backbone = probing.frozen(inputs["probed"], data, runtime)
    probing.labeled_rows(data.train)
    probing.labeled_rows(data.eval)
    features = {}
    for part, split in (("train", data.train), ("eval", data.eval)):
        rows_ND = models.predict(backbone, split.images_NCHW, data.mean, data.std)
        features[part] = torch.nn.functional.normalize(rows_ND).cpu().numpy()
    half = config.half_precision
    if data.is_union:
        nearest = runtime.search.knn(features["train"], None, config.num_neighbors + 1, "inner_product", half=half)
        similarities_MK, neighbors_MK = nearest[0][:, 1:], nearest[1][:, 1:]
    else:
        similarities_MK, neighbors_MK = runtime.search.knn(
            features["train"], features["eval"], config.num_neighbors, "inner_product", half=half
        )
    labels_N, eval_M = data.train.labels_N.cpu().numpy(), data.eval.labels_N.cpu().numpy()
    share = metrics.knn_accuracy(similarities_MK, labels_N[neighbors_MK], eval_M, temperature=config.temperature)
    return Result(metrics={"knn_acc": share})
    yield  # a generator without epochs
