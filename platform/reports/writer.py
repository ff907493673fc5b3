"""The files a study leaves behind: study.yaml, trials.csv, trials.parquet, report.md, .html, .tex and figures/.

Each is written beside its place and renamed into it, so nobody ever reads half a report.
"""

import csv
import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from trainables.seeds import is_crossed, parts

from ..ledger.ledger import Ledger
from ..ledger.rows import Configuration, Launch, Trial
from ..study import yaml_writer
from ..study.errors import redacted
from . import figures, html, latex, markdown
from .summary import Summary, summarize

COMPARISONS = "comparisons"
_LONGEST_NAME = 200
_ORDER = ("name", "question", "method", "pretext", "probes", "dataset", "probe_dataset", "seeds", "fixed", "search",
          "ablate", "sampler", "trials")  # fmt: skip
"""First keys of study.yaml, as a person would write them; the ledger keeps them sorted by letter."""


def write(ledger: Ledger, launch: Launch, storage: Path) -> list[Path]:
    """Write a launch's files into ``storage/<study>/``; the same ledger and store give the same bytes.

    Args:
        storage: the folder of the ledger and of ``stages/``.

    Returns:
        Every file written.
    """
    launch = ledger.launch(launch.id)
    summary = summarize(ledger, launch.id)
    configurations, trials = ledger.configurations(launch.id), ledger.trials(launch.id, "trial")
    drawn = [*figures.pareto_front(summary), *figures.sensitivity(summary), *figures.landscape_of(summary)]
    shown = [*drawn, *figures.of_best_trial(summary, storage)]
    table = trials_csv(configurations, trials)
    contents = {
        "study.yaml": study_yaml(launch, configurations).encode(),
        "trials.csv": table.encode(),
        "trials.parquet": trials_parquet(table),
        **{picture.path: picture.png for picture in drawn},
        "report.md": markdown.report(summary, shown).encode(),
        "report.html": html.report(summary, shown).encode(),
        "report.tex": latex.report(summary).encode(),
    }
    return [_put(storage / launch.study / name, content) for name, content in contents.items()]


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
    return [_put(folder / name, content.encode()) for name, content in contents.items()]


def study_yaml(launch: Launch, configurations: Sequence[Configuration]) -> str:
    """The study in full; as a study file it gives the same study again."""
    told = dict(launch.resolved)
    rows = told.get("ablate", {})
    numbered = [configuration.variant for configuration in configurations if configuration.variant in rows]
    told["ablate"] = {name: rows[name] for name in dict.fromkeys([*numbered, *rows])}
    ordered = {name: told[name] for name in dict.fromkeys([*_ORDER, *told]) if name in told}
    return yaml_writer.dump(ordered)


def trials_csv(configurations: Sequence[Configuration], trials: Sequence[Trial]) -> str:
    """One row per trial, with every number as it stands in the ledger. Empty where there is none."""
    by_number = {configuration.number: configuration for configuration in configurations}
    params = sorted({name for configuration in configurations for name in configuration.params})
    metrics = sorted({name for trial in trials for name in trial.metrics}, key=lambda name: ("/" in name, name))
    slots = list(dict.fromkeys(stage["slot"] for trial in trials for stage in trial.stages))
    stages = [column for slot in slots for column in (f"stage.{slot}", f"cached.{slot}")]
    crossed = ["pretext_seed"] if any(is_crossed(trial.seed) for trial in trials) else []
    columns = ["id", "setting", "variant", *crossed, "seed", "status", *params, *metrics, "seconds", *stages, "error"]
    text = io.StringIO()
    table = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    table.writeheader()
    for trial in trials:
        assert trial.configuration is not None, f"trial {trial.key} has no setting"
        table.writerow(_csv_row(trial, by_number[trial.configuration]))
    return text.getvalue()


def trials_parquet(table: str) -> bytes:
    """The same table with a type for each column: numbers as float64 or int64, the rest as text."""
    import pyarrow
    from pyarrow import csv as reader
    from pyarrow import parquet

    found = reader.read_csv(
        io.BytesIO(table.encode()),
        parse_options=reader.ParseOptions(newlines_in_values=True),
        convert_options=reader.ConvertOptions(strings_can_be_null=True, null_values=[""]),
    )
    # A column of nothing has no type to be found.
    types = [pyarrow.string() if pyarrow.types.is_null(each.type) else each.type for each in found.schema]
    buffer = io.BytesIO()
    parquet.write_table(found.cast(pyarrow.schema(zip(found.column_names, types, strict=True))), buffer)
    return buffer.getvalue()


def _csv_row(trial: Trial, configuration: Configuration) -> Mapping[str, Any]:
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
        row[f"stage.{stage['slot']}"] = f"{stage['name']}-{stage['address']}"
        row[f"cached.{stage['slot']}"] = stage["cached"]
    told = {**configuration.params, **trial.metrics, **row}
    return {name: str(value).lower() if isinstance(value, bool) else value for name, value in told.items()}


def _put(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        fresh.write_bytes(content)
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)
    return path
