"""What another account on the machine gets from a running sweep: every port that listens, and every file it leaves.

``make chaos`` runs it. The ports are found by what the sweep's processes hold, not by a list, so that one which a
newer Ray opens is judged too.
"""

import http.client
import os
import stat
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.conftest import Sweep, descendants

grpc = pytest.importorskip("grpc")

pytestmark = [pytest.mark.slow, pytest.mark.chaos]

SECRETS = {"AWS_SECRET_ACCESS_KEY": "key-Xq7Lr2Vn9T", "MLFLOW_TRACKING_PASSWORD": "pass-Zu4Hk8Wd3"}
LISTENING = "0A"
ASKED = (
    *("NodeInfoGcsService/GetAllNodeInfo", "InternalKVGcsService/InternalKVGet", "JobInfoGcsService/AddJob"),
    *("NodeManagerService/GetNodeStats", "NodeManagerService/RequestWorkerLease", "ObjectManagerService/Pull"),
    *("CoreWorkerService/PushTask", "CoreWorkerService/GetCoreWorkerStats", "CoreWorkerService/KillActor"),
    *("ReporterService/GetTraceback", "ReporterService/CpuProfiling", "LogService/ListLogs"),
)
"""One call of each service that Ray has, and those that would run code or read data."""


@dataclass(frozen=True)
class Port:
    """A listening TCP port. process: the command line of one that holds it."""

    host: str
    number: int
    process: str


def ports(pid: int) -> list[Port]:
    """The listening ports of a process and of all below it."""
    holders: dict[str, str] = {}
    for each, command in {pid: "driver", **descendants(pid)}.items():
        try:
            handles = list(Path(f"/proc/{each}/fd").iterdir())
        except OSError:
            continue  # it ended meanwhile
        for handle in handles:
            try:
                holders[os.readlink(handle)] = command
            except OSError:
                continue
    found = []
    for name in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]:
            local, _, state, *rest = line.split()[1:]
            holder = holders.get(f"socket:[{rest[5]}]")
            if state == LISTENING and holder is not None:
                address, _, number = local.partition(":")
                found.append(Port(_host(address), int(number, 16), holder))
    return found


def _host(address: str) -> str:
    """An address of /proc/net/tcp that can be asked at; every address is this machine's own."""
    if len(address) == 8 and int(address, 16):
        return ".".join(str(byte) for byte in reversed(bytes.fromhex(address)))
    return "127.0.0.1"


def over_http(port: Port) -> tuple[int, str]:
    """Status and text of what a port answers to a browser; status 0 where it speaks no HTTP."""
    try:
        with urllib.request.urlopen(f"http://{port.host}:{port.number}/", timeout=5) as answer:
            return answer.status, answer.read().decode(errors="replace")
    except urllib.error.HTTPError as error:
        return error.code, ""
    except (OSError, http.client.HTTPException):
        return 0, ""


def over_grpc(port: Port) -> dict[str, str]:
    """Call -> name of the status with which it ended."""
    found = {}
    with grpc.insecure_channel(f"{port.host}:{port.number}") as channel:
        for call in ASKED:
            try:
                channel.unary_unary(f"/ray.rpc.{call}")(b"", timeout=5)
                found[call] = "OK"
            except grpc.RpcError as error:
                found[call] = error.code().name
    return found


@dataclass(frozen=True)
class Left:
    """A finished sweep. answers: of each of its ports while it ran, over HTTP and over gRPC. said: all its output."""

    sweep: Sweep
    home: Path
    answers: dict[Port, tuple[tuple[int, str], dict[str, str]]]
    said: str

    @property
    def token_file(self) -> Path:
        return self.home / ".ray" / "auth_token"

    @property
    def secrets(self) -> list[str]:
        return [self.token_file.read_text().strip(), *SECRETS.values()]


@pytest.fixture(scope="module")
def left(kept_sweep: Callable[[], Sweep], tmp_path_factory: pytest.TempPathFactory) -> Left:
    """A sweep that ran with secrets in its environment, and was asked at all its ports."""
    sweep, home = kept_sweep(), tmp_path_factory.mktemp("home")
    sweep.environment |= {**SECRETS, "HOME": str(home), "TMPDIR": str(tmp_path_factory.mktemp("t"))}
    process = sweep.start()
    sweep.wait_until(lambda: bool(sweep.trials("RUNNING")) or bool(sweep.trials()), process)
    answers = {port: (over_http(port), over_grpc(port)) for port in ports(process.pid)}
    out, error = process.communicate(timeout=240)
    assert process.returncode == 0, error
    return Left(sweep, home, answers, out + error)


def test_a_sweep_listens_at_the_ports_that_ray_needs(left: Left) -> None:
    commands = " ".join(port.process for port in left.answers)
    for part in ("driver", "gcs_server", "raylet", "ray::"):
        assert part in commands


def test_no_port_does_anything_without_the_token(left: Left) -> None:
    for port, ((status, text), calls) in left.answers.items():
        if status == 200:  # figures for Prometheus, which are no secret
            assert text.startswith("# HELP"), port
            assert set(calls.values()) <= {"UNAVAILABLE", "DEADLINE_EXCEEDED", "UNKNOWN", "INTERNAL"}, port
        elif status:
            assert status in (401, 403), port
        else:
            assert "UNAUTHENTICATED" in calls.values(), port
            assert set(calls.values()) <= {"UNAUTHENTICATED", "UNIMPLEMENTED"}, (port, calls)


def test_what_anybody_may_read_at_a_port_holds_no_secret(left: Left) -> None:
    texts = [text for (_, text), _ in left.answers.values()]
    assert not [secret for secret in left.secrets if any(secret in text for text in texts)]


def test_no_file_and_no_output_of_a_sweep_holds_a_secret(left: Left) -> None:
    assert stat.S_IMODE(left.token_file.stat().st_mode) == 0o600
    sweep = left.sweep
    folders = (sweep.storage, sweep.ray, Path(sweep.environment["TMPDIR"]), left.home)
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file() and path != left.token_file]
    assert any(path.name == "ledger.db" for path in files) and any(path.suffix == ".log" for path in files)
    lines = [(path, line) for path in files for line in path.read_bytes().splitlines()]
    secrets = [secret.encode() for secret in left.secrets]
    assert not [(str(path), line[:300]) for path, line in lines if any(secret in line for secret in secrets)]
    assert not [secret for secret in left.secrets if secret in left.said]
