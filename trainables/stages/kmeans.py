"""k-means on the pretext's features: the baseline that every deep clustering method has to beat.

Source: SCAN, tables 3 and 4, row "Pretext + K-means". Fitted on the training features; an evaluation image belongs to
its nearest centroid.

Axes: N images, D feature width, C clusters.
"""

from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from .. import settings
from ..figures import of_results
from ..interfaces import CaptionedFigure, DataShape, Epoch, ImageData, Result, Runtime
from ..maths import metrics
from ..training import clustering

NAMESPACE = "kmeans"
INPUTS = ("pretext",)
VERSION = 3
METRICS = ("mean_squared_distance", "num_empty_train_clusters", *metrics.EVALUATION_METRICS)
CRITERION = ("mean_squared_distance", "min")  # Comparable within one feature space only.

TRAINS_ON_LABELS = False
WEIGHTS: tuple[str, ...] = ()
ARRAYS = ("centroids", "probabilities_train", "probabilities_eval")
FACTS = ("space",)
TINY: Mapping[str, settings.Plain] = {}


@dataclass(frozen=True, kw_only=True)
class Config:
    num_clusters: int = settings.setting(
        0, "clusters; 0 means as many as SCAN has, or as there are classes", low=0, symbol="C"
    )
    restarts: int = settings.setting(10, "runs from other seeds; the one of least inertia is kept", low=1, high=1000)
    iterations: int = settings.setting(300, "Lloyd iterations at most", low=1, high=10000)
    feature_space: str = settings.setting(
        "auto",
        "features clustered: of the projection head or of the backbone; auto is the space neighbors are mined in",
        choices=("auto", "head", "backbone"),
    )

    def __post_init__(self) -> None:
        settings.check(self)


def limits(config: Config, shape: DataShape) -> Iterator[tuple[str, str]]:
    if config.num_clusters > shape.num_train:
        yield (
            "num_clusters",
            f"num_clusters must be at most the number of training images ({shape.num_train}), "
            f"but is {config.num_clusters}",
        )


def train(
    config: Config, data: ImageData, inputs: Mapping[str, Result], runtime: Runtime
) -> Generator[Epoch, None, Result]:
    """Fit once; there are no epochs.

    Returns:
        arrays: centroids (C, D), probabilities_train and probabilities_eval (N, C): softmax of the negative squared
        distances, which ranks images by how clearly they belong to their cluster.
    """
    pretext = inputs["pretext"]
    space = pretext.facts["mining_space"] if config.feature_space == "auto" else config.feature_space
    num_clusters = config.num_clusters or len(data.class_names)
    features = {
        part: np.ascontiguousarray(pretext.arrays[f"{space}_{part}"], dtype=np.float32) for part in ("train", "eval")
    }
    clustered = runtime.search.kmeans(
        features["train"], num_clusters, seed=runtime.seed, iterations=config.iterations, restarts=config.restarts
    )
    probabilities = {
        part: clustering.closeness(points_ND, clustered.centroids_CD) for part, points_ND in features.items()
    }
    scores = clustering.evaluate(probabilities["eval"], data)
    scores |= {
        "mean_squared_distance": clustered.inertia / len(features["train"]),
        "num_empty_train_clusters": float(clustered.num_empty),
    }
    return Result(
        arrays={
            "centroids": clustered.centroids_CD,
            **{f"probabilities_{part}": p for part, p in probabilities.items()},
        },
        facts={"space": space},
        metrics=scores,
    )
    yield  # a generator without epochs


def figures(result: Result, data: ImageData, history: Sequence[Mapping[str, float]]) -> dict[str, CaptionedFigure]:
    return of_results.clustering(result, data, history)
