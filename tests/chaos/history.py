"""What must hold of a sweep however it was disturbed, checked against the diary that its processes kept.

    I1  no acknowledged DONE is lost
    I2  no trial that is DONE is executed again, nor acknowledged twice; no stage is computed twice
    I3  ledger, Optuna, MLflow and the tables agree on how many trials are done, on their values and on the best
    I4  the best is that of the undisturbed sweep

In the manner of Jepsen: clients note what was acknowledged to them, something disturbs them, a checker compares.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

START, STAGE, DONE = "START", "STAGE", "DONE"


@dataclass(frozen=True)
class Event:
    """One line of a diary; see trainables/event_log.py. sequence: its place, from 1."""

    sequence: int
    event: str
    key: str
    pid: int


@dataclass(frozen=True)
class View:
    """What one store says. done: trial or setting -> the objective's value; best: which of them, None if none."""

    name: str
    done: Mapping[str, float]
    best: str | None


def read(path: Path) -> list[Event]:
    """A diary's events in their order. A last line without an end was never acknowledged, and is left out."""
    lines = path.read_bytes().split(b"\n") if path.exists() else [b""]
    found = [json.loads(line) for line in lines[:-1]]
    return [Event(number, row["event"], row["key"], row["pid"]) for number, row in enumerate(found, 1)]


def lost(events: Sequence[Event], ledger_done: Sequence[str]) -> list[str]:
    """I1: what was acknowledged as DONE and is not DONE in the ledger."""
    kept = set(ledger_done)
    return [
        f"I1: {each.key}: DONE was acknowledged ({each.sequence}), and the ledger does not have it"
        for each in events
        if each.event == DONE and each.key not in kept
    ]


def repeated(events: Sequence[Event]) -> list[str]:
    """I2: trials that start or end after their DONE, and stages that were published twice."""
    ended: dict[tuple[str, str], int] = {}
    found = []
    for each in events:
        kind = STAGE if each.event == STAGE else DONE
        before = ended.get((kind, each.key))
        if before is not None:
            found.append(f"I2: {each.key}: {each.event} ({each.sequence}) after its {kind} ({before})")
        if each.event != START:
            ended.setdefault((kind, each.key), each.sequence)
    return found


def disagreements(views: Sequence[View]) -> list[str]:
    """I3: what the other views say otherwise than the first."""
    found = []
    first = views[0]
    for other in views[1:]:
        if len(other.done) != len(first.done):
            found.append(f"I3: {first.name} has {len(first.done)} done, {other.name} has {len(other.done)}")
        for key in sorted(first.done.keys() | other.done.keys()):
            mine, theirs = first.done.get(key), other.done.get(key)
            if mine is None or theirs is None or abs(mine - theirs) > 1e-9 * max(1.0, abs(mine)):
                found.append(f"I3: {key}: {first.name} says {mine}, {other.name} says {theirs}")
        if other.best != first.best:
            found.append(f"I3: the best is {first.best} in {first.name}, and {other.best} in {other.name}")
    return found


def deviations(view: View, undisturbed: View) -> list[str]:
    """I4: how the best, and the values it was chosen by, differ from those of the undisturbed sweep."""
    found = []
    if view.best != undisturbed.best:
        found.append(f"I4: the best is {view.best}, undisturbed it is {undisturbed.best}")
    changed = {key for key in view.done.keys() & undisturbed.done.keys() if view.done[key] != undisturbed.done[key]}
    return found + [f"I4: {key} is {view.done[key]}, undisturbed {undisturbed.done[key]}" for key in sorted(changed)]
