"""What a training step costs a GPU grows by nothing that nobody looked at."""

import pytest

from tests.pretend_gpu.budgets import STEPS, measured, written
from trainables import pipeline, registry, settings

MOST_WAITS = 1
GROWTH = 1.1


@pytest.mark.parametrize("name", STEPS)
def test_a_step_keeps_to_its_budget(name: str) -> None:
    operations, waits = measured(STEPS[name])
    assert waits <= max(MOST_WAITS, written()[name]["waits"]), (
        f"python -m tests.pretend_gpu.budgets --places '{name}' shows where the host waits"
    )
    assert operations <= GROWTH * written()[name]["operations"], (
        f"python -m tests.pretend_gpu.budgets --places '{name}' shows what is launched; without an argument it writes"
        " the budgets anew, if more operations are worth it"
    )


def test_every_stage_that_trains_has_a_budget() -> None:
    trained = {name for name in registry.names() if "epochs" in settings.rules(pipeline.load(name).Config)}
    assert {step.stage for step in STEPS.values()} == trained - {"spc"}  # which images it trains on, values decide
    assert set(written()) == set(STEPS)
