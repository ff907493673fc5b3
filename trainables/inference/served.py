"""The best trial's model as MLflow's python_function: what ``mlflow models serve`` and ``mlflow.pyfunc`` call.

Input: images as they lie in the data set, uint8 (B, C, H, W), float too if the model was logged for it; the answer is
float32 (B, K), a row of cluster probabilities per image. Or the parameter ``folder``: a path on the server's machine,
whose images are read as those of the study; the input is then not looked at, and the answer is a record per image,
{"file", "cluster", "probability", "second_cluster", "second_probability", "margin"}.

MLflow imports this module by name, so the package must be installed where a model is served.
Axes: B images, C channels, H height, W width, K clusters.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..data.loaded import DataError
from ..maths.assignments import top_two
from . import folder
from .model_input import ModelInput, from_dict
from .predict import Model, probabilities

FOLDER = "folder"
"""The name of the parameter."""

INPUT = "clustersweep.input"
"""Key of a saved model's metadata: which images it takes, see ``model_input``."""


_UNPICKLES = "MLFLOW_ALLOW_PICKLE_DESERIALIZATION"


class ServedModel:
    """What MLflow calls: ``predict(images, params)``."""

    def __init__(self, model: Model, wanted: ModelInput) -> None:
        self._model, self._wanted = model, wanted

    def predict(
        self, images_BCHW: NDArray[Any], params: Mapping[str, Any] | None = None
    ) -> NDArray[np.float32] | list[dict[str, Any]]:
        """Probabilities of images, or a record for each image of a folder; see the module's docstring.

        Raises:
            MlflowException: images of another shape or dtype, a folder without such images. The text is for the user.
        """
        from mlflow.exceptions import MlflowException

        path = str((params or {}).get(FOLDER) or "")
        try:
            return _of_folder(self._model, self._wanted, Path(path)) if path else self._of_images(images_BCHW)
        except (DataError, ValueError, FloatingPointError) as error:
            raise MlflowException.invalid_parameter_value(str(error)) from error

    def _of_images(self, images_BCHW: NDArray[Any]) -> NDArray[np.float32]:
        wanted = (self._wanted.num_channels, *([1, 1] if self._wanted.is_features else [self._wanted.size_px] * 2))
        if images_BCHW.ndim != 4 or images_BCHW.shape[1:] != wanted or not len(images_BCHW):
            raise ValueError(
                f"images must have shape (B, {', '.join(map(str, wanted))}), B at least 1, but have"
                f" {images_BCHW.shape}. Or give the parameter {FOLDER}, a path on this machine."
            )
        return probabilities(self._model, torch.from_numpy(np.ascontiguousarray(images_BCHW)))


def _of_folder(model: Model, wanted: ModelInput, path: Path) -> list[dict[str, Any]]:
    images = folder.read(path, wanted)
    top = top_two(probabilities(model, images.images_NCHW))
    columns = (
        images.names, top.cluster_N.tolist(), top.probability_N.tolist(), top.second_N.tolist(),
        top.second_probability_N.tolist(), top.margin_N.tolist(),
    )  # fmt: skip
    names = ("file", "cluster", "probability", "second_cluster", "second_probability", "margin")
    return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]


def program(uri: str) -> Model:
    """An exported program from MLflow, which is data: a model that was pickled, and could run code, is refused.

    Raises:
        MlflowException: there is none, or it was pickled.
    """
    import mlflow.pytorch

    before = os.environ.get(_UNPICKLES)
    os.environ[_UNPICKLES] = "false"
    try:
        return mlflow.pytorch.load_model(uri)  # type: ignore[no-any-return]
    finally:
        if before is None:
            del os.environ[_UNPICKLES]
        else:
            os.environ[_UNPICKLES] = before


def _load_pyfunc(data_path: str, model_config: Mapping[str, Any] | None = None) -> ServedModel:
    """The name is MLflow's: it calls this with the folder ``data`` of a saved model, and settings that are not used."""
    from mlflow.models import Model as SavedModel

    saved = Path(data_path).parent
    model = program(str(saved))
    metadata = SavedModel.load(str(saved)).metadata or {}
    return ServedModel(model, from_dict(metadata[INPUT]))
