"""The UI command: what it refuses, and a real server from start to end."""

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from platform import ui
from platform.tracking import mlflow

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def port() -> int:
    with socket.socket() as probe:
        probe.bind((ui.HOST, 0))
        return int(probe.getsockname()[1])


def test_a_storage_without_runs_is_refused_with_the_way_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ui.main(["--storage", str(tmp_path)]) == ui.WRONG
    assert capsys.readouterr().err == (
        f"{tmp_path}: there is no mlflow.db: no sweep has kept its runs there. "
        "Run one first, or name another folder with --storage.\n"
    )


def test_a_port_that_is_taken_is_refused_with_the_way_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mlflow.db").touch()
    with socket.socket() as taken:
        taken.bind((ui.HOST, 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert ui.main(["--storage", str(tmp_path), "--port", str(port)]) == ui.WRONG
    assert capsys.readouterr().err == (
        f"port {port} is taken on 127.0.0.1: choose another one, such as --port {port + 1}.\n"
    )


@pytest.mark.parametrize("text", ["80", "70000", "http"])
def test_a_port_that_is_none_is_refused(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as refused:
        ui.main(["--port", text])
    assert refused.value.code == ui.WRONG
    assert f"a port is a whole number from 1024 to 65535, but is '{text}'" in capsys.readouterr().err


@pytest.fixture
def served(tmp_path: Path, port: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """The command on a database with one experiment, and its address."""
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    mlflow.MlflowRuns(f"sqlite:///{tmp_path / 'mlflow.db'}", tmp_path).runs("digits_spc", "no launch")
    command = [sys.executable, "-m", "platform.ui", "--storage", str(tmp_path), "--port", str(port)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    running = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
    assert running.stdout is not None
    try:
        assert f"http://127.0.0.1:{port}" in running.stdout.readline()
        yield running, f"http://127.0.0.1:{port}"
    finally:
        running.terminate()
        running.wait(30)


@pytest.mark.slow
def test_it_serves_this_machine_alone_and_ends_with_all_its_processes(
    served: tuple["subprocess.Popen[str]", str], port: int
) -> None:
    running, address = served
    with urllib.request.urlopen(f"{address}/") as page:
        assert page.status == 200
    ask = urllib.request.Request(
        f"{address}/ajax-api/2.0/mlflow/experiments/search",
        data=json.dumps({"max_results": 5}).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(ask) as answer:
        assert "digits_spc" in [each["name"] for each in json.load(answer)["experiments"]]
    foreign = urllib.request.Request(f"{address}/", headers={"Host": "evil.example"})
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(foreign)
    running.send_signal(signal.SIGINT)
    assert running.wait(20) == ui.OK
    with socket.socket() as again:
        again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        again.bind((ui.HOST, port))  # Raises while a process of the server is left.
