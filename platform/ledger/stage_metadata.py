"""What a report must know of a pipeline's stages: symbols, units and defaults of settings, and label-free criteria.

A launch notes it in the ledger. So a report of it needs no stage to be loaded (and no torch, which is most of what a
report would load), and an older launch keeps the words it was run with. For any other launch the stages are asked.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trainables import pipeline, settings
from trainables.label_metrics import PROBE_SUFFIX

FACT = "vocabulary"
"""Where it stands among a launch's facts."""


@dataclass(frozen=True)
class Word:
    """One setting. name: full, "<slot>.<name>"."""

    name: str
    symbol: str
    unit: str
    default: settings.Plain


@dataclass(frozen=True)
class Vocabulary:
    """words: every setting in the order of the pipeline. criteria: (full metric name, "min" or "max") by stage."""

    words: tuple[Word, ...]
    criteria: tuple[tuple[str, str], ...]


_known: dict[tuple[str, str, tuple[str, ...]], Vocabulary] = {}


def of(method: str, pretext: str = "", probes: Sequence[str] = ()) -> Vocabulary:
    """The vocabulary of a pipeline: as ``learn`` has read it, or else of its stages.

    Raises:
        KeyError: the method is not in ``pipeline.METHODS``.
    """
    key = (method, pretext, tuple(probes))
    if key not in _known:
        _known[key] = _asked(*key)
    return _known[key]


def learn(resolved: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
    """Take what a launch has noted."""
    if FACT not in facts:
        return
    found = Vocabulary(
        tuple(Word(name, symbol, unit, default) for name, symbol, unit, default in facts[FACT]["words"]),
        tuple((name, mode) for name, mode in facts[FACT]["criteria"]),
    )
    method, pretext = resolved["method"], resolved.get("pretext", "")
    _known[method, pretext, tuple(resolved.get("probes", ()))] = found
    # Labels are asked for without the probes.
    _known[method, pretext, ()] = Vocabulary(
        tuple(word for word in found.words if not _is_of_probe(word.name)),
        tuple(each for each in found.criteria if not _is_of_probe(each[0])),
    )


def noted(method: str, pretext: str, probes: Sequence[str]) -> dict[str, Any]:
    """What ``learn`` reads, fit for JSON."""
    asked = _asked(method, pretext, tuple(probes))
    return {
        "words": [[word.name, word.symbol, word.unit, word.default] for word in asked.words],
        "criteria": [list(criterion) for criterion in asked.criteria],
    }


def _is_of_probe(name: str) -> bool:
    return name.partition(".")[0].partition("/")[0].endswith(PROBE_SUFFIX)


def _asked(method: str, pretext: str, probes: tuple[str, ...]) -> Vocabulary:
    words, criteria = [], []
    for slot, stage in pipeline.stages(method, pretext, probes).items():
        defaults = settings.defaults(stage.Config)
        for name, rule in settings.rules(stage.Config).items():
            words.append(Word(f"{slot}.{name}", rule.symbol or name, rule.unit, defaults[name]))
        if stage.CRITERION is not None:
            criteria.append((f"{slot}/{stage.CRITERION[0]}", stage.CRITERION[1]))
    return Vocabulary(tuple(words), tuple(criteria))
