"""Sweeps over several nodes of one cluster, all on this machine: nodes that are lost, and nodes that come and go."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import ray.util

PATIENCE_S = 240.0
IDLE_MINUTES = 0.1

# A process of its own: Ray takes its settings from the environment when it is first imported.
CLUSTER = """\
import sys
from ray.cluster_utils import Cluster

cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
nodes = [cluster.add_node(num_cpus=1, include_dashboard=False) for _ in range(3)]
print(cluster.address, flush=True)
for line in sys.stdin:
    # A raylet that is killed takes the workers of its node with it.
    cluster.remove_node(nodes.pop(), allow_graceful=False)
    print("removed", flush=True)
cluster.shutdown()
"""

WATCH = """\
import sys, time
import ray

ray.init(address=sys.argv[1], logging_level="ERROR", log_to_driver=False)
while True:
    print(sum(node["Alive"] for node in ray.nodes()), flush=True)
    time.sleep(0.5)
"""

pytestmark = pytest.mark.slow


@pytest.fixture
def sweep(new_sweep: Callable[[], Any], monkeypatch: pytest.MonkeyPatch) -> Any:
    """An empty storage, and a token that every process of the test asks for and knows."""
    made = new_sweep()
    token = made.ray / "token"
    token.touch(mode=0o600)
    token.write_text("5" * 64)
    for name in [name for name in os.environ if name.startswith("RAY_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(token))
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    return made


@contextmanager
def process(command: list[str], sweep: Any, **environment: str) -> Iterator["subprocess.Popen[str]"]:
    """A running process with its pipes; it and whatever it started are gone afterwards."""
    started = subprocess.Popen(
        command,
        env=os.environ | {"RAY_TMPDIR": str(sweep.ray), "OMP_NUM_THREADS": "1"} | environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    try:
        yield started
    finally:
        below = sweep.below(started)
        started.terminate()
        with suppress(subprocess.TimeoutExpired):
            started.wait(20)
        for pid in [*below, started.pid]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        started.wait()


def test_a_sweep_outlives_the_loss_of_two_of_its_three_nodes(sweep: Any, new_sweep: Callable[[], Any]) -> None:
    # What TPE draws depends on which trials have ended; random settings are the same on any number of nodes.
    drawn = ("--set", "sampler.startup=4")
    calm = new_sweep()
    undisturbed = calm.run(*drawn)
    assert undisturbed.returncode == 0, undisturbed.stderr
    with process([sys.executable, "-c", CLUSTER], sweep) as cluster:
        assert cluster.stdin is not None and cluster.stdout is not None
        address = cluster.stdout.readline().strip()
        running = sweep.start("--address", address, *drawn)
        kept: dict[str, Any] = {}
        for done in (1, 3):
            sweep.wait_until(lambda wanted=done: len(sweep.trials()) >= wanted, running)
            kept |= sweep.trials()
            cluster.stdin.write("remove\n")
            cluster.stdin.flush()
            assert cluster.stdout.readline() == "removed\n"
        out, error = running.communicate(timeout=PATIENCE_S)
    assert running.returncode == 0, out + error
    assert sweep.metrics() == calm.metrics()
    # What was done stayed as it was; what was lost ran again.
    now = sweep.trials()
    assert all(now[key] == row for key, row in kept.items())


@pytest.fixture
def growing(sweep: Any) -> Iterator[str]:
    """Address of a head without CPUs, whose autoscaler may add two nodes with one each."""
    port = _free_port()
    # The machines of the provider look for their head at Ray's usual port, if nobody tells them another.
    head_at = f"{ray.util.get_node_ip_address()}:{port}"
    machines: dict[str, Any] = {
        "disable_node_updaters": True,
        "disable_launch_config_check": True,
        "use_node_id_as_ip": True,
    }
    machines |= {"gcs_address": head_at}
    worker = {"resources": {"CPU": 1}, "node_config": {}, "min_workers": 0, "max_workers": 2}
    head = {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0}
    nothing = ("initialization", "setup", "head_setup", "worker_setup", "head_start_ray", "worker_start_ray")
    config = {
        "cluster_name": "several",
        "max_workers": 2,
        "provider": {"type": "fake_multinode", **machines},
        "available_node_types": {"ray.head.default": head, "worker": worker},
        "head_node_type": "ray.head.default",
        "idle_timeout_minutes": IDLE_MINUTES,
        "upscaling_speed": 1.0,
        **{"auth": {}, "docker": {}, "file_mounts": {}, "cluster_synced_files": []},
        **{f"{name}_commands": [] for name in nothing},
    }
    page = sweep.ray / "autoscaling.yaml"
    page.write_text(json.dumps(config))
    # ray.cluster_utils.AutoscalingCluster would begin with "ray stop --force", which ends every Ray on this machine.
    command = [
        sys.executable,
        "-m",
        "ray.scripts.scripts",
        "start",
        "--head",
        "--block",
        "--num-cpus=0",
        f"--port={port}",
    ]
    scratch = tempfile.mkdtemp(prefix="ray-", dir="/tmp")
    command += [f"--autoscaling-config={page}", f"--temp-dir={scratch}", "--include-dashboard=false"]
    environment = {"AUTOSCALER_UPDATE_INTERVAL_S": "1", "RAY_FAKE_CLUSTER": "1"}
    try:
        with process(command, sweep, **environment) as head:
            yield _address(Path(scratch) / "ray_current_cluster", head)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])


def _address(file: Path, head: "subprocess.Popen[str]") -> str:
    until = time.monotonic() + PATIENCE_S
    while not file.exists() or not file.read_text():
        assert head.poll() is None and time.monotonic() < until, "the head did not start"
        time.sleep(0.2)
    return file.read_text().strip()


@pytest.mark.chaos  # minutes: machines are asked for, started, and idle before they go
def test_a_cluster_grows_for_a_sweep_and_shrinks_after_it(sweep: Any, growing: str) -> None:
    with process([sys.executable, "-c", WATCH, growing], sweep) as watching:
        assert watching.stdout is not None
        assert int(watching.stdout.readline()) == 1
        done = sweep.run("--address", growing, "--grow", "2:1:0", "--trials", "2")
        assert done.returncode == 0, done.stdout + done.stderr
        # Read now: everything printed up to here, and then on until the machines are gone.
        most, until = 0, time.monotonic() + PATIENCE_S
        while (alive := int(watching.stdout.readline())) > 1 or most < 3:
            most = max(most, alive)
            assert time.monotonic() < until, f"{alive} nodes are left, of at most {most}"
    assert most == 3


def test_without_grow_a_head_alone_is_refused_as_too_small(sweep: Any, growing: str) -> None:
    done = sweep.run("--address", growing)
    assert done.returncode == 2
    assert "asks for 1 CPUs" in done.stderr
