"""A sweep that comes to a cluster as a Ray job: a head that asks for a token, and what it shows of itself."""

import os
import re
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from platform.run.ray_auth import OPEN_CLUSTER

import pytest

ROOT = Path(__file__).resolve().parents[2]
RAY = [sys.executable, "-m", "ray.scripts.scripts"]
PATIENCE_S = 240.0
OWN = {
    *(f"ray_clustersweep_{name}" for name in ("trials", "stages", "trial_gpus", "search_queue", "search_kept_bytes")),
    "ray_clustersweep_search_answers_total",
    "ray_node_disk_utilization_percentage",
}
"""What the dashboard draws of a machine without a GPU."""

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Head:
    """A running head. environment: with which one may speak to it."""

    dashboard: str
    metrics: str
    log: Path
    environment: dict[str, str]


def free_ports(number: int) -> list[int]:
    probes = [socket.socket() for _ in range(number)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    ports = [int(probe.getsockname()[1]) for probe in probes]
    for probe in probes:
        probe.close()
    return ports


def answer(address: str, token: str = "") -> int:
    """The status of a GET; 0 while nobody listens."""
    asked = urllib.request.Request(address, headers={"Authorization": f"Bearer {token}"} if token else {})
    try:
        with urllib.request.urlopen(asked, timeout=10) as reply:
            return int(reply.status)
    except urllib.error.HTTPError as refused:
        return refused.code
    except OSError:
        return 0


def wait_for(address: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    until = time.monotonic() + PATIENCE_S
    while answer(address) == 0:
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < until, f"nobody listens at {address}:\n{log.read_text()}"
        time.sleep(0.5)


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Head]:
    folder = tmp_path_factory.mktemp("head")
    token = folder / "token"
    token.touch(mode=0o600)
    token.write_text("5" * 64)
    gcs, dashboard, agent, metrics, client = free_ports(5)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environment |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token), "RAY_USAGE_STATS_ENABLED": "0"}
    environment |= {"OMP_NUM_THREADS": "1", "RAY_metrics_report_interval_ms": "1000"}
    options = {
        "--port": gcs,
        "--dashboard-host": "127.0.0.1",
        "--dashboard-port": dashboard,
        "--dashboard-agent-listen-port": agent,
        "--metrics-export-port": metrics,
        "--ray-client-server-port": client,
        "--num-cpus": 2,
    }
    words = [f"{name}={value}" for name, value in options.items()]
    log = folder / "head.log"
    # Ray's sockets have long names of their own, and a socket's path at most 107 letters.
    with log.open("wb") as out, tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp") as scratch:
        process = subprocess.Popen(
            [*RAY, "start", "--head", "--block", f"--temp-dir={scratch}", *words],
            cwd=folder,
            env=environment,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
        address = f"http://127.0.0.1:{dashboard}"
        try:
            wait_for(f"{address}/api/version", process, log)
            yield Head(address, f"http://127.0.0.1:{metrics}/metrics", log, environment)
        finally:
            # With --block it ends what it started.
            process.terminate()
            process.wait(60)


def test_without_the_token_or_with_a_wrong_one_nothing_is_answered(head: Head) -> None:
    assert answer(f"{head.dashboard}/api/jobs/") == 401
    assert answer(f"{head.dashboard}/api/jobs/", token="0" * 64) == 403
    assert answer(f"{head.dashboard}/api/jobs/", token="5" * 64) == 200


def test_a_job_without_the_token_is_refused(head: Head, tmp_path: Path) -> None:
    stranger = head.environment | {"RAY_AUTH_MODE": "disabled"}
    del stranger["RAY_AUTH_TOKEN_PATH"]
    stranger["HOME"] = str(tmp_path)
    done = submit(head, stranger, "echo", "ran")
    assert done.returncode != 0
    assert "ran\n" not in done.stdout


def test_a_submitted_study_runs_through_and_is_seen_by_prometheus(head: Head, tmp_path: Path) -> None:
    storage = tmp_path / "runs"
    sweep = ["-m", "platform.sweep", "search_spaces/kmeans.yaml", "--smoke", "--seeds", "0", "--storage", str(storage)]
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(submit, head, head.environment, sys.executable, *sweep)
        seen: set[str] = set()
        # The driver's gauges go when it does.
        while not running.done():
            seen |= names(head.metrics)
            wait([running], timeout=0.5)
        done = running.result()
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-5000:] + head.log.read_text()[-5000:]
    assert "succeeded" in done.stdout
    assert OPEN_CLUSTER not in done.stdout
    assert (storage / "smoke" / "ledger.db").is_file()
    assert seen >= OWN


def names(metrics: str) -> set[str]:
    """Of everything that is shown now."""
    with suppress(OSError), urllib.request.urlopen(metrics, timeout=10) as reply:
        return set(re.findall(r"^(\w+)\{", reply.read().decode(), re.MULTILINE))
    return set()


def submit(head: Head, environment: dict[str, str], *command: str) -> "subprocess.CompletedProcess[str]":
    words = ["job", "submit", "--address", head.dashboard, "--working-dir", ".", "--", *command]
    return subprocess.run(
        [*RAY, *words], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
