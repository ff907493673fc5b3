"""Neighbor mining: the nearest images of each image in the pretext's feature space, by exact search.

Source: SCAN §2 (instances and their neighbors mostly share a class). Neighbors of evaluation images are mined within
the evaluation split. Column 0 is the image itself.

Axes: N images, K neighbors, D feature width.
"""

from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from .. import settings
from ..figures import of_results
from ..interfaces import CaptionedFigure, DataShape, Epoch, ImageData, Result, Runtime
from ..maths import metrics

NAMESPACE = "neighbors"
INPUTS = ("pretext",)
VERSION = 1
PURITY_AT = (1, 5, 20, 50)
METRICS = tuple(f"purity_{k}" for k in PURITY_AT) + ("purity_eval_5",)
CRITERION = None

TRAINS_ON_LABELS = False
SEEDED_BY = "pretext"  # Mined without chance, out of what the pretext learned.
WEIGHTS: tuple[str, ...] = ()
ARRAYS = ("neighbors_train", "neighbors_eval")
FACTS = ("space",)
TINY: Mapping[str, settings.Plain] = {"num_neighbors": 8}

EVAL_NEIGHBORS = 5
"""SCAN's selection loss looks at five neighbors of each evaluation image."""


@dataclass(frozen=True, kw_only=True)
class Config:
    num_neighbors: int = settings.setting(
        50, "neighbors mined per training image; a later stage may use fewer", low=1, unit="neighbors", symbol="K"
    )
    mining_space: str = settings.setting(
        "auto",
        "features searched: of the projection head or of the backbone; auto is the pretext's own choice",
        choices=("auto", "head", "backbone"),
    )
    half_precision: bool = settings.setting(
        False, "keep the searched features in float16: half of the memory, and near ties may change places"
    )

    def __post_init__(self) -> None:
        settings.check(self)


def limits(config: Config, shape: DataShape) -> Iterator[tuple[str, str]]:
    if config.num_neighbors >= shape.num_train:
        yield (
            "num_neighbors",
            f"num_neighbors must be below the number of training images ({shape.num_train}), "
            f"but is {config.num_neighbors}",
        )
    if shape.num_eval <= EVAL_NEIGHBORS:
        yield "num_neighbors", f"the evaluation split has {shape.num_eval} images; it needs more than {EVAL_NEIGHBORS}"


def train(
    config: Config, data: ImageData, inputs: Mapping[str, Result], runtime: Runtime
) -> Generator[Epoch, None, Result]:
    """Search once; there are no epochs.

    Returns:
        arrays, int64: neighbors_train (N, num_neighbors + 1), neighbors_eval (N, 6); column 0 is the row itself.
    """
    pretext = inputs["pretext"]
    space = pretext.facts["mining_space"] if config.mining_space == "auto" else config.mining_space
    tables = {}
    for part, k in (("train", config.num_neighbors), ("eval", EVAL_NEIGHBORS)):
        features_ND = np.ascontiguousarray(pretext.arrays[f"{space}_{part}"], dtype=np.float32)
        _, neighbors_NK = runtime.search.knn(features_ND, None, k + 1, "inner_product", half=config.half_precision)
        tables[f"neighbors_{part}"] = neighbors_NK
    purities = {}
    labels_N, labels_eval_N = data.train.labels_N.cpu().numpy(), data.eval.labels_N.cpu().numpy()
    for k in PURITY_AT:
        if k <= config.num_neighbors:
            purities[f"purity_{k}"] = metrics.neighbor_purity(tables["neighbors_train"][:, : k + 1], labels_N)
    purities["purity_eval_5"] = metrics.neighbor_purity(tables["neighbors_eval"], labels_eval_N)
    return Result(arrays=tables, facts={"space": space}, metrics=purities)
    yield  # a generator without epochs


def figures(result: Result, data: ImageData, history: Sequence[Mapping[str, float]]) -> dict[str, CaptionedFigure]:
    return of_results.neighbors(result, data)
