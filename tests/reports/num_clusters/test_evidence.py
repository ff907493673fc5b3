"""From the clusterings of a search's seeds to a table, a sentence and a plot; nothing here looks at a label."""

from dataclasses import replace
from platform.reports import content
from platform.reports.num_clusters import evidence, words
from platform.reports.plots import num_clusters as plot
from platform.reports.summarize import summarize
from platform.reports.summary import ClusterNumber, Summary
from typing import Any

import numpy as np
import pytest

from trainables.interfaces import Result

NAME = "scan.num_clusters"
SEARCH = {NAME: {"choice": [2, 3, 4]}}
TRUTH = np.arange(60) % 3


def clustering(num: int, seed: int) -> Result:
    """Three groups: with 3 clusters every seed finds them, with others half of the images fall anywhere."""
    own_N = TRUTH.copy()
    if num != 3:
        generator = np.random.default_rng(10 * num + seed)
        own_N[::2] = generator.integers(0, num, 30)
    own_N = own_N % num
    rows_NC = np.full((60, num), 0.1 / num, np.float32)
    rows_NC[np.arange(60), own_N] += 0.9
    return Result(arrays={"probabilities_eval": rows_NC})


@pytest.fixture
def searched(book: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """searched(numbers, seeds): the summary of a search that read each clustering by its trial's key."""

    def make(numbers: list[int], seeds: list[int], metric: str = "spc/selection_loss", **cells: Any) -> Summary:
        made = book(search=SEARCH, seeds=seeds, objective={"metric": metric, "mode": "min"})
        for index, number in enumerate(numbers):
            metrics = {metric: -float(number), "spc/cluster_share_max": 0.5, **cells.get(f"at_{number}", {})}
            made.configuration(index, dict.fromkeys(seeds, metrics), {NAME: number})
        summary = summarize(made.ledger, made.launch.id)
        results = iter([clustering(number, seed) for number in numbers for seed in seeds])
        return evidence.with_cluster_numbers(summary, lambda name: next(results, None))

    return make


def test_the_number_at_which_seeds_agree_is_named_and_told_from_the_others(searched: Any) -> None:
    summary = searched([2, 3, 4], [0, 1, 2])
    assert [each.number for each in summary.cluster_numbers] == [2, 3, 4]
    assert [len(each.agreements) for each in summary.cluster_numbers] == [3, 3, 3]
    assert summary.cluster_numbers[1].agreements == (1.0, 1.0, 1.0)
    assert all(each.mean < 0.7 for each in summary.cluster_numbers if each.number != 3)
    first, caution = words.sentences(summary)
    assert first == "How many clusters: seeds agree most at 3 (adjusted Rand 1.000 ± 0.000 over 3 pairs of seeds)."
    assert caution.startswith("Agreement says how repeatable a clustering is, not that there are so many groups")
    assert {first, caution} <= set(content.headline(summary))


def test_the_table_has_agreements_and_the_steps_of_the_criterion(searched: Any) -> None:
    summary = searched([2, 3, 4], [0, 1])
    table = words.table(summary)
    assert table in content.all_tables(summary)
    assert [row[0].text for row in table.rows] == ["2", "3", "4"]
    assert [row[4].order for row in table.rows] == [None, -1.0, -1.0]
    assert "1 pairs" in table.notes[0] and "with 4 clusters" in table.notes[1]


def test_numbers_as_good_as_the_best_are_named_with_it(searched: Any) -> None:
    summary = searched([3, 4], [0, 1, 2])
    alike = ClusterNumber(4, (1.0, 0.9, 1.0), (), None, 3)
    both = replace(summary, cluster_numbers=(alike, ClusterNumber(5, (0.95,) * 3, (), None, 3)))
    said = words.sentences(both)[0]
    assert "5 lies within one standard deviation of it, so this study does not tell them apart" in said


def test_a_best_number_at_the_end_of_the_range_is_said(searched: Any) -> None:
    assert "an end of the numbers tried" in words.sentences(searched([3, 4], [0, 1, 2]))[0]


def test_one_seed_says_nothing_and_draws_nothing(searched: Any) -> None:
    summary = searched([2, 3], [0])
    assert [each.agreements for each in summary.cluster_numbers] == [(), ()]
    assert "cannot be compared" in words.sentences(summary)[0]
    assert not plot.applies(summary)


def test_a_collapsed_clustering_takes_no_part(searched: Any) -> None:
    summary = searched([2, 3], [0, 1], at_2={"spc/cluster_share_max": 1.0})
    assert [(each.number, each.num_clusterings) for each in summary.cluster_numbers] in ([(3, 2)], [])


def test_a_criterion_that_looks_at_labels_is_left_out(searched: Any) -> None:
    summary = searched([2, 3, 4], [0, 1], metric="acc")
    assert all(each.criterion is None for each in summary.cluster_numbers)
    assert len(words.table(summary).columns) == 3
    assert len(plot.figure(summary).axes) == 1


def test_the_plot_has_a_dot_for_each_pair_and_the_criterion_below(searched: Any) -> None:
    summary = searched([2, 3, 4], [0, 1, 2])
    upper, lower = plot.figure(summary).axes
    assert [len(line.get_ydata()) for line in upper.lines[:3]] == [3, 3, 3]
    assert upper.lines[3].get_ydata().tolist() == pytest.approx([each.mean for each in summary.cluster_numbers])
    assert lower.get_xlabel() == "clusters"
    assert "3: 1.000" in words.alt_text(summary.cluster_numbers)


def test_a_study_of_another_setting_stays_as_it_is(sweep: Any) -> None:
    summary = summarize(sweep.ledger, sweep.launch.id)
    assert evidence.with_cluster_numbers(summary, lambda name: pytest.fail("nothing is to be read")) is summary
    assert words.sentences(summary) == [] and not words.table(summary).rows
