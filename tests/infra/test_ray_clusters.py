"""The cluster files, as Ray itself reads them: its schema, its defaults, its autoscaler."""

import copy
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.autoscaler.v2.instance_manager.config import AutoscalingConfig

INFRA = Path(__file__).resolve().parents[2] / "infra"
FILES = sorted((INFRA / "ray").glob("*.yaml"))


@pytest.fixture(params=FILES, ids=lambda path: path.stem)
def config(request: pytest.FixtureRequest) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(request.param.read_text())
    return loaded


def test_there_is_a_file_for_each_of_three_clouds() -> None:
    assert [path.stem for path in FILES] == ["aws", "azure", "gcp"]
    assert [yaml.safe_load(path.read_text())["provider"]["type"] for path in FILES] == ["aws", "azure", "gcp"]


def test_rays_own_schema_and_defaults_take_it(config: dict[str, Any]) -> None:
    prepared = prepare_config(copy.deepcopy(config))
    validate_config(prepared)
    assert set(prepared["available_node_types"]) == {"head", "gpu_spot", "gpu_on_demand"}


def test_rays_schema_refuses_a_key_that_it_does_not_know(config: dict[str, Any]) -> None:
    # That the check above can fail.
    with pytest.raises(Exception, match="idle_timeout"):
        validate_config(prepare_config(config | {"idle_timeout": 10}))


def test_machines_come_with_the_work_and_go_without_it(config: dict[str, Any]) -> None:
    workers = [kind for name, kind in config["available_node_types"].items() if name != config["head_node_type"]]
    assert [kind["min_workers"] for kind in workers] == [0, 0]
    assert 1 <= config["idle_timeout_minutes"] <= 30
    assert config["max_workers"] >= max(kind["max_workers"] for kind in workers)
    assert config["available_node_types"]["head"]["resources"] == {"CPU": 0}


def test_spot_comes_first_and_the_same_machine_on_demand_is_its_fallback(config: dict[str, Any]) -> None:
    # The autoscaler decides by use, by recent failure, and then by priority: with equal resources, failure decides
    # before priority does.
    # Keys for SSH are read to see whether a machine has changed; there are none here.
    without_keys = copy.deepcopy(config) | {"auth": {"ssh_user": config["auth"]["ssh_user"]}}
    kinds = AutoscalingConfig(prepare_config(without_keys), skip_content_hash=True).get_node_type_configs()
    spot, fallback = kinds["gpu_spot"], kinds["gpu_on_demand"]
    assert spot.priority > fallback.priority
    assert spot.resources == fallback.resources
    assert spot.resources["GPU"] == 1
    given = config["available_node_types"]
    is_spot = re.compile(r"spot", re.IGNORECASE)
    assert is_spot.search(str(given["gpu_spot"]["node_config"]))
    assert not is_spot.search(str(given["gpu_on_demand"]["node_config"]))


def test_every_start_asks_for_the_token_and_the_dashboard_is_on_loopback(config: dict[str, Any]) -> None:
    commands = config["head_start_ray_commands"] + config["worker_start_ray_commands"]
    starts = [command for command in commands if "ray start" in command]
    assert len(starts) == 2
    assert all(command.startswith("RAY_AUTH_MODE=token ray start ") for command in starts)
    assert "--dashboard-host=127.0.0.1" in starts[0]
    assert "0.0.0.0" not in str(config)
    assert config["file_mounts"] == {"~/.ray/auth_token": "~/.ray/auth_token"}
    assert "chmod 700 ~/.ray && chmod 600 ~/.ray/auth_token" in config["setup_commands"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_command_on_top_says_what_the_autoscaler_may_add(path: Path) -> None:
    spot = yaml.safe_load(path.read_text())["available_node_types"]["gpu_spot"]
    machines = f"{spot['max_workers']}:{spot['resources']['CPU']}:{spot['resources']['GPU']}"
    assert f"--grow {machines}\n" in path.read_text()


def test_the_metrics_port_is_the_same_on_every_node(config: dict[str, Any]) -> None:
    commands = config["head_start_ray_commands"] + config["worker_start_ray_commands"]
    assert [command.count("--metrics-export-port=8080") for command in commands if "ray start" in command] == [1, 1]
