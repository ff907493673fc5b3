"""What each stage added: the same trials after one stage and after the next."""

from platform.reports import content, html, latex, markdown, terminal
from platform.reports.comparisons import ladder
from platform.reports.summarize import summarize
from platform.reports.summary import Summary
from typing import Any

import pytest

from trainables.runner.messages import StageRecord

SLOTS = ("pretext", "kmeans", "neighbors", "scan", "spc")
DELTA = "spc.strong_threshold"
REFINED_WORSE = [(0.80, 0.90, 0.89), (0.70, 0.91, 0.90), (0.75, 0.92, 0.90), (0.8, 0.93, 0.94)]
"""Accuracy after k-means, SCAN and SPC, seed by seed: SPC is better in the last one alone."""


def numbers(kmeans: float, scan: float, spc: float, *, merged: bool = False) -> dict[str, float]:
    found: dict[str, float] = {}
    for slot, value in (("kmeans", kmeans), ("scan", scan), ("spc", spc)):
        name = "acc_majority" if merged else "acc"
        found |= {f"{slot}/{name}": value, f"{slot}/nmi": value, f"{slot}/ari": value}
        if merged:
            found |= {f"{slot}/acc": 0.5, f"{slot}/nmi_majority": value, f"{slot}/ari_majority": value}
    own = {name.partition("/")[2]: value for name, value in found.items() if name.startswith("spc/")}
    # SPC's loss is the worse one wherever its accuracy is.
    return found | own | {"scan/selection_loss": -2.0, "spc/selection_loss": -2.0 if spc > scan else -1.9}


def launch(book: Any, configurations: list[list[dict[str, float]]], **changes: Any) -> Summary:
    made = book(seeds=list(range(len(configurations[0]))), **changes)
    for number, runs in enumerate(configurations):
        params = {DELTA: 0.9 + 0.01 * number} if changes.get("search") else {}
        variant = list(changes["ablate"])[number] if changes.get("ablate") else ""
        made.configuration(number, dict.fromkeys(range(len(runs))), params, variant)
        for seed, metrics in enumerate(runs):
            stages = [StageRecord(slot, slot, "a" * 16, False, 1.0) for slot in SLOTS]
            made.ledger.finish(made.launch.id, f"{made.launch.id}-{number}-{seed}", metrics, stages, 2.0)
    return summarize(made.ledger, made.launch.id)


def test_each_stage_stands_against_the_one_before_it(book: Any) -> None:
    summary = launch(book, [[numbers(*each) for each in REFINED_WORSE]])
    texts = [[cell.text for cell in row] for row in ladder.table(summary).rows]
    assert [row[1] for row in texts] == ["kmeans", "scan", "spc"]
    assert texts[0][2:6] == ["0.762 ± 0.048 (4)"] * 3 + ["–"] and texts[0][6:] == ["–"] * 5
    # (0.10 + 0.21 + 0.17 + 0.13) / 4, and (-0.01 - 0.01 - 0.02 + 0.01) / 4
    assert [row[6] for row in texts[1:]] == ["+0.1525", "-0.0075"]
    assert [row[9] for row in texts[1:]] == ["4 of 4", "1 of 4"]
    assert [row[10] for row in texts[1:]] == ["better", "no evidence of a difference"]


def test_the_first_sentences_say_what_each_stage_added_and_that_its_own_loss_knew(book: Any) -> None:
    summary = launch(book, [[numbers(*each) for each in REFINED_WORSE]])
    assert ladder.sentences(summary) == [
        "as fixed: scan adds 0.1525 acc to kmeans (better; better in 4 and worse in 0 of 4 trials).",
        "as fixed: spc takes 0.0075 acc from scan (no evidence of a difference; better in 1 and worse in 3 of 4 "
        "trials); its selection_loss, which needs no labels, is better in 0 and worse in 3 of 4.",
    ]
    assert ladder.sentences(summary)[1] in content.headline(summary)
    for shown in (html.report(summary, []), markdown.report(summary, []), latex.report(summary)):
        assert "What each stage added" in shown
    assert ladder.sentences(summary)[0] in terminal.end_of_sweep(summary, summary_storage(summary))


def summary_storage(summary: Summary) -> Any:
    from pathlib import Path

    return Path(summary.study)


def test_a_search_counts_a_seed_once_however_many_settings_share_its_stages(book: Any) -> None:
    runs = [[numbers(*each) for each in REFINED_WORSE]] * 3
    summary = launch(book, runs, search={DELTA: {"choice": [0.9, 0.91, 0.92]}})
    rungs = ladder.rungs(summary)
    assert list(dict.fromkeys(rung.group for rung in rungs)) == ["all 3 settings", "δ=0.9"]
    step = next(rung.step for rung in rungs if rung.slot == "spc")
    assert step is not None and (step.pair.n, step.num_trials, step.num_worse) == (4, 12, 9)


def test_rows_that_share_a_step_say_it_once(book: Any) -> None:
    runs = [[numbers(*each) for each in REFINED_WORSE]] * 2
    summary = launch(book, runs, ablate={"one": {}, "two": {}})
    assert len(ladder.table(summary).rows) == 6 and len(ladder.sentences(summary)) == 2


def test_clusters_that_outnumber_classes_are_merged_first(book: Any) -> None:
    summary = launch(book, [[numbers(*each, merged=True) for each in REFINED_WORSE]])
    assert [row[6].text for row in ladder.table(summary).rows[1:]] == ["+0.1525", "-0.0075"]


@pytest.mark.parametrize("kept", ["kmeans", "scan", "spc"])
def test_one_clustering_has_no_ladder(book: Any, kept: str) -> None:
    runs = [{name: value for name, value in numbers(*each).items() if f"{kept}/" in name} for each in REFINED_WORSE]
    summary = launch(book, [runs])
    assert ladder.table(summary).rows == () and ladder.sentences(summary) == []


def test_a_collapsed_trial_is_no_evidence_for_a_stage(book: Any) -> None:
    runs = [numbers(*each) for each in REFINED_WORSE]
    runs[0] |= {"spc/cluster_share_max": 1.0}
    step = ladder.rungs(launch(book, [runs]))
    assert all(rung.step is None or rung.step.num_trials == 3 for rung in step)
