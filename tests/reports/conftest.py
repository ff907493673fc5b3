"""Ledgers written by hand: a launch of SPC with the settings, seeds and numbers that a test names."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from platform.ledger.ledger import Ledger
from platform.ledger.rows import Configuration, Launch
from typing import Any

import pytest

DELTA, K2 = "spc.strong_threshold", "spc.graph_neighbors"


class Book:
    """A ledger with one launch."""

    def __init__(self, storage: Path, name: str, changes: Mapping[str, Any]) -> None:
        self.storage, self.ledger = storage, Ledger(storage / "ledger.db")
        resolved = {
            "name": name,
            "question": "Does the threshold matter?",
            "method": "spc",
            "pretext": "simclr",
            "dataset": {"name": "digits", "protocol": "union"},
            "seeds": [0, 1, 2],
            "fixed": {},
            "search": {},
            "ablate": {},
            "objective": {"metric": "spc/selection_loss", "mode": "min"},
            "oracle": False,
            "published": {},
        } | dict(changes)
        facts = {"commit": "0123456789abcdef", "dirty": True, "versions": {"torch": "2.15", "ray": "2.60"}}
        self.launch: Launch = self.ledger.open_launch(name, {}, resolved, lookahead=2, facts=facts)

    def configuration(
        self, number: int, cells: Mapping[int, Mapping[str, float] | str | None], params: Any = None, variant: str = ""
    ) -> None:
        """cells: seed -> the metrics of a finished trial, the error of a failed one, None for a waiting one."""
        self.ledger.add_setting(self.launch.id, Configuration(number, variant, params or {}))
        for seed, outcome in cells.items():
            key = f"{self.launch.id}-{number}-{seed}"
            self.ledger.add_trials(self.launch.id, [(key, {"kind": "trial", "seed": seed})], configuration=number)
            self._end(key, outcome, [stage("pretext", "simclr", True), stage("spc", "spc", False)])

    def prepare(
        self, seed: int, outcome: Mapping[str, float] | str | None, cached: bool = False, pretext: str = "simclr"
    ) -> None:
        key = f"{self.launch.id}-prepare-{seed}-{pretext}"
        self.ledger.add_trials(self.launch.id, [(key, {"kind": "prepare", "seed": seed})])
        self._end(key, outcome, [stage("pretext", pretext, cached)])

    def _end(self, key: str, outcome: Mapping[str, float] | str | None, stages: list[dict[str, Any]]) -> None:
        if isinstance(outcome, str):
            self.ledger.fail(self.launch.id, key, outcome)
        elif outcome is not None:
            self.ledger.finish(self.launch.id, key, outcome, stages, 2.0)


def stage(slot: str, name: str, cached: bool) -> dict[str, Any]:
    return {"slot": slot, "name": name, "address": "a" * 16, "cached": cached, "seconds": 1.5}


def scores(loss: float, acc: float) -> dict[str, float]:
    return {"spc/selection_loss": loss, "spc/acc": acc, "acc": acc}


@pytest.fixture
def book(tmp_path: Path) -> Iterator[Any]:
    """Makes a Book: ``book(name="spc", seeds=[0], ...)``; the keywords replace keys of the resolved study."""
    books: list[Book] = []

    def make(name: str = "spc", **changes: Any) -> Book:
        books.append(Book(tmp_path, name, changes))
        return books[-1]

    yield make
    for each in books:
        each.ledger.close()


@pytest.fixture
def sweep(book: Any) -> Book:
    """Three settings of δ: 0.9 is best by the objective, 0.95 by accuracy; 0.98 has failed once and waits once."""
    made: Book = book(search={DELTA: {"choice": [0.9, 0.95, 0.98]}})
    made.prepare(0, {}, cached=True)
    made.configuration(0, {0: scores(-2.0, 0.9), 1: scores(-4.0, 0.8), 2: scores(-3.0, 0.7)}, {DELTA: 0.9})
    made.configuration(1, {seed: scores(-1.0, 0.9) for seed in (0, 1, 2)}, {DELTA: 0.95})
    made.configuration(2, {0: scores(-0.5, 0.2), 1: "Diverged: spc: loss is nan\nlower it", 2: None}, {DELTA: 0.98})
    return made


@pytest.fixture
def ablation(book: Any) -> Book:
    rows = {
        "without": {"spc.refine": False, "published": {"acc": 80.60}},
        "with": {"published": {"acc": 88.5, "nmi": 0.7}},
    }
    made: Book = book(name="ablation", ablate=rows, seeds=[0, 1])
    made.configuration(0, {0: scores(-1.0, 0.81), 1: scores(-1.0, 0.83)}, {"spc.refine": False}, "without")
    made.configuration(1, {0: scores(-2.0, 0.9), 1: "MemoryError: none left"}, {}, "with")
    return made
