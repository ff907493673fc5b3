"""What a report must know of a pipeline's stages: symbols, units and defaults of settings, and label-free criteria.

A launch records it in the ledger. So its report needs no stage to be loaded (and no torch, which is most of what a
report would load), and an older launch keeps the symbols it was run with. For any other launch the stages are asked.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trainables import pipeline, settings
from trainables.label_metrics import PROBE_SUFFIX

from ..study.resolved_types import Mode, Resolved

FACT = "stage_metadata"
"""Where it stands among a launch's facts."""


@dataclass(frozen=True)
class Setting:
    """One setting. name: full, "<slot>.<name>". symbol: the paper's, or else the short name."""

    name: str
    symbol: str
    unit: str
    default: settings.Plain


@dataclass(frozen=True)
class StageMetadata:
    """settings: in the order of the pipeline. criteria: (full metric name, "min" or "max") by stage."""

    settings: tuple[Setting, ...]
    criteria: tuple[tuple[str, Mode], ...]


_known: dict[tuple[str, str, tuple[str, ...]], StageMetadata] = {}


def of(method: str, pretext: str = "", probes: Sequence[str] = ()) -> StageMetadata:
    """The metadata of a pipeline: as ``remember`` has read it, or else asked of its stages.

    Raises:
        KeyError: the method is not in ``pipeline.METHODS``.
    """
    key = (method, pretext, tuple(probes))
    if key not in _known:
        _known[key] = _asked(*key)
    return _known[key]


def remember(resolved: Resolved, facts: Mapping[str, Any]) -> None:
    """Take over what a launch has recorded, for ``of``; nothing if it has recorded nothing."""
    if FACT not in facts:
        return
    recorded = StageMetadata(
        tuple(Setting(name, symbol, unit, default) for name, symbol, unit, default in facts[FACT]["settings"]),
        tuple((name, mode) for name, mode in facts[FACT]["criteria"]),
    )
    method, pretext = resolved["method"], resolved.get("pretext", "")
    _known[method, pretext, tuple(resolved.get("probes", ()))] = recorded
    # Labels are asked for without the probes.
    _known[method, pretext, ()] = StageMetadata(
        tuple(setting for setting in recorded.settings if not _is_of_probe(setting.name)),
        tuple(criterion for criterion in recorded.criteria if not _is_of_probe(criterion[0])),
    )


def record(method: str, pretext: str, probes: Sequence[str]) -> dict[str, Any]:
    """What ``remember`` reads, fit for JSON."""
    asked = _asked(method, pretext, tuple(probes))
    return {
        "settings": [[setting.name, setting.symbol, setting.unit, setting.default] for setting in asked.settings],
        "criteria": [list(criterion) for criterion in asked.criteria],
    }


def _is_of_probe(name: str) -> bool:
    return name.partition(".")[0].partition("/")[0].endswith(PROBE_SUFFIX)


def _asked(method: str, pretext: str, probes: tuple[str, ...]) -> StageMetadata:
    declared, criteria = [], []
    for slot, stage in pipeline.stages(method, pretext, probes).items():
        defaults = settings.defaults(stage.Config)
        for name, rule in settings.rules(stage.Config).items():
            declared.append(Setting(f"{slot}.{name}", rule.symbol or name, rule.unit, defaults[name]))
        if stage.CRITERION is not None:
            criteria.append((f"{slot}/{stage.CRITERION[0]}", stage.CRITERION[1]))
    return StageMetadata(tuple(declared), tuple(criteria))
