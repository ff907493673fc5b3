"""Dashboards and alert rules name only metrics that somebody shows."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.dashboard.modules.reporter.reporter_agent import METRICS_GAUGES

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "infra" / "monitoring"
DASHBOARDS = sorted((FOLDER / "dashboards").glob("*.json"))
METRIC = re.compile(r"\bray_\w+")


def shown() -> set[str]:
    """What the code shows, as Prometheus sees it: Ray writes its name before, and adds _total to a counter."""
    text = (ROOT / "trainables" / "prometheus.py").read_text()
    own = re.findall(r'\b(Gauge|Counter)\(\s*"(\w+)"', text)
    assert len(own) >= 5
    return {f"ray_{name}" + ("_total" if kind == "Counter" else "") for kind, name in own} | {
        f"ray_{name}" for name in METRICS_GAUGES
    }


def panels() -> list[dict[str, Any]]:
    return [panel for path in DASHBOARDS for panel in json.loads(path.read_text())["panels"]]


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load((FOLDER / "alerts.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def test_every_panel_draws_metrics_that_the_code_shows() -> None:
    assert panels()
    known = shown()
    for panel in panels():
        assert panel["targets"], panel["title"]
        for target in panel["targets"]:
            named = set(METRIC.findall(target["expr"]))
            assert named, panel["title"]
            assert named <= known, panel["title"]


def test_trials_gpus_search_and_cache_all_have_a_panel() -> None:
    drawn = {name for panel in panels() for target in panel["targets"] for name in METRIC.findall(target["expr"])}
    own = {name for name in shown() if name.startswith("ray_clustersweep")}
    assert own <= drawn
    assert "ray_node_gpus_utilization" in drawn


def test_panels_have_numbers_of_their_own_and_do_not_overlap() -> None:
    for path in DASHBOARDS:
        found = json.loads(path.read_text())["panels"]
        assert len({panel["id"] for panel in found}) == len(found)
        cells = [
            (x, y)
            for panel in found
            for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
            for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
        ]
        assert len(set(cells)) == len(cells)
        assert max(x for x, _ in cells) < 24


def test_every_alert_watches_metrics_that_the_code_shows_and_says_what_to_do() -> None:
    assert rules()
    for rule in rules():
        named = set(METRIC.findall(rule["expr"]))
        assert named <= shown(), rule["alert"]
        assert named or "up{" in rule["expr"], rule["alert"]
        assert set(rule["annotations"]) == {"summary", "description"}
        assert rule["labels"]["severity"] in ("warning", "critical")


def test_the_states_in_rules_and_panels_are_states_of_trials() -> None:
    from platform.ledger.rows import ENDED, PENDING, RUNNING

    text = (FOLDER / "alerts.yml").read_text() + "".join(path.read_text() for path in DASHBOARDS)
    named = {state for group in re.findall(r'state=~?\\?"([a-z|]+)', text) for state in group.split("|")}
    assert named
    assert named <= {state.lower() for state in (PENDING, RUNNING, *ENDED)}


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool (Debian's package prometheus) is not installed")
def test_prometheus_takes_the_configuration_and_the_rules() -> None:
    done = subprocess.run(
        ["promtool", "check", "config", str(FOLDER / "prometheus.yml")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(rules())} rules found" in done.stdout
