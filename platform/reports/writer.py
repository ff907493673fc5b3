"""The files a study leaves behind: study.yaml, trials.csv, trials.parquet, report.md, .html, .tex and figures/.

Each is written beside its place and renamed into it, so nobody ever reads half a report.
"""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from trainables.seeds import is_crossed, parts

from ..ledger.rows import Configuration, Launch, Trial
from ..study.errors import redacted
from . import figures, html, latex, markdown, yaml_writer
from .output import harmless, write_whole
from .summary import ConfigurationRow, Summary

COMPARISONS = "comparisons"
_LONGEST_NAME = 200
_ORDER = ("name", "question", "method", "pretext", "probes", "dataset", "probe_dataset", "seeds", "fixed", "search",
          "ablate", "sampler", "trials")  # fmt: skip
"""First keys of study.yaml, as a person would write them; the ledger keeps them sorted by letter."""


def write(summary: Summary, storage: Path) -> list[Path]:
    """Write a launch's files into ``storage/<study>/``; the same summary and store give the same bytes.

    Args:
        storage: the folder of the ledger and of ``stages/``.

    Returns:
        Every file written.
    """
    of_plots = figures.of_plots(summary)
    shown = [*of_plots, *figures.of_rows(summary, storage), *figures.of_best_trial(summary, storage)]
    trials = [trial for trial in summary.trials if trial.kind == "trial"]
    table = trials_csv(summary.configurations, trials)
    contents = {
        "study.yaml": study_yaml(summary.launch, summary.configurations).encode(),
        "trials.csv": table.encode(),
        "trials.parquet": trials_parquet(table),
        **{figure.path: figure.png for figure in of_plots},
        "report.md": markdown.report(summary, shown).encode(),
        "report.html": html.report(summary, shown).encode(),
        "report.tex": latex.report(summary).encode(),
    }
    return [write_whole(storage / summary.study / name, content) for name, content in contents.items()]


def write_comparison(summaries: Sequence[Summary], storage: Path) -> list[Path]:
    """Write several studies side by side into ``storage/comparisons/<study>+<study>/``.

    Returns:
        Every file written.
    """
    folder = storage / COMPARISONS / "+".join(summary.study for summary in summaries)[:_LONGEST_NAME]
    contents = {
        "comparison.md": markdown.side_by_side(summaries),
        "comparison.html": html.side_by_side(summaries),
        "comparison.tex": latex.side_by_side(summaries),
    }
    return [write_whole(folder / name, content.encode()) for name, content in contents.items()]


def study_yaml(launch: Launch, configurations: Sequence[Configuration | ConfigurationRow]) -> str:
    """The study in full; as a study file it gives the same study again."""
    resolved: dict[str, Any] = {**launch.resolved}
    rows = launch.resolved.get("ablate", {})
    numbered = [configuration.variant for configuration in configurations if configuration.variant in rows]
    resolved["ablate"] = {name: rows[name] for name in dict.fromkeys([*numbered, *rows])}
    ordered = {name: resolved[name] for name in dict.fromkeys([*_ORDER, *resolved]) if name in resolved}
    return yaml_writer.dump(ordered)


def trials_csv(configurations: Sequence[Configuration | ConfigurationRow], trials: Sequence[Trial]) -> str:
    """One row per trial, with every number as it stands in the ledger. Empty where there is none."""
    by_number = {configuration.number: configuration for configuration in configurations}
    params = sorted({name for configuration in configurations for name in configuration.params})
    metrics = sorted({name for trial in trials for name in trial.metrics}, key=lambda name: ("/" in name, name))
    slots = list(dict.fromkeys(stage.slot for trial in trials for stage in trial.stages))
    stages = [column for slot in slots for column in (f"stage.{slot}", f"cached.{slot}")]
    crossed = ["pretext_seed"] if any(is_crossed(trial.seed) for trial in trials) else []
    columns = ["id", "setting", "variant", *crossed, "seed", "status", *params, *metrics, "seconds", *stages, "error"]
    text = io.StringIO()
    table = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    table.writeheader()
    for trial in trials:
        assert trial.configuration is not None, f"trial {trial.key} has no configuration"
        table.writerow(_csv_row(trial, by_number[trial.configuration]))
    return text.getvalue()


def trials_parquet(table: str) -> bytes:
    """The same table with a type for each column: numbers as float64 or int64, the rest as text."""
    import pyarrow
    from pyarrow import csv as reader
    from pyarrow import parquet

    columns = reader.read_csv(
        io.BytesIO(table.encode()),
        parse_options=reader.ParseOptions(newlines_in_values=True),
        convert_options=reader.ConvertOptions(strings_can_be_null=True, null_values=[""]),
    )
    # A column without a value has no type.
    types = [pyarrow.string() if pyarrow.types.is_null(each.type) else each.type for each in columns.schema]
    buffer = io.BytesIO()
    parquet.write_table(columns.cast(pyarrow.schema(zip(columns.column_names, types, strict=True))), buffer)
    return buffer.getvalue()


def _csv_row(trial: Trial, configuration: Configuration | ConfigurationRow) -> Mapping[str, Any]:
    row: dict[str, Any] = {
        "id": trial.key,
        "setting": configuration.number,
        "variant": configuration.variant,
        "seed": parts(trial.seed)[1],
        "status": trial.state.lower(),
        "seconds": trial.seconds,
        "error": redacted(trial.error),
    }
    if is_crossed(trial.seed):
        row["pretext_seed"] = parts(trial.seed)[0]
    for stage in trial.stages:
        row[f"stage.{stage.slot}"] = stage.result_name
        row[f"cached.{stage.slot}"] = stage.cached
    values = {**configuration.params, **trial.metrics, **row}
    return {name: _csv_cell(value) for name, value in values.items()}


def _csv_cell(value: Any) -> Any:
    """A value as the table has it: a spreadsheet must not take a row's name for a formula."""
    if isinstance(value, bool):
        return str(value).lower()
    return harmless(value) if isinstance(value, str) else value
