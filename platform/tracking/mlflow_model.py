"""The best trial's model in MLflow's format: saved with a signature that a server answers to, and opened again.

The pytorch flavor gives the network itself. The python_function flavor, which ``mlflow models serve`` uses, loads
``trainables.inference.served`` and takes images or a folder; opening either runs no code that lies in the file.
"""

import importlib.metadata
import logging
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from trainables.inference import model_input, predict, served
from trainables.inference.model_input import ModelInput

from ..study.errors import redacted

MODEL = "model"
DATABASE = "mlflow.db"
RESULT = "clustersweep.result"
"""Key of a model's metadata: the stage result that it was made from."""


def database(storage: Path) -> str:
    """The URI of a storage's own runs."""
    return f"sqlite:///{storage.resolve() / DATABASE}"


def save(
    folder: Path,
    model: torch.nn.Module,
    example_BCHW: NDArray[Any],
    metadata: Mapping[str, Any],
    identity: Mapping[str, Any],
) -> None:
    """MLflow's pytorch flavor as an exported program, and a python_function with a signature.

    Args:
        folder: does not exist yet.
        example_BCHW: images that the model takes. It is exported for their dtype and size and any B.
        metadata: with ``served.INPUT`` and RESULT.
        identity: fields of ``mlflow.models.Model`` that say whose model it is.
    """
    import mlflow.pytorch
    from mlflow import pyfunc
    from mlflow.models import Model, ModelSignature
    from mlflow.types import DataType, ParamSchema, ParamSpec, Schema, TensorSpec

    # An axis of length one would be exported as always one.
    example_BCHW = np.repeat(example_BCHW[:1], 2, axis=0)
    model = model.cpu().eval()
    # Of torch's packaging, about tensors that share memory; those of a network do not.
    warnings.filterwarnings("ignore", message="No complete tensor found in the group", module="torch")
    with torch.no_grad():
        num_clusters = model(torch.from_numpy(example_BCHW)).shape[1]
    answer, folder_param = (
        TensorSpec(np.dtype("float32"), (-1, num_clusters)),
        ParamSpec(served.FOLDER, DataType.string, ""),
    )

    def signature(*size: int) -> ModelSignature:
        images = TensorSpec(example_BCHW.dtype, (-1, *size))
        return ModelSignature(Schema([images]), Schema([answer]), ParamSchema([folder_param]))

    mlflow.pytorch.save_model(
        model,
        str(folder),
        mlflow_model=Model(**identity),
        input_example=example_BCHW,
        # The program is exported for any length where the signature has -1: of B alone.
        signature=signature(*example_BCHW.shape[1:]),
        metadata=dict(metadata),
        # Said here, because finding out would run the model in another process.
        pip_requirements=[f"{name}=={importlib.metadata.version(name)}" for name in ("torch", "numpy")],
        serialization_format="pt2",
    )
    saved = Model.load(str(folder))
    # Images of another size are refused by ``served``, in a sentence; with a folder the image is a placeholder.
    saved.signature = signature(example_BCHW.shape[1], -1, -1)
    conf = {name: value for name, value in saved.flavors[pyfunc.FLAVOR_NAME].items() if name != pyfunc.MAIN}
    saved.add_flavor(pyfunc.FLAVOR_NAME, **{**conf, pyfunc.MAIN: served.__name__})
    saved.save(str(folder / "MLmodel"))


def opened(run: str, tracking: str) -> tuple[predict.Model, ModelInput, str]:
    """The model of a run.

    Args:
        run: its id, or a URI of MLflow's, ``runs:/<id>/model``.
        tracking: where MLflow keeps it.

    Returns:
        (the model, what it takes, the stage result it was made from).

    Raises:
        LookupError: there is no such run or model there, or the model was not logged by a sweep. A sentence for the
            user.
    """
    logging.getLogger("alembic").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message="The ``noload`` loader strategy", module="mlflow")
    import mlflow
    from mlflow.exceptions import MlflowException

    uri = run if ":/" in run else f"runs:/{run}/{MODEL}"
    path = Path(tracking.removeprefix("sqlite:///"))
    if tracking.startswith("sqlite:///") and not path.exists():
        raise LookupError(f"there is no {path}, so no runs of MLflow; give --storage or --tracking.")
    mlflow.set_tracking_uri(tracking)
    try:
        metadata = mlflow.models.get_model_info(uri).metadata or {}
        model = served.program(uri)
    except (MlflowException, OSError) as error:
        sentence = " ".join(str(error).split())
        raise LookupError(
            f"{uri} cannot be opened in {redacted(tracking)} ({sentence}). Name a run with a model: the best trial's."
        ) from error
    if served.INPUT not in metadata:
        raise LookupError(f"{uri} does not say which images it takes; log it with this version: start its sweep again.")
    return model, model_input.from_dict(metadata[served.INPUT]), str(metadata.get(RESULT, uri))
