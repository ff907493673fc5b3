"""``python -m platform.ui``: the MLflow UI on a storage folder, for this machine alone.

Exit codes: 0 ended by Ctrl-C or a signal, 1 the server ended by itself, 2 the command is wrong and nothing was started.
"""

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import IO

from .console import OK, WRONG, leave
from .ledger.storage import named

HOST = "127.0.0.1"
DATABASE = "mlflow.db"
FAILED = 1

_PATIENCE_S = 90.0
_FAREWELL_S = 10.0
_LAST_LINES = 5
_STUDIES = 10
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

# The jobs are for language models; they would keep four more processes and a queue.
_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
}


class _EndRequested(BaseException):
    """A signal asks the command to end."""


def parser() -> argparse.ArgumentParser:
    """The command line of ``python -m platform.ui``."""
    parse = argparse.ArgumentParser(prog="python -m platform.ui", description="Open the MLflow UI on a storage folder.")
    parse.add_argument("--storage", metavar="DIR|URI", default="runs", help="default: runs")
    parse.add_argument("--port", metavar="N", type=_port, default=5000, help="on 127.0.0.1; default: 5000")
    return parse


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; None takes the arguments of the process. Returns the exit code."""
    given = parser().parse_args(arguments)
    try:
        storage = named(given.storage).folder
    except ValueError as error:
        print(error, file=sys.stderr)
        return WRONG
    database = storage.resolve() / DATABASE
    if not database.is_file():
        sentence = "no sweep has kept its runs there. Run one first, or name another folder with --storage."
        print(f"{storage}: there is no {DATABASE}: {sentence}", file=sys.stderr)
        return WRONG
    if not _is_free(given.port):
        print(
            f"port {given.port} is taken on {HOST}: choose another one, such as --port {given.port + 1}.",
            file=sys.stderr,
        )
        return WRONG
    return serve(database, given.port)


def serve(database: Path, port: int) -> int:
    """Run an MLflow server until a signal comes or it ends by itself.

    Args:
        database: MLflow's SQLite file.
        port: on 127.0.0.1.

    Returns:
        The exit code: OK after a signal, FAILED if the server ended by itself.
    """
    for number in _SIGNALS:
        signal.signal(number, _request_end)
    with tempfile.TemporaryFile() as log:
        # A session of its own: Ctrl-C reaches this process alone, which then ends all of them, in order.
        server = subprocess.Popen(
            _command(database, port),
            env={**os.environ, **_ENVIRONMENT},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            if _wait_until_up(server, port):
                print("\n".join(_welcome(database, port)), flush=True)
                server.wait()
        except _EndRequested:
            return OK
        finally:
            _end(server)
        print(f"the MLflow server ended by itself:\n{_tail(log)}", file=sys.stderr)
        return FAILED


def _command(database: Path, port: int) -> list[str]:
    options = {
        "--backend-store-uri": f"sqlite:///{database}",
        "--host": HOST,
        "--port": str(port),
        "--workers": "1",
        "--allowed-hosts": f"localhost:{port},{HOST}:{port}",
    }
    return [sys.executable, "-m", "mlflow", "ui", *(word for option in options.items() for word in option)]


def _wait_until_up(server: "subprocess.Popen[bytes]", port: int) -> bool:
    """Whether the server answers; False if it ends before it does."""
    deadline = time.monotonic() + _PATIENCE_S
    while server.poll() is None and time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"http://{HOST}:{port}/health", timeout=5):
                return True
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    return False


def _welcome(database: Path, port: int) -> list[str]:
    """Lines with the address of the MLflow UI and of the newest studies' runs.

    From MLflow's own list a study opens on a page about language models, so each study has its address here.
    """
    address = f"http://{HOST}:{port}"
    first = f"MLflow on {database}: {address} (end it with Ctrl-C)"
    ask = urllib.request.Request(
        f"{address}/api/2.0/mlflow/experiments/search",
        data=json.dumps({"max_results": _STUDIES, "order_by": ["last_update_time DESC"]}).encode(),
        headers={"Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(ask, timeout=_PATIENCE_S) as answer:
            experiments = json.load(answer).get("experiments", [])
    except OSError as error:
        return [first, f"  (it does not list its studies: {error})"]
    # MLflow makes an experiment 0, named Default, that nothing is in.
    studies = {row["name"]: row["experiment_id"] for row in experiments if row["experiment_id"] != "0"}
    width = max(map(len, studies), default=0)
    page = f"{address}/#/experiments/{{}}/runs?workflowType=machine_learning"
    return [first, *(f"  {name:<{width}}  {page.format(number)}" for name, number in studies.items())]


def _end(server: "subprocess.Popen[bytes]") -> None:
    """End all processes of the server's session; kill those that do not end in time."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(server.pid, number)
            server.wait(_FAREWELL_S)
        except ProcessLookupError:
            break
        except subprocess.TimeoutExpired:
            continue


def _request_end(number: int, frame: FrameType | None) -> None:
    for ignored in _SIGNALS:
        signal.signal(ignored, signal.SIG_IGN)
    raise _EndRequested


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def _port(text: str) -> int:
    if not text.isdecimal() or not 1024 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(f"a port is a whole number from 1024 to 65535, but is {text!r}")
    return int(text)


def _tail(log: IO[bytes]) -> str:
    log.seek(0)
    return "\n".join(log.read().decode(errors="replace").splitlines()[-_LAST_LINES:])


if __name__ == "__main__":
    leave(main)
