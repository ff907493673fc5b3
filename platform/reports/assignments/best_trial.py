"""The clustering of a study's best trial as files beside its report.

Every trial keeps its probabilities in the store; the table and the gallery are made of the best one alone.
Axes: N images, C clusters.
"""

import warnings
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trainables.data import datasets
from trainables.interfaces import ImageData, Result, Split
from trainables.maths.assignments import joined, top_two
from trainables.seeds import label as seed_label
from trainables.store.artifacts import Store

from ...ledger.outcomes import closing_stages
from ..figures import best_trial
from ..summary import Summary
from . import gallery, names
from .files import FILES, GALLERY
from .table import Assignments
from .thumbnails import Pixels
from .written import write

BOTH_PARTS = "train+eval"
"""The part of an image that is trained on and judged (protocol: union)."""


def of_study(summary: Summary, storage: Path, data: ImageData | None = None) -> list[Path]:
    """Write the files of the best trial into ``storage/<study>/``, unless they are there and up to date.

    If that fails there is a warning, and no files: it must not cost the end of a sweep.

    Args:
        storage: the folder of ``stages/``.
        data: the images of the study; None reads them, but only if something is to be written.

    Returns:
        The files; none without a trial that left a clustering, or where its result is not in the store.
    """
    trial = best_trial(summary)
    if trial is None or summary.best is None or not (storage / "stages").is_dir():
        return []
    folder, name = storage / summary.study, closing_stages(trial)[0].result_name
    result = Store(storage).get(name)
    if result is None or not {"probabilities_train", "probabilities_eval"} <= set(result.arrays):
        return []
    paths = [folder / file for file in FILES]
    known = _names(folder, name, result.arrays["probabilities_eval"].shape[1])
    if gallery.key_in(folder / GALLERY) == gallery.key(name, known) and all(path.exists() for path in paths):
        return paths
    try:
        data = data or datasets.load(datasets.Spec(**trial.trial_spec["dataset"]))
        if data.fingerprint != trial.trial_spec["fingerprint"]:
            raise ValueError("the images are no longer those that the study was started on")
        whose = f"{summary.study}: {summary.best.label or summary.method}, seed {seed_label(trial.seed)}"
        return write(_assignments(result, data, name, known), _pixels(data), folder, whose, _notes(summary))
    except Exception as error:
        warnings.warn(f"the table and the gallery of the best trial were not written: {error}", stacklevel=2)
        return []


def _names(folder: Path, result: str, num_clusters: int) -> dict[int, str]:
    try:
        return dict(names.read(folder, result, num_clusters))
    except names.NamesError as error:
        warnings.warn(str(error), stacklevel=2)
        return {}


def _notes(summary: Summary) -> list[str]:
    chosen = "labels" if summary.looks_at_labels else "no labels"
    return [f"The best trial by {summary.objective.metric}, which looks at {chosen}."]


def _assignments(result: Result, data: ImageData, name: str, known: dict[int, str]) -> Assignments:
    train = top_two(np.asarray(result.arrays["probabilities_train"]))
    parts, splits, top = [BOTH_PARTS] * len(data.train), [data.train], train
    if not data.is_union:
        top = joined(train, top_two(np.asarray(result.arrays["probabilities_eval"])))
        parts = ["train"] * len(data.train) + ["eval"] * len(data.eval)
        splits.append(data.eval)
    files = [file for split in splits for file in split.names]
    labels = [label for split in splits for label in _labels(split, data.class_names)]
    num_clusters = result.arrays["probabilities_eval"].shape[1]
    return Assignments(files, parts, top, labels, num_clusters, name, data.root, known)


def _labels(split: Split, class_names: tuple[str, ...]) -> list[str]:
    return [class_names[label] if label >= 0 else "" for label in split.labels_N.tolist()]


def _pixels(data: ImageData) -> Pixels | None:
    """Images by row of the table: those trained on, then the others."""
    if data.shape.is_features:
        return None
    train, evaluation = data.train.images_NCHW, data.eval.images_NCHW

    def of_rows(rows_B: NDArray[np.int64]) -> Tensor:
        rows = torch.from_numpy(np.ascontiguousarray(rows_B))
        is_train = rows < len(train)
        images_BCHW = torch.empty((len(rows), *train.shape[1:]), dtype=torch.uint8)
        if bool(is_train.any()):
            images_BCHW[is_train] = train[rows[is_train]].cpu()
        if not bool(is_train.all()):
            images_BCHW[~is_train] = evaluation[rows[~is_train] - len(train)].cpu()
        return images_BCHW

    return of_rows
