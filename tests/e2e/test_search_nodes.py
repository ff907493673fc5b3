"""The search over several nodes: an actor on each that has the resource, requests routed, nodes lost and added.

"gpu" stands for what an actor is started for; on these nodes it is nothing but a name, and the actors use the CPU.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 240.0

# A process of its own: Ray takes its settings from the environment when it is first imported.
SCRIPT = """\
import json
import os
import time

import numpy as np
import ray
from ray.cluster_utils import Cluster
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from trainables.vector_search import service

cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
first, second = (cluster.add_node(num_cpus=1, resources={"gpu": 1}) for _ in range(2))
ray.init(address=cluster.address, namespace="another", log_to_driver=False, logging_level="ERROR")
held = service.start(resource="gpu")


@ray.remote(num_cpus=0)
def ask(seed, num_rows=300, width=16):
    points_ND = np.random.default_rng(seed).standard_normal((num_rows, width), dtype=np.float32)
    _, neighbors_NK = service.SharedSearch(1).knn(points_ND, None, 3, "l2")
    return int(neighbors_NK.sum())


def at(node):
    return ask.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node.node_id, soft=False))


def computed():
    by_name = {name: each["computed"] for name, each in held.stats().items()}
    return [sum(count for name, count in by_name.items() if node.node_id[:12] in name) for node in (first, second)]


def busy(name):
    return ray.get(held.actors[name].load.remote()).queue


said = {"actors": len(held.actors)}
ray.get(at(first).remote(0))
said["from the first"] = computed()
ray.get(at(second).remote(1))
said["from the second"] = computed()
ray.get(at(second).remote(0))
said["the first's again, from the second"] = computed()
time.sleep(1.5)  # until what was sent off counts no more
(name,) = (name for name in held.actors if first.node_id[:12] in name)
ray.get([at(first).remote(0), at(first).remote(0)])  # two processes, so that the next request does not wait
long = at(first).remote(2, 30000, 256)
while busy(name) == 0:
    time.sleep(0.005)
ray.get(at(first).remote(3))
said["while the first is busy"] = computed()
ray.get(long)
said["after that"] = computed()
answer = ray.get(at(second).remote(0))
cluster.remove_node(first, allow_graceful=False)
said["without the first, the same answer"] = ray.get(at(second).remote(0)) == answer
said["without the first, a new one"] = ray.get(at(second).remote(4)) > 0


def followed(wanted):
    # How many actors there are, after a minute at most in which the cluster may notice a node.
    until = time.monotonic() + 60
    while len(held.actors) != wanted and time.monotonic() < until:
        held._looked_at_s = 0.0  # look at once, and not every few seconds
        held.follow()
        time.sleep(0.2)
    return len(held.actors)


said["actors left"] = followed(1)
third = cluster.add_node(num_cpus=1, resources={"gpu": 1})
followed(2)
ray.get(at(third).remote(5))
said["actors with the third"] = len(held.actors)
said["by the third"] = sum(each["computed"] for name, each in held.stats().items() if third.node_id[:12] in name)
print(json.dumps(said))
ray.shutdown()
cluster.shutdown()
"""


@pytest.fixture(scope="module")
def said() -> Any:
    # Ray's sockets have long names of their own, and a socket's path at most 107 letters.
    folder = Path(tempfile.mkdtemp(prefix="ray", dir="/tmp"))
    token = folder / "token"
    token.touch(mode=0o600)
    token.write_text("5" * 64)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environment |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token), "RAY_TMPDIR": str(folder)}
    environment |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "RAY_USAGE_STATS_ENABLED": "0"}
    try:
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT],
            env=environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    assert done.returncode == 0, done.stdout + done.stderr
    # Ray's own messages of nodes that are gone may come after it.
    return json.loads(next(line for line in done.stdout.splitlines() if line.startswith('{"actors"')))


@pytest.mark.slow
def test_each_node_asks_its_own_actor(said: Any) -> None:
    assert said["actors"] == 2
    assert said["from the first"] == [1, 0]
    assert said["from the second"] == [1, 1]


@pytest.mark.slow
def test_what_one_actor_has_answered_is_not_computed_by_the_other(said: Any) -> None:
    assert said["the first's again, from the second"] == [1, 1]


@pytest.mark.slow
def test_a_request_goes_to_a_free_actor_elsewhere_while_the_own_one_is_busy(said: Any) -> None:
    assert said["while the first is busy"] == [1, 2]
    assert said["after that"] == [2, 2]


@pytest.mark.slow
def test_a_lost_node_s_requests_are_answered_by_the_others(said: Any) -> None:
    assert said["without the first, the same answer"] and said["without the first, a new one"]
    assert said["actors left"] == 1


@pytest.mark.slow
def test_a_node_that_joins_gets_its_actor(said: Any) -> None:
    assert said["actors with the third"] == 2
    assert said["by the third"] == 1
