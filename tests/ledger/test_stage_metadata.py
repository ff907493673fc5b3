import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from platform.ledger import stage_metadata
from platform.ledger.ledger import Ledger
from platform.ledger.rows import Configuration

import pytest

from trainables.runner.messages import StageRecord

ROOT = Path(__file__).resolve().parents[2]
LOOK = """
import sys
from platform import report
assert report.main(["spc", "--storage", sys.argv[1]]) == 0
print("torch" in sys.modules, file=sys.stderr)
"""


@pytest.fixture(autouse=True)
def forget(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(stage_metadata, "_known", {})
    yield


def _recorded(*probes: str) -> dict[str, object]:
    recorded: dict[str, object] = json.loads(json.dumps(stage_metadata.record("spc", "simclr", probes)))
    return recorded


def test_what_is_noted_is_what_the_stages_say() -> None:
    asked = stage_metadata.of("spc", "simclr")
    stage_metadata._known.clear()
    stage_metadata.remember({"method": "spc", "pretext": "simclr"}, {"stage_metadata": _recorded()})
    assert stage_metadata.of("spc", "simclr") == asked
    delta = next(setting for setting in asked.settings if setting.name == "spc.strong_threshold")
    assert (delta.symbol, delta.unit, delta.default) == ("δ", "as a probability", 0.95)
    assert ("spc/selection_loss", "min") in asked.criteria


def test_a_launch_keeps_the_symbols_it_was_run_with() -> None:
    recorded = {"settings": [["spc.strong_threshold", "τ", "", 0.9]], "criteria": []}
    stage_metadata.remember({"method": "spc", "pretext": "simclr"}, {"stage_metadata": recorded})
    assert stage_metadata.of("spc", "simclr").settings[0].symbol == "τ"


def test_probes_have_settings_of_their_own_where_they_are_asked_for() -> None:
    alone, probed = stage_metadata.of("spc", "simclr"), stage_metadata.of("spc", "simclr", ("linear_probe",))
    assert len(probed.settings) > len(alone.settings)
    stage_metadata._known.clear()
    told = {"method": "spc", "pretext": "simclr", "probes": ["linear_probe"]}
    stage_metadata.remember(told, {"stage_metadata": _recorded("linear_probe")})
    assert (stage_metadata.of("spc", "simclr"), stage_metadata.of("spc", "simclr", ("linear_probe",))) == (
        alone,
        probed,
    )


def test_an_unknown_method_is_refused() -> None:
    with pytest.raises(KeyError):
        stage_metadata.of("scann")


def test_a_report_of_such_a_launch_loads_no_torch(tmp_path: Path) -> None:
    resolved = {
        "name": "spc", "method": "spc", "pretext": "simclr", "dataset": {"name": "digits"}, "seeds": [0], "fixed": {},
        "search": {"spc.graph_neighbors": {"int": [5, 50]}}, "ablate": {},
        "objective": {"metric": "spc/selection_loss", "mode": "min"},
    }  # fmt: skip
    ledger = Ledger(tmp_path / "ledger.db")
    launch = ledger.open_launch("spc", {}, resolved, lookahead=2, facts={"stage_metadata": _recorded()})
    for number in range(12):
        ledger.add_configuration(launch.id, Configuration(number, "", {"spc.graph_neighbors": 5 + number}))
        ledger.add_trials(launch.id, [(str(number), {"kind": "trial", "seed": 0})], configuration=number)
        stages = [StageRecord("spc", "spc", "a1", cached=False, seconds=1.0)]
        ledger.finish(launch.id, str(number), {"spc/selection_loss": 0.1 * number, "acc": 0.5}, stages, 1.0)
    ledger.close()
    command = [sys.executable, "-c", LOOK, str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stderr.splitlines()[-1] == "False"
