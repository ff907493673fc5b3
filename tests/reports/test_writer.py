import csv
import io
from html.parser import HTMLParser
from pathlib import Path
from platform.reports import writer
from platform.reports.html import report
from platform.reports.summarize import summarize
from platform.study.study import load_study
from typing import Any

import pandas
import pytest
import yaml
from pyarrow import parquet

from trainables.store import manifest

OBJECTIVE = "spc/selection_loss"
DELTA = "spc.strong_threshold"
PNG = b"\x89PNG\r\n\x1a\n"


class Page(HTMLParser):
    """What a page holds: its tags with attributes, its tables as text, and whether every tag is closed in its turn."""

    VOID = ("meta", "img", "br")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.tables: list[list[list[str]]] = []
        self.open: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("th", "td"):
            self.tables[-1][-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if {"th", "td"} & set(self.open):
            self.tables[-1][-1][-1] += data

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def _page(book: Any) -> Page:
    return Page(report(summarize(book.ledger, book.launch.id), []))


def _written(book: Any) -> dict[str, Path]:
    paths = writer.write(summarize(book.ledger, book.launch.id), book.storage)
    return {path.relative_to(book.storage / book.launch.study).as_posix(): path for path in paths}


def test_every_file_of_a_study_is_written(sweep: Any) -> None:
    assert list(_written(sweep)) == [
        "study.yaml",
        "trials.csv",
        "trials.parquet",
        "figures/sensitivity_spc.strong_threshold.png",
        "report.md",
        "report.html",
        "report.tex",
    ]


def test_the_same_ledger_gives_the_same_bytes(sweep: Any) -> None:
    first = {name: path.read_bytes() for name, path in _written(sweep).items()}
    assert {name: path.read_bytes() for name, path in _written(sweep).items()} == first


def test_nothing_half_written_is_left_behind(sweep: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, target: Path) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        _written(sweep)
    assert list((sweep.storage / "spc").iterdir()) == []


def test_trials_have_a_row_each_with_their_own_numbers(sweep: Any) -> None:
    rows = list(csv.DictReader(io.StringIO(_written(sweep)["trials.csv"].read_text())))
    assert len(rows) == 9
    assert (rows[1]["seed"], rows[1]["status"], rows[1][DELTA], rows[1][OBJECTIVE]) == ("1", "done", "0.9", "-4.0")
    assert (rows[1]["stage.spc"], rows[1]["cached.pretext"]) == (f"spc-{'a' * 16}", "true")


def test_trials_csv_opens_in_pandas_with_the_types_of_its_columns(sweep: Any) -> None:
    table = pandas.read_csv(_written(sweep)["trials.csv"])
    kinds = {name: table[name].dtype.kind for name in ("setting", "seed", DELTA, OBJECTIVE, "acc", "seconds")}
    assert kinds == {"setting": "i", "seed": "i", DELTA: "f", OBJECTIVE: "f", "acc": "f", "seconds": "f"}
    assert len(table) == table["id"].nunique() == 9
    done = table[table["status"] == "done"]
    assert done["cached.pretext"].astype(bool).dtype == bool and done[OBJECTIVE].notna().all()
    assert table[table["status"] == "failed"][OBJECTIVE].isna().all()
    # The same mean over seeds as in the report.
    assert done.groupby(DELTA)[OBJECTIVE].mean()[0.9] == pytest.approx(-3.0)


def test_switches_of_an_ablation_open_in_pandas_as_true_and_false(ablation: Any) -> None:
    table = pandas.read_csv(_written(ablation)["trials.csv"])
    assert table[table["variant"] == "without"]["spc.intersection_requires_label_agreement"].tolist() == [True, True]
    assert table[table["variant"] == "with"]["spc.intersection_requires_label_agreement"].isna().all()


def test_a_failed_trial_has_its_error_and_no_numbers(sweep: Any) -> None:
    rows = list(csv.DictReader(io.StringIO(_written(sweep)["trials.csv"].read_text())))
    assert (rows[7]["status"], rows[7]["error"]) == ("failed", "Diverged: spc: loss is nan\nlower it")
    assert (rows[7][OBJECTIVE], rows[7]["seconds"], rows[8]["status"]) == ("", "", "pending")


def test_the_parquet_table_has_the_same_rows_with_types(sweep: Any) -> None:
    written = _written(sweep)
    table = parquet.read_table(written["trials.parquet"]).to_pylist()
    rows = list(csv.DictReader(io.StringIO(written["trials.csv"].read_text())))
    assert len(table) == len(rows) == 9
    assert (table[1]["seed"], table[1][DELTA], table[1][OBJECTIVE]) == (1, 0.9, -4.0)
    assert (table[7]["error"], table[7][OBJECTIVE], table[1]["error"]) == (rows[7]["error"], None, None)
    assert table[1]["cached.pretext"] is True


def test_latex_tables_are_whole_and_escaped(sweep: Any) -> None:
    text = _written(sweep)["report.tex"].read_text()
    assert text.count("\\begin{tabular}") == text.count("\\end{tabular}") == 5
    assert "spc/selection\\_loss" in text and "0.800 $\\pm$ 0.100 (3)" in text and "$\\delta$" in text
    rows = [line for line in text.splitlines() if line.endswith("\\\\")]
    assert rows and all(line.isascii() for line in rows)


def test_an_error_shows_no_password(book: Any) -> None:
    made = book(seeds=[0])
    made.configuration(0, {0: "OSError: postgresql://me:hunter2@db/x"})
    for name, path in _written(made).items():
        assert b"hunter2" not in path.read_bytes(), name


def test_ablation_rows_keep_the_order_of_the_file(ablation: Any) -> None:
    # The ledger sorts keys by letter, which would put "with" before "without".
    told = yaml.safe_load(_written(ablation)["study.yaml"].read_text())
    assert list(told)[:3] == ["name", "question", "method"]
    assert list(told["ablate"]) == ["without", "with"]


def test_study_yaml_is_a_study_file(sweep: Any) -> None:
    study = load_study(_written(sweep)["study.yaml"])
    assert (study.name, study.seeds, list(study.search)) == ("spc", (0, 1, 2), [DELTA])


def test_the_page_has_a_table_for_settings_shared_stages_and_failures(sweep: Any) -> None:
    configurations, _, _, prepare, failed = _page(sweep).tables
    assert configurations[0] == ["rank", "δ", OBJECTIVE, "acc", "seeds"]
    assert configurations[1] == ["1", "0.9", "-3.000 ± 1.000 (3)", "0.800 ± 0.100 (3)", "3 of 3"]
    assert prepare == [["seed", "status", "pretext"], ["0", "done", "reused"]]
    assert failed[1] == ["δ=0.98", "1", "Diverged: spc: loss is nan lower it"]


def test_numbers_are_sorted_by_their_value_and_not_their_text(sweep: Any) -> None:
    cells = _page(sweep).of("td")
    # rank, δ, objective, acc, seeds of the first row.
    assert [float(cell["data-order"] or "nan") for cell in cells[:5]] == pytest.approx([1, 0.9, -3.0, 0.8, 3])


def test_the_page_loads_nothing_and_fits_a_phone(sweep: Any) -> None:
    page = Page(_written(sweep)["report.html"].read_text())
    assert page.of("link") == []
    assert all("src" not in attributes for attributes in page.of("script"))
    assert all((image["src"] or "").startswith("data:image/png;base64,") for image in page.of("img"))
    metas = page.of("meta")
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in metas
    assert any((meta.get("content") or "").startswith("default-src 'none'") for meta in metas)


def test_the_page_follows_a_dark_screen(sweep: Any) -> None:
    assert "prefers-color-scheme: dark" in _written(sweep)["report.html"].read_text()


def test_every_picture_has_words_for_who_cannot_see_it(sweep: Any) -> None:
    (image,) = Page(_written(sweep)["report.html"].read_text()).of("img")
    assert (image["alt"] or "").startswith(
        "acc from 0.200 to 0.900 and spc/selection_loss from -3.000 to -0.500 against δ"
    )


def test_names_and_errors_cannot_become_markup(book: Any) -> None:
    name = "<script>alert(1)</script> | x"
    made = book(seeds=[0], ablate={name: {}})
    made.configuration(0, {0: "ValueError: <b>|"}, {}, name)
    page = _page(made)
    assert page.tables[0][1][0] == name
    assert len(page.of("script")) == 1
    assert "\\<script\\>alert(1)\\</script\\> \\| x" in _written(made)["report.md"].read_text()


def test_the_best_trials_own_figures_are_shown(sweep: Any) -> None:
    # The best trial of δ 0.9 is seed 1, with -4; its last stage is spc.
    folder = sweep.storage / "stages" / f"spc-{'a' * 16}" / "figures"
    folder.mkdir(parents=True)
    (folder / "confusion.png").write_bytes(PNG)
    caption = "Which clusters the images of each class went to"
    (folder.parent / manifest.FILE).write_bytes(manifest.to_bytes(folder.parent, {"captions": {"confusion": caption}}))
    written = _written(sweep)
    alts = [image["alt"] for image in Page(written["report.html"].read_text()).of("img")]
    assert alts[1] == "Which clusters the images of each class went to."
    text = written["report.md"].read_text()
    assert f"](../stages/spc-{'a' * 16}/figures/confusion.png)" in text
    assert "(δ=0.9, seed 1)" in text


def test_times_stand_in_the_cost_line_only(sweep: Any) -> None:
    lines = _written(sweep)["report.md"].read_text().splitlines()
    assert [line for line in lines if line.startswith("Cost: ")] == [
        "Cost: 2.0 s for shared stages and 14.0 s for trials, summed over processes; "
        "7 stage results computed, 8 reused."
    ]
    assert not any("14.0" in line for line in lines if not line.startswith("Cost: "))


def test_a_launch_without_any_result_has_a_report(book: Any) -> None:
    made = book(search={DELTA: {"choice": [0.9]}})
    made.configuration(0, {0: None}, {DELTA: 0.9})
    assert "No setting has a result yet." in _written(made)["report.md"].read_text()
