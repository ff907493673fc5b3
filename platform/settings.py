"""``python -m platform.settings [METHOD]``: what can be set, and to what.

Without a method every stage is shown. ``--markdown`` writes docs/settings.md (``make docs``).

Exit codes: 0 done, 2 there is no such method.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass

from trainables import pipeline, registry, settings
from trainables.interfaces import Stage
from trainables.settings import Plain, Rule

from .console import OK, WRONG, leave
from .study.errors import did_you_mean

_INTRODUCTION = """\
# Settings

Made by `make docs` from the stages themselves; `python -m platform.settings METHOD` prints those of one method.
A study file names a setting by its slot and its name, such as `scan.an.top_k`, under `fixed`, `grid`, `search` or
`ablate`. Each section below is one stage; where several fit into one slot, a study chooses one.
"""
_COLUMNS = ("setting", "default", "values", "unit", "symbol", "meaning", "counts only while")


@dataclass(frozen=True)
class Setting:
    """One setting of a stage.

    name: full, "<slot>.<name>". values: what it may be, in words. choices: empty where it is a range. unit, symbol:
    empty where it has none. when: the settings (full names) and values under which alone it counts. oracle: values with
    which the stage trains on labels.
    """

    name: str
    default: Plain
    type: str
    values: str
    low: float | None
    high: float | None
    above: float | None
    below: float | None
    choices: tuple[Plain, ...]
    unit: str
    symbol: str
    meaning: str
    when: Mapping[str, tuple[Plain, ...]]
    oracle: tuple[Plain, ...]


@dataclass(frozen=True)
class Section:
    """The settings of one stage in the order of their declaration."""

    stage: str
    slot: str
    settings: tuple[Setting, ...]


def parser() -> argparse.ArgumentParser:
    parse = argparse.ArgumentParser(
        prog="python -m platform.settings",
        description="Print each setting of a method: default, values, unit, symbol, meaning, and when it counts.",
    )
    add = parse.add_argument
    add("method", metavar="METHOD", nargs="?", default="", help="a method, or a single stage (default: every stage)")
    form = parse.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="one JSON object as the only line on stdout")
    form.add_argument("--markdown", action="store_true", help="tables, as in docs/settings.md")
    return parse


def main(arguments: Sequence[str] | None = None) -> int:
    given = parser().parse_args(arguments)
    known = list(dict.fromkeys([*pipeline.METHODS, *stage_names()]))
    if given.method and given.method not in known:
        print(f"method {given.method!r} does not exist. {did_you_mean(given.method, known)}", file=sys.stderr)
        return WRONG
    sections = sections_of(given.method)
    if given.json:
        print(json.dumps({"stages": [asdict(section) for section in sections]}, allow_nan=False))
    else:
        print("\n".join(markdown(sections) if given.markdown else text(sections)))
    return OK


def stage_names() -> list[str]:
    """Every stage: those of the methods in their order, then the pretexts and probes, then the rest by name."""
    of_methods = [name for names in pipeline.METHODS.values() for name in names]
    return list(dict.fromkeys([*of_methods, *registry.pretexts(), *registry.probes(), *registry.names()]))


def sections_of(method: str) -> list[Section]:
    """What a method's stages are set by, or a stage that is no method's name; every stage if ``method`` is empty."""
    stages = list(pipeline.stages(method).values()) if method in pipeline.METHODS else []
    stages = stages or [pipeline.load(name) for name in ([method] if method else stage_names())]
    return [Section(pipeline.name_of(stage), stage.NAMESPACE, tuple(_settings(stage))) for stage in stages]


def _settings(stage: Stage) -> Iterator[Setting]:
    slot, defaults = stage.NAMESPACE, settings.defaults(stage.Config)
    for name, rule in settings.rules(stage.Config).items():
        kind = settings.kind_of(stage.Config, name)
        yield Setting(
            name=f"{slot}.{name}",
            default=defaults[name],
            type=kind.__name__,
            values=_values(kind, rule),
            low=rule.low,
            high=rule.high,
            above=rule.above,
            below=rule.below,
            choices=rule.choices,
            unit=rule.unit,
            symbol=rule.symbol,
            meaning=rule.meaning,
            when={f"{slot}.{other}": values for other, values in rule.when.items()},
            oracle=rule.oracle,
        )


def _values(kind: type[Plain], rule: Rule) -> str:
    if rule.choices:
        return ", ".join(map(written, rule.choices))
    if kind is bool:
        return "true or false"
    if kind is str:
        return "text"
    limits, word = rule.words(), "a whole number" if kind is int else "a number"
    return word if limits == "finite" else f"{word}, {limits}"


def written(value: Plain) -> str:
    """A value as a study file has it."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if value != "" else '""'


def _condition(setting: Setting) -> str:
    return " and ".join(f"{name} is {' or '.join(map(written, values))}" for name, values in setting.when.items())


def _meaning(setting: Setting) -> str:
    trains = f" ({' or '.join(map(written, setting.oracle))} trains on labels)" if setting.oracle else ""
    return setting.meaning + trains


def text(sections: Sequence[Section]) -> Iterator[str]:
    """The settings as lines of plain text: name, default and values, and below them what the setting means."""
    for number, section in enumerate(sections):
        yield from [""] if number else []
        yield _title(section)
        for setting in section.settings:
            unit = f" [{setting.unit}]" if setting.unit else ""
            symbol = f" ({setting.symbol})" if setting.symbol else ""
            yield f"  {setting.name}{symbol}: {written(setting.default)}{unit}   {setting.values}"
            yield f"      {_meaning(setting)}"
            if setting.when:
                yield f"      counts only while {_condition(setting)}"


def _title(section: Section) -> str:
    return section.stage if section.stage == section.slot else f"{section.stage} (slot {section.slot})"


def markdown(sections: Sequence[Section]) -> Iterator[str]:
    """The settings as tables, one for each stage."""
    yield _INTRODUCTION
    for number, section in enumerate(sections):
        yield from [""] if number else []
        yield f"## {_title(section)}\n"
        yield _row(_COLUMNS)
        yield _row(["---"] * len(_COLUMNS))
        for each in section.settings:
            name, default = f"`{each.name}`", f"`{written(each.default)}`"
            yield _row((name, default, each.values, each.unit, each.symbol, _meaning(each), _condition(each)))


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


if __name__ == "__main__":
    leave(main)
