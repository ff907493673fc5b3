"""The saved model as MLflow's users meet it: its signature, images, a folder, and a real server on loopback."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from platform.tracking import mlflow_model
from typing import Any

import numpy as np
import pytest
import torch

from tests.fixtures.clustered import NUM_IMAGES, draw_images
from trainables.inference import folder, served
from trainables.inference.model_input import ModelInput
from trainables.nets import backbones, models

pytestmark = pytest.mark.slow

WANTED = ModelInput(3, 8, (0.5,) * 3, (0.25,) * 3, resized=True)
PATIENCE_S = 240.0


@pytest.fixture(scope="module")
def network() -> models.ClusterClassifier:
    backbone = backbones.build("small", in_channels=3, image_size_px=8, seed=0)
    return models.ClusterClassifier(backbone, torch.nn.Linear(backbone.width, 4), WANTED.mean, WANTED.std)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_images(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="module")
def saved(network: models.ClusterClassifier, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("saved") / "model"
    metadata = {served.INPUT: WANTED.as_dict(), mlflow_model.RESULT: "cc-0"}
    mlflow_model.save(path, network, np.zeros((2, 3, 8, 8), np.uint8), metadata, {})
    return path


@pytest.fixture(scope="module")
def expected(network: models.ClusterClassifier, images: Path) -> Any:
    with torch.no_grad():
        return network(folder.read(images, WANTED).images_NCHW[:]).numpy()


def test_the_signature_says_what_goes_in_and_what_comes_out(saved: Path) -> None:
    from mlflow.models import get_model_info

    signature = get_model_info(str(saved)).signature
    assert str(signature.inputs) == "[Tensor('uint8', (-1, 3, -1, -1))]"
    assert str(signature.outputs) == "[Tensor('float32', (-1, 4))]"
    assert [(param.name, param.default) for param in signature.params] == [("folder", "")]


@pytest.mark.parametrize("num", [1, 2, NUM_IMAGES])
def test_images_get_the_networks_own_probabilities(saved: Path, images: Path, expected: Any, num: int) -> None:
    import mlflow

    images_NCHW = folder.read(images, WANTED).images_NCHW[:num].contiguous()
    rows_NK = mlflow.pyfunc.load_model(str(saved)).predict(images_NCHW.numpy())
    np.testing.assert_allclose(rows_NK, expected[:num], atol=1e-5)
    if num > 1:
        with torch.no_grad():
            np.testing.assert_allclose(mlflow.pytorch.load_model(str(saved))(images_NCHW), expected[:num], atol=1e-5)


def test_another_size_or_folder_is_refused_in_words(saved: Path, tmp_path: Path) -> None:
    import mlflow
    from mlflow.exceptions import MlflowException

    model = mlflow.pyfunc.load_model(str(saved))
    with pytest.raises(MlflowException, match=r"must have shape \(B, 3, 8, 8\)"):
        model.predict(np.zeros((2, 3, 9, 9), np.uint8))
    with pytest.raises(MlflowException, match="holds no"):
        model.predict(np.zeros((1, 3, 1, 1), np.uint8), params={"folder": str(tmp_path)})


def asked(url: str, content: Any) -> tuple[int, Any]:
    request = urllib.request.Request(url, json.dumps(content).encode(), {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def test_a_real_server_answers_for_images_and_for_a_folder(
    saved: Path, images: Path, expected: Any, tmp_path: Path
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", str(saved), "-h", "127.0.0.1", "-p", str(port)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MLFLOW_DISABLE_TELEMETRY": "true"}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    with (tmp_path / "log").open("w") as log:
        server = subprocess.Popen(
            [*command, "--env-manager", "local", "--workers", "1"], cwd=tmp_path, env=environment, stdout=log,
            stderr=log, start_new_session=True,
        )  # fmt: skip
        try:
            deadline = time.monotonic() + PATIENCE_S
            while not _is_up(port):
                assert server.poll() is None and time.monotonic() < deadline, (tmp_path / "log").read_text()
                time.sleep(0.5)
            url = f"http://127.0.0.1:{port}/invocations"
            images_NCHW = folder.read(images, WANTED).images_NCHW[:3].numpy()
            status, answer = asked(url, {"inputs": images_NCHW.tolist()})
            assert status == 200
            np.testing.assert_allclose(answer["predictions"], expected[:3], atol=1e-4)
            pixel = np.zeros((1, 3, 1, 1), np.uint8).tolist()
            status, answer = asked(url, {"inputs": pixel, "params": {"folder": str(images)}})
            assert status == 200
            records = answer["predictions"]
            assert [record["file"] for record in records] == list(folder.names(images))
            assert [record["cluster"] for record in records] == expected.argmax(1).tolist()
            status, answer = asked(url, {"inputs": pixel, "params": {"folder": str(tmp_path / "none")}})
            assert status == 400 and "is not a folder" in json.dumps(answer)
        finally:
            os.killpg(server.pid, 15)
            server.wait(30)


def _is_up(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/ping", timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
