"""The Kubernetes manifests, held against the fields that KubeRay's custom resources have (ray.io/v1)."""

import argparse
import re
import shlex
from pathlib import Path
from platform.study.placement import machines
from platform.sweep import parser
from typing import Any

import ray
import yaml

FOLDER = Path(__file__).resolve().parents[2] / "infra" / "kuberay"

CLUSTER = {
    "rayVersion",
    "authOptions",
    "enableInTreeAutoscaling",
    "autoscalerOptions",
    "headGroupSpec",
    "workerGroupSpecs",
}
AUTOSCALER = {"version", "upscalingMode", "idleTimeoutSeconds", "resources"}
GROUP = {"groupName", "replicas", "minReplicas", "maxReplicas", "priority", "rayStartParams", "template"}
JOB = {
    "entrypoint",
    "submissionMode",
    "shutdownAfterJobFinishes",
    "ttlSecondsAfterFinished",
    "activeDeadlineSeconds",
    "backoffLimit",
    "rayClusterSpec",
}
POD = {
    "automountServiceAccountToken",
    "securityContext",
    "nodeSelector",
    "tolerations",
    "containers",
    "volumes",
}


def documents(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((FOLDER / name).read_text()))


def cluster() -> dict[str, Any]:
    (document,) = documents("raycluster.yaml")
    assert (document["apiVersion"], document["kind"]) == ("ray.io/v1", "RayCluster")
    spec: dict[str, Any] = document["spec"]
    return spec


def groups() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = cluster()["workerGroupSpecs"]
    return found


def test_every_manifest_is_one_of_those_looked_at_here() -> None:
    names = sorted(path.name for path in FOLDER.iterdir())
    assert names == ["mlflow-values.yaml", "podmonitor.yaml", "raycluster.yaml", "rayjob.yaml", "storage.yaml"]


def test_the_cluster_has_only_fields_that_the_resource_has() -> None:
    spec = cluster()
    assert set(spec) == CLUSTER
    assert set(spec["autoscalerOptions"]) <= AUTOSCALER
    assert set(spec["headGroupSpec"]) == {"serviceType", "rayStartParams", "template"}
    for group in groups():
        assert set(group) == GROUP
    for part in (spec["headGroupSpec"], *groups()):
        assert set(part["template"]) == {"metadata", "spec"}
        assert set(part["template"]["spec"]) <= POD
        assert all(isinstance(value, str) for value in part["rayStartParams"].values())
        (container,) = part["template"]["spec"]["containers"]
        volumes = {volume["name"] for volume in part["template"]["spec"]["volumes"]}
        assert {mount["name"] for mount in container["volumeMounts"]} == volumes
        assert container["image"].endswith("clustersweep:cuda")


def test_the_cluster_asks_for_a_token_and_is_open_to_nobody_outside() -> None:
    spec = cluster()
    assert spec["authOptions"] == {"mode": "token"}
    assert spec["headGroupSpec"]["serviceType"] == "ClusterIP"
    assert re.fullmatch(r"\d+\.\d+\.\d+", spec["rayVersion"])
    # The operator takes tokens from 2.52 on; the clients and the pods must be of one version.
    assert spec["rayVersion"].split(".")[:2] == ray.__version__.split(".")[:2]


def test_pods_are_no_root_and_workers_have_no_token_of_kubernetes() -> None:
    pods = [part["template"]["spec"] for part in (cluster()["headGroupSpec"], *groups())]
    assert all(pod["securityContext"]["runAsNonRoot"] for pod in pods)
    assert [pod["automountServiceAccountToken"] for pod in pods] == [True, False, False]


def test_gpu_workers_come_with_the_work_spot_first() -> None:
    spot, fallback = groups()
    assert (spot["groupName"], fallback["groupName"]) == ("gpu-spot", "gpu-on-demand")
    assert spot["priority"] > fallback["priority"]
    assert spot["minReplicas"] == fallback["minReplicas"] == spot["replicas"] == fallback["replicas"] == 0
    assert spot["template"]["spec"]["containers"] == fallback["template"]["spec"]["containers"]
    assert spot["template"]["spec"]["nodeSelector"] != fallback["template"]["spec"]["nodeSelector"]
    (worker,) = spot["template"]["spec"]["containers"]
    assert worker["resources"]["limits"]["nvidia.com/gpu"] == worker["resources"]["requests"]["nvidia.com/gpu"] == "1"
    assert cluster()["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"


def test_the_job_runs_a_study_that_there_is_with_options_that_there_are() -> None:
    (document,) = documents("rayjob.yaml")
    assert (document["apiVersion"], document["kind"]) == ("ray.io/v1", "RayJob")
    job = document["spec"]
    assert set(job) == JOB
    assert job["shutdownAfterJobFinishes"] is True
    assert job["submissionMode"] == "K8sJobMode"
    words = shlex.split(job["entrypoint"])
    assert words[:6] == ["cd", "/opt/clustersweep", "&&", "python", "-m", "platform.sweep"]
    given: argparse.Namespace = parser().parse_args(words[6:])
    assert (FOLDER.parents[1] / given.file).is_file()
    assert (given.storage, given.address) == ("/shared/runs", "auto")
    spot, _ = groups()
    assert given.grow == machines(f"{spot['maxReplicas']}:8:1")


def test_the_job_brings_the_same_cluster() -> None:
    (document,) = documents("rayjob.yaml")
    assert document["spec"]["rayClusterSpec"] == cluster()


def test_the_shared_disk_is_the_one_that_is_mounted_and_can_be_shared() -> None:
    claim, policy = documents("storage.yaml")
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    volumes = [volume for part in groups() for volume in part["template"]["spec"]["volumes"]]
    claims = {volume["persistentVolumeClaim"]["claimName"] for volume in volumes if volume["name"] == "shared"}
    assert claims == {claim["metadata"]["name"]}
    labels = {str(part["template"]["metadata"]["labels"]) for part in (cluster()["headGroupSpec"], *groups())}
    assert labels == {str(policy["spec"]["podSelector"]["matchLabels"])}
    assert policy["spec"]["policyTypes"] == ["Ingress"]


def test_prometheus_finds_the_port_that_the_pods_show_metrics_on() -> None:
    (monitor,) = documents("podmonitor.yaml")
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    for part in (cluster()["headGroupSpec"], *groups()):
        (container,) = part["template"]["spec"]["containers"]
        ports = {port["name"]: port["containerPort"] for port in container["ports"]}
        assert str(ports[endpoint["port"]]) == part["rayStartParams"]["metrics-export-port"]
        assert part["template"]["metadata"]["labels"] == monitor["spec"]["selector"]["matchLabels"]


def test_mlflow_asks_for_users_answers_to_its_names_and_holds_no_secret() -> None:
    (values,) = documents("mlflow-values.yaml")
    options = values["server"]["value_options"]
    assert options["app_name"] == "basic-auth"
    assert "*" not in options["allowed_hosts"]
    assert values["service"]["type"] == "ClusterIP"
    assert set(values["mlflow"]) == {"backendStoreUriFrom", "artifactsDestination"}
    assert all(set(entry) == {"name", "valueFrom"} for entry in values["env"])
    # The head reaches it under a name that it answers to.
    (head,) = cluster()["headGroupSpec"]["template"]["spec"]["containers"]
    address = next(entry["value"] for entry in head["env"] if entry["name"] == "MLFLOW_TRACKING_URI")
    assert address.removeprefix("http://") in options["allowed_hosts"].split(",")
