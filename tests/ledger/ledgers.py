"""A ledger's rows for tests: a launch, its trials and how to look at one."""

from platform.ledger.ledger import Ledger
from platform.ledger.rows import Trial
from typing import Any

MEANING = {"method": "spc"}


def trial_spec(seed: int = 0) -> dict[str, Any]:
    return {"kind": "trial", "seed": seed}


def opened(ledger: Ledger, study: str = "spc", *, fresh: bool = False, meaning: Any = MEANING) -> int:
    return ledger.open_launch(study, meaning, {"name": study}, lookahead=2, fresh=fresh).id


def entered(ledger: Ledger, launch: int, *keys: str) -> None:
    """Trials of setting 0, one for each seed."""
    ledger.add_trials(launch, [(key, trial_spec(seed)) for seed, key in enumerate(keys)], configuration=0)


def of(ledger: Ledger, launch: int, key: str = "a") -> Trial:
    trial = ledger.trial(launch, key)
    assert trial is not None
    return trial
