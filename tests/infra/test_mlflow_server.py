"""A team's MLflow server as infra/README.md starts it: users, and the names that it answers to."""

import base64
import http.client
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

README = Path(__file__).resolve().parents[2] / "infra" / "README.md"
PATIENCE_S = 120.0
LOGIN = {"Authorization": f"Basic {base64.b64encode(b'admin:opensesame-1234').decode()}"}
SEARCH = "/api/2.0/mlflow/experiments/search?max_results=1"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("flask_wtf") is None, reason="users need mlflow[auth], which is not installed"),
]


def documented(port: int) -> list[str]:
    """The README's command, on another port."""
    match = re.search(r"^ +mlflow (server (?:.*\\\n)*.*)$", README.read_text(), re.MULTILINE)
    assert match is not None
    words = shlex.split(match[1].replace("\\\n", " ").partition("#")[0])
    return [sys.executable, "-m", "mlflow", *(word.replace("5000", str(port)) for word in words)]


def start(folder: Path, port: int, **secrets: str) -> "subprocess.Popen[bytes]":
    environment = os.environ | {"MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    environment |= {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"} | secrets
    with (folder / "log").open("wb") as log:
        return subprocess.Popen(
            [*documented(port), "--workers", "1"],
            cwd=folder,
            env=environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def end(process: "subprocess.Popen[bytes]") -> None:
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGTERM)
    process.wait(30)


def status(port: int, path: str, headers: dict[str, str] | None = None, host: str = "") -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("GET", path, headers={"Host": host or f"127.0.0.1:{port}", **(headers or {})})
        return connection.getresponse().status
    except OSError:
        return 0
    finally:
        connection.close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    folder, number = tmp_path_factory.mktemp("mlflow"), free_port()
    secrets = {"MLFLOW_AUTH_ADMIN_PASSWORD": "opensesame-1234", "MLFLOW_FLASK_SERVER_SECRET_KEY": "0" * 48}
    process = start(folder, number, **secrets)
    try:
        until = time.monotonic() + PATIENCE_S
        while status(number, "/health") != 200:
            assert process.poll() is None and time.monotonic() < until, (folder / "log").read_text()
            time.sleep(0.2)
        yield number
    finally:
        end(process)


def test_only_a_user_with_the_right_password_gets_an_answer(port: int) -> None:
    wrong = {"Authorization": f"Basic {base64.b64encode(b'admin:password1234').decode()}"}
    assert status(port, SEARCH) == 401
    assert status(port, SEARCH, wrong) == 401
    assert status(port, SEARCH, LOGIN) == 200


def test_another_name_in_the_request_is_refused_even_with_the_password(port: int) -> None:
    assert status(port, SEARCH, LOGIN, host="evil.example") == 403


def test_it_listens_on_loopback_alone() -> None:
    words = documented(5000)
    assert words[words.index("--host") + 1] == "127.0.0.1"


def test_without_a_password_for_its_first_user_it_does_not_start(tmp_path: Path) -> None:
    process = start(tmp_path, free_port(), MLFLOW_FLASK_SERVER_SECRET_KEY="0" * 48)
    try:
        until = time.monotonic() + PATIENCE_S
        while "MLFLOW_AUTH_ADMIN_PASSWORD" not in (tmp_path / "log").read_text():
            assert time.monotonic() < until, (tmp_path / "log").read_text()
            time.sleep(0.2)
    finally:
        end(process)
