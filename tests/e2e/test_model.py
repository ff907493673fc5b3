"""The best trial's model, as a user of MLflow opens it after a sweep."""

import os
from pathlib import Path
from platform.tracking.mlflow import DATABASE
from typing import Any

import numpy as np
import pytest

from trainables.data import datasets
from trainables.store.artifacts import Store

pytestmark = pytest.mark.slow

FEW = 64


def best_run(storage: Path) -> Any:
    """The run whose model was logged."""
    from mlflow import MlflowClient

    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    client = MlflowClient(f"sqlite:///{storage / DATABASE}")
    experiment = client.get_experiment_by_name("spc")
    assert experiment is not None
    (model,) = client.search_logged_models([experiment.experiment_id])
    return client.get_run(model.source_run_id)


def test_the_best_trials_model_gives_the_probabilities_that_its_stage_stored(small_storage: Path) -> None:
    import mlflow

    run = best_run(small_storage)
    stored = Store(small_storage).get(run.data.tags["clustersweep.stage.spc"])
    assert stored is not None
    images_NCHW = datasets.load(datasets.Spec(name="digits", protocol="union")).eval.images_NCHW[:FEW]
    assert str(images_NCHW.dtype) == "torch.uint8"
    mlflow.set_tracking_uri(f"sqlite:///{small_storage / DATABASE}")
    model = mlflow.pytorch.load_model(f"runs:/{run.info.run_id}/model")
    probabilities_NC = model(images_NCHW).detach().numpy()
    assert probabilities_NC.shape == (FEW, 10)
    np.testing.assert_allclose(probabilities_NC, stored.arrays["probabilities_eval"][:FEW], rtol=0, atol=1e-5)
