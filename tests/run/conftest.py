"""A study file and its launch in a ledger, without Ray."""

import textwrap
from collections.abc import Callable
from pathlib import Path
from platform.ledger.ledger import Ledger
from platform.ledger.rows import Launch
from platform.run.trial_queue import TrialQueue
from platform.study.plan import shared_parts
from platform.study.study import Study, load_study

import pytest

MakeStudy = Callable[[str], Study]


@pytest.fixture
def make_study(tmp_path: Path) -> MakeStudy:
    """make_study(text): the study of a page."""

    def made(text: str) -> Study:
        path = tmp_path / "page.yaml"
        path.write_text(textwrap.dedent(text))
        return load_study(path)

    return made


@pytest.fixture
def make_board(tmp_path: Path) -> Callable[..., TrialQueue]:
    """make_board(study, name="l.db", lookahead=3): the study's board over its ledger, as a new driver would open it."""

    def made(study: Study, name: str = "l.db", lookahead: int = 3) -> TrialQueue:
        ledger = Ledger(tmp_path / name)
        launch: Launch = ledger.open_launch(study.name, {}, {}, lookahead=lookahead)
        shared = shared_parts(study)
        return TrialQueue(
            ledger, launch, study, fingerprints={"fingerprint": "f"}, shared=shared, storage=str(tmp_path)
        )

    return made
