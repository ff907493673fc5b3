"""The tracking server's compose file by the rules of the compose specification, and by Docker where there is one."""

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

INFRA = Path(__file__).resolve().parents[2] / "infra"
FILE = INFRA / "compose.yaml"
SECRETS = {"POSTGRES_PASSWORD", "S3_USER", "S3_PASSWORD", "MLFLOW_ADMIN_PASSWORD", "MLFLOW_SECRET_KEY"}
SERVICE = {
    *("image", "build", "restart", "command", "entrypoint", "environment", "ports", "volumes"),
    *("depends_on", "healthcheck", "networks"),
}


@pytest.fixture
def page() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(FILE.read_text())
    return loaded


def has_compose() -> bool:
    docker = shutil.which("docker")
    return bool(docker) and subprocess.run([str(docker), "compose", "version"], capture_output=True).returncode == 0


def test_services_have_only_keys_of_the_specification_and_what_they_name_exists(page: dict[str, Any]) -> None:
    assert set(page) == {"name", "services", "volumes", "networks"}
    for service in page["services"].values():
        assert set(service) <= SERVICE
        assert set(service["networks"]) <= set(page["networks"])
        assert {mount.split(":")[0] for mount in service.get("volumes", [])} <= set(page["volumes"])
    mounted = [mount.split(":")[0] for service in page["services"].values() for mount in service.get("volumes", [])]
    assert sorted(mounted) == sorted(page["volumes"])


def test_each_service_waits_until_the_one_below_it_is_healthy(page: dict[str, Any]) -> None:
    services = page["services"]
    waits = {name: service.get("depends_on", {}) for name, service in services.items()}
    assert waits["mlflow"] == {
        "postgres": {"condition": "service_healthy"},
        "bucket": {"condition": "service_completed_successfully"},
    }
    assert waits["bucket"] == {"minio": {"condition": "service_healthy"}}
    for needed in waits.values():
        for name, how in needed.items():
            assert ("healthcheck" in services[name]) == (how["condition"] == "service_healthy")
    for name in ("postgres", "minio", "mlflow"):
        assert services[name]["healthcheck"]["test"][0] in ("CMD", "CMD-SHELL")


def test_no_secret_has_a_default_and_each_is_asked_for_by_name(page: dict[str, Any]) -> None:
    text = FILE.read_text()
    used = re.findall(r"(?<!\$)\$\{(\w+)(:[-?])?", text)
    assert {name for name, how in used if how == ":?"} == SECRETS
    assert {name for name, how in used if how != ":?"} == {"MLFLOW_ALLOWED_HOSTS", "MLFLOW_PORT", "POSTGRES_PORT"}
    for service in page["services"].values():
        for name, value in service.get("environment", {}).items():
            if re.search(r"PASSWORD|SECRET|KEY|URI", name):
                assert "${" in value, name


def test_the_example_names_every_secret_and_gives_none() -> None:
    lines = [line for line in (INFRA / "compose.env.example").read_text().splitlines() if line and line[0] != "#"]
    assert {line.removesuffix("=") for line in lines} == SECRETS
    assert "/infra/compose.env" in (INFRA.parent / ".gitignore").read_text().splitlines()


def test_only_mlflow_and_the_ledgers_database_are_published_and_on_this_machine_alone(page: dict[str, Any]) -> None:
    published = {name: service["ports"] for name, service in page["services"].items() if "ports" in service}
    assert sorted(published) == ["mlflow", "postgres"]
    assert all(port.startswith("127.0.0.1:") for ports in published.values() for port in ports)
    assert page["networks"]["inside"] == {"internal": True}


def test_mlflow_asks_for_users_and_answers_to_named_hosts_alone(page: dict[str, Any]) -> None:
    command = page["services"]["mlflow"]["command"]
    assert "--app-name=basic-auth" in command
    (hosts,) = [word for word in command if word.startswith("--allowed-hosts=")]
    assert "*" not in hosts
    assert not any(word.startswith(("--gunicorn-opts", "--waitress-opts")) for word in command)


def test_images_are_pinned(page: dict[str, Any]) -> None:
    for name, service in page["services"].items():
        tag = service["image"].rpartition(":")[2]
        assert tag not in ("latest", service["image"]), name


@pytest.mark.skipif(not has_compose(), reason="docker compose is not installed")
def test_docker_reads_it_and_refuses_it_without_the_secrets() -> None:
    bare = {name: value for name, value in os.environ.items() if name not in SECRETS}
    command = ["docker", "compose", "-f", str(FILE), "config", "--quiet"]
    refused = subprocess.run(command, env=bare, capture_output=True, text=True, check=False)
    assert refused.returncode != 0
    assert "set it in infra/compose.env" in refused.stderr
    filled = bare | dict.fromkeys(SECRETS, "abc")
    assert subprocess.run(command, env=filled, check=False).returncode == 0
