from pathlib import Path
from platform.reports.content import headline
from platform.reports.summarize import summarize
from platform.reports.summary import Summary
from platform.reports.table import Cell, Table
from platform.reports.terminal import aligned, end_of_sweep, side_by_side
from typing import Any

import pytest

from trainables import pipeline

OBJECTIVE = "spc/selection_loss"
DELTA = "spc.strong_threshold"


def _summary(book: Any) -> Summary:
    return summarize(book.ledger, book.launch.id)


def _text(book: Any, storage: str = "runs") -> str:
    return end_of_sweep(_summary(book), Path(storage))


def _scores(loss: float, acc: float) -> dict[str, float]:
    return {OBJECTIVE: loss, "acc": acc}


def test_numbers_stand_to_the_right_and_text_to_the_left() -> None:
    rows = ((Cell("a"), Cell("10", 10.0)), (Cell("long"), Cell("9", 9.0)))
    assert aligned(Table("Title", ("name", "n"), rows, (False, True))) == "\n".join(
        ["Title", "name   n", "--------", "a     10", "long   9"]
    )


def test_settings_are_listed_best_first(sweep: Any) -> None:
    lines = _text(sweep).splitlines()
    start = lines.index("Settings by spc/selection_loss (min, label-free)")
    assert [" ".join(line.split()) for line in lines[start + 3 : start + 6]] == [
        "1 δ=0.9 -3.000 ± 1.000 (3) 0.800 ± 0.100 (3) 3 of 3",
        "2 δ=0.95 -1.000 ± 0.000 (3) 0.900 ± 0.000 (3) 3 of 3",
        "3 δ=0.98 -0.500 (1) 0.200 (1) 1 of 3",
    ]


def test_the_price_of_not_looking_at_labels_is_told(sweep: Any) -> None:
    text = _text(sweep)
    assert "Best by spc/selection_loss (min, label-free): δ=0.9, spc/selection_loss -3.000 ± 1.000 (3), acc" in text
    assert (
        "Best by acc (looks at labels): δ=0.95, acc 0.900 ± 0.000 (3).\nChoosing without labels cost 0.100 acc." in text
    )


def test_where_labels_would_pick_the_same_nothing_was_lost(book: Any) -> None:
    made = book(seeds=[0])
    made.configuration(0, {0: _scores(-2.0, 0.9)}, {DELTA: 0.9})
    made.configuration(1, {0: _scores(-1.0, 0.8)}, {DELTA: 0.8})
    assert "Labels would have picked the same setting: choosing without them cost no acc." in _text(made)


def test_a_study_that_looks_at_labels_is_called_an_oracle(book: Any) -> None:
    made = book(seeds=[0], objective={"metric": "acc", "mode": "max"}, oracle=True)
    made.configuration(0, {0: {"acc": 0.9}})
    text = _text(made)
    assert "Best by acc (max, looks at labels)" in text
    assert "An oracle study" in text
    assert "Choosing without labels" not in text


def test_a_best_setting_with_missing_seeds_is_marked(book: Any) -> None:
    made = book(seeds=[0, 1])
    made.configuration(0, {0: _scores(-2.0, 0.9), 1: "OSError: disk"}, {DELTA: 0.9})
    assert "Beware: it lacks 1 of 2 seeds." in _text(made)


def test_ten_settings_are_shown_and_the_rest_is_counted(book: Any) -> None:
    made = book(seeds=[0])
    for number in range(13):
        made.configuration(number, {0: _scores(float(number), 0.5)}, {DELTA: 0.5 + number / 100})
    text = _text(made)
    assert "δ=0.59 " in text
    assert "δ=0.6 " not in text
    assert "... and 3 more in the report" in text


def test_an_ablation_shows_what_was_published_and_the_difference(ablation: Any) -> None:
    rows = [" ".join(line.split()) for line in _text(ablation).splitlines()]
    assert "without -1.000 ± 0.000 (2) 0.820 ± 0.014 (2) 2 of 2 0.806 +0.014 – –" in rows
    assert "with -2.000 (1) 0.900 (1) 1 of 2 0.885 +0.015 0.700 –" in rows


def test_published_digits_are_kept(book: Any) -> None:
    made = book(seeds=[0], published={"acc": 83.36})
    made.configuration(0, {0: _scores(-1.0, 0.8)})
    assert "Published acc: 0.8336; ours differs by -0.034." in _text(made)


def test_each_failed_cell_is_named_with_its_reason(sweep: Any) -> None:
    rows = [" ".join(line.split()) for line in _text(sweep).splitlines()]
    assert "δ=0.98 1 Diverged: spc: loss is nan lower it" in rows


def test_collapsed_trials_are_counted(book: Any) -> None:
    made = book(seeds=[0, 1])
    whole = {"spc/cluster_share_max": 1.0} | _scores(-1.0, 0.1)
    made.configuration(0, {0: whole, 1: whole | {"spc/cluster_share_max": 0.2}})
    assert "Collapsed to one cluster: 1 of 2 finished trials." in _text(made)


def test_a_smoke_study_says_so(book: Any, tmp_path: Path) -> None:
    made = book(seeds=[0])
    again = made.ledger.open_launch("spc", {}, made.launch.resolved, lookahead=1, fresh=True, facts={"smoke": True})
    assert "A smoke test" in end_of_sweep(summarize(made.ledger, again.id), tmp_path)


def test_the_last_lines_say_where_everything_is(sweep: Any) -> None:
    assert _text(sweep, "my runs").splitlines()[-3:] == [
        "report   my runs/spc/report.html (also report.md, report.tex, trials.csv, study.yaml, figures/)",
        "MLflow   my runs/mlflow.db",
        "look     python -m platform.ui --storage 'my runs'",
    ]


def test_studies_stand_side_by_side(sweep: Any, ablation: Any) -> None:
    rows = [" ".join(line.split()) for line in side_by_side([_summary(sweep), _summary(ablation)]).splitlines()]
    assert rows[3] == "spc spc digits (union) 0.800 ± 0.100 (3) – – δ=0.9"
    assert rows[4] == "spc ablation digits (union) 0.900 (1) – – with"
    assert "spc 3 3 7 0 0.004 CPU h 16.0 s 8 spc/selection_loss (min, label-free)" in rows


def test_studies_on_different_data_are_not_called_comparable(sweep: Any, book: Any) -> None:
    other = book(name="other", dataset={"name": "cifar10", "protocol": "split"}, seeds=[0])
    other.configuration(0, {0: _scores(-1.0, 0.5)})
    lines = side_by_side([_summary(sweep), _summary(other)]).splitlines()
    assert "Rows on different data sets are not comparable with each other: cifar10 (split), digits (union)." in lines


def test_runs_kept_elsewhere_are_not_looked_at_with_the_storages_own_ui(sweep: Any) -> None:
    text = end_of_sweep(_summary(sweep), Path("runs"), "postgresql://me:***@host/x")
    assert text.splitlines()[-1] == "MLflow   postgresql://me:***@host/x"


def test_rows_of_few_seeds_are_marked(sweep: Any, ablation: Any) -> None:
    assert "2 of 2 rows have fewer than 3 seeds" in _text(ablation)
    assert "1 of 3 rows have fewer than 3 seeds" in _text(sweep)


def test_a_semi_supervised_method_is_called_one(book: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    made = book(seeds=[0])
    made.configuration(0, {0: _scores(-2.0, 0.9)}, {DELTA: 0.9})
    sentence = "spc is semi-supervised: labels of some images train, and accuracy is of the unlabeled training images."
    assert sentence not in " ".join(headline(_summary(made)))
    monkeypatch.setattr(pipeline, "trains_on_labels", lambda method: method == "spc")
    assert sentence in " ".join(headline(_summary(made)))
