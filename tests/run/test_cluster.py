"""What a cluster can carry, judged before anything is placed on it."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from platform.run import cluster
from platform.run.cluster import Infeasible, Size, refuse_infeasible
from platform.study.file_schema import Share
from platform.study.placement import Node
from platform.study.study import Study

import pytest

MakeStudy = Callable[[str], Study]
NODE = Size(cpus=8, gpus=2)


@pytest.mark.parametrize(
    ("share", "slots"),
    [
        (Share(cpu=1), 8),
        (Share(cpu=3), 2),
        (Share(cpu=1, gpu=0.5), 4),
        (Share(cpu=4, gpu=0.25), 2),
        (Share(cpu=0, gpu=1), 2),
        (Share(workers=2, cpu=2), 2),
        (Share(workers=2, cpu=1, gpu=1), 1),
        (Share(workers=3, cpu=1, gpu=1), 0),
        (Share(cpu=9), 0),
        (Share(cpu=0.5), 16),
    ],
)
def test_slots_are_what_fits_at_once_by_cpu_and_gpu(share: Share, slots: int) -> None:
    assert NODE.slots(share) == slots


def test_a_trial_that_asks_for_nothing_gets_one_slot_a_cpu() -> None:
    assert NODE.slots(Share(cpu=0)) == 8


def test_a_trial_above_the_cluster_is_refused_with_both_numbers(make_study: MakeStudy) -> None:
    study = make_study("method: spc\nresources: {trial: {workers: 4, cpu: 2, gpu: 1}}\n")
    text = (
        r"resources.trial asks for 8 CPUs and 4 GPUs at once \(4 x 2 CPU, 1 GPU\), but the cluster has 8 CPUs and 2 "
        "GPUs; lower resources.trial or join a larger cluster with --address"
    )
    with pytest.raises(Infeasible, match=text):
        refuse_infeasible(study, NODE)


def test_a_prepare_group_above_the_cluster_is_refused(make_study: MakeStudy) -> None:
    study = make_study("method: spc\nresources: {prepare: {workers: 9}}\n")
    with pytest.raises(Infeasible, match=r"resources.prepare asks for 9 CPUs and 0 GPUs at once \(9 x 1 CPU, 0 GPU\)"):
        refuse_infeasible(study, NODE)


def test_what_fits_is_not_refused(make_study: MakeStudy) -> None:
    refuse_infeasible(make_study("method: spc\nresources: {prepare: {workers: 2, gpu: 1}}\n"), NODE)


def test_machines_that_may_be_added_count_as_if_they_were_there(monkeypatch: pytest.MonkeyPatch) -> None:
    there = [{"Alive": True, "Resources": {"CPU": 4.0}}, {"Alive": False, "Resources": {"CPU": 64.0, "GPU": 8.0}}]
    asked: dict[str, object] = {}
    monkeypatch.setattr("ray.init", lambda **options: asked.update(options))
    monkeypatch.setattr("ray.nodes", lambda: there)
    monkeypatch.setattr("ray.shutdown", lambda: None)
    found = cluster.size("auto", (Node(16, 1), Node(16, 1)))
    assert asked["address"] == "auto"
    assert found == Size(36, 2, (Node(4, 0), Node(16, 1), Node(16, 1)))


def test_a_cluster_that_is_joined_is_measured_and_not_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 3)
    assert cluster.size("").cpus == 3
    monkeypatch.setattr("ray.init", lambda **options: None)
    monkeypatch.setattr("ray.nodes", lambda: [{"Alive": True, "Resources": {"CPU": 64.0}}])
    monkeypatch.setattr("ray.shutdown", lambda: None)
    assert cluster.size("auto").cpus == 64


def test_a_cluster_without_a_token_is_joined_with_a_word(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("ray.init", lambda **options: None)
    monkeypatch.setattr("ray.nodes", lambda: [])
    monkeypatch.setattr("ray.shutdown", lambda: None)
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    cluster.size("auto")
    assert "asks for no token" in capsys.readouterr().err
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    cluster.size("auto")
    assert capsys.readouterr().err == ""


STARTS = """
import sys
from platform.run import cluster
with cluster.running("") as size:
    import ray
    print(ray.get_runtime_context().gcs_address, flush=True)
    sys.stdin.readline()
"""
JOINS = """
import sys, ray
ray.init(address=sys.argv[1], log_to_driver=False)
print("joined", ray.get(ray.remote(num_cpus=0)(lambda: 7).remote()))
"""


@pytest.mark.chaos
@pytest.mark.slow
def test_a_cluster_started_here_takes_nobody_without_its_token(tmp_path: Path) -> None:
    """A head that was started without one runs whatever anybody sends it."""
    home = {name: value for name, value in os.environ.items() if not name.startswith("RAY_AUTH")} | {
        "OMP_NUM_THREADS": "1"
    }
    root = Path(__file__).resolve().parents[2]
    mine = home | {"RAY_AUTH_TOKEN": "a" * 64, "RAY_AUTH_MODE": "token"}
    head = subprocess.Popen(
        [sys.executable, "-c", STARTS], cwd=root, env=mine, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert head.stdout is not None and head.stdin is not None
        address = head.stdout.readline().strip()
        assert address.rpartition(":")[2].isdigit()

        def join(environment: dict[str, str]) -> "subprocess.CompletedProcess[str]":
            command = [sys.executable, "-c", JOINS, address]
            return subprocess.run(
                command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120, check=False
            )

        assert join(mine).stdout.strip() == "joined 7"
        for other in (mine | {"RAY_AUTH_TOKEN": "b" * 64}, mine | {"RAY_AUTH_MODE": "disabled"}):
            refused = join(other)
            assert refused.returncode != 0
            assert "joined" not in refused.stdout
        head.stdin.write("\n")
        head.stdin.flush()
        assert head.wait(60) == 0
    finally:
        head.kill()
        head.wait()


@pytest.mark.parametrize(("page", "refused"), [("{trial: {gpu: 0.5}}", True), ("{prepare: {workers: 1, gpu: 1}}", True),
                                               ("{trial: {gpu: 0}}", False)])  # fmt: skip
def test_gpus_that_torch_cannot_use_are_refused_before_anything_starts(
    make_study: MakeStudy, monkeypatch: pytest.MonkeyPatch, page: str, refused: bool
) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    study = make_study(f"method: spc\nresources: {page}\n")
    if not refused:
        return cluster.refuse_unusable_gpus(study)
    with pytest.raises(Infeasible, match=r"asks for GPUs, and this machine has some, but .*; (update|install)"):
        cluster.refuse_unusable_gpus(study)
    return None
