from collections.abc import Callable
from platform.reports import content, html, latex, markdown, terminal
from platform.reports.comparisons import published
from platform.reports.summarize import summarize
from platform.reports.summary import Summary
from typing import Any

import pytest

NOTES = {
    "dataset": "stl10",
    "protocol": "split",
    "backbone": "resnet18",
    "epochs": {"spc": 50},
    "statistic": "best of 3",
}


@pytest.fixture
def summary(book: Any) -> Callable[..., Summary]:
    """summary(**changes): a study of one setting with three seeds, accuracies 0.8, 0.9 and 1.0."""

    def make(**changes: Any) -> Summary:
        made = book(**changes)
        cells = {seed: {"spc/selection_loss": -1.0, "acc": acc, "nmi": acc} for seed, acc in enumerate((0.8, 0.9, 1.0))}
        made.configuration(0, cells)
        return summarize(made.ledger, made.launch.id)

    return make


def _unlike(summary: Summary) -> tuple[str, ...]:
    return published.published_values(summary)[0].unlike


def test_everything_that_was_not_obtained_alike_is_named(summary: Any) -> None:
    found = summary(published={"acc": 83.6, **NOTES}, fixed={"pretext.network": "small", "spc.epochs": 15})
    assert _unlike(found) == (
        "data set: stl10 there, digits here",
        "protocol: split there, union here",
        "backbone: resnet18 there, small here",
        "epochs of spc: 50 there, 15 here",
    )


@pytest.mark.parametrize(
    ("statistic", "seeds", "sentence"),
    [
        ("mean of 10", [0, 1, 2], ""),
        ("best of 3", [0, 1, 2], ""),
        ("best of 5", [0, 1, 2], "statistic: best of 5 there, best of 3 here"),
        ("one run", [0, 1, 2], "statistic: one run there, mean of 3 here"),
    ],
)
def test_runs_are_counted_where_their_number_decides_the_value(
    summary: Any, statistic: str, seeds: list[int], sentence: str
) -> None:
    found = summary(published={"acc": 83.6, "statistic": statistic}, seeds=seeds)
    assert _unlike(found) == ((sentence,) if sentence else ())


def test_beside_a_best_run_stands_our_best_run_by_accuracy_with_all_its_numbers(book: Any) -> None:
    made = book(published={"acc": 83.6, "nmi": 70.0, "statistic": "best of 3"})
    runs = {0: (0.8, 0.9), 1: (0.95, 0.7), 2: (0.9, 0.8)}
    made.configuration(0, {seed: {"spc/selection_loss": -1.0, "acc": a, "nmi": n} for seed, (a, n) in runs.items()})
    found = published.published_values(summarize(made.ledger, made.launch.id))
    assert [each.shown_ours for each in found] == ["0.950 (best of 3)", "0.700 (best of 3)"]
    assert [each.difference for each in found] == [pytest.approx(0.114), pytest.approx(0.0)]


@pytest.mark.parametrize(
    ("std", "shown"), [({"std": 0.4}, "0.876 ± 0.004"), ({"std": {"acc": 0.44}}, "0.876 ± 0.0044"), ({}, "0.876")]
)
def test_a_published_deviation_stands_behind_its_value_on_our_scale(summary: Any, std: Any, shown: str) -> None:
    found = summary(published={"acc": 87.6, **std})
    assert [row[3].text for row in published.table(found).rows] == [shown]
    assert [row[2].text for row in published.table(found).rows] == ["0.900 ± 0.100 (3)"]


@pytest.mark.parametrize(
    ("notes", "fixed"),
    [
        ({}, {"pretext.network": "small"}),
        ({"dataset": "digits", "protocol": "union", "statistic": "mean of 10"}, {}),
        ({"backbone": "resnet18"}, {"pretext.network": "resnet18_cifar"}),
        ({"backbone": "resnet18"}, {"pretext.network": "auto"}),
        ({"epochs": {"spc": 50}}, {"spc.epochs": 50}),
        ({"epochs": {"spc": 50}}, {}),
    ],
    ids=["nothing said", "all alike", "stem", "chosen by size", "epochs", "no such setting here"],
)
def test_what_is_alike_or_not_said_is_not_marked(summary: Any, notes: Any, fixed: Any) -> None:
    assert _unlike(summary(published={"acc": 83.6, **notes}, fixed=fixed)) == ()


def test_a_longer_name_of_a_network_is_another_network(summary: Any) -> None:
    found = summary(published={"acc": 83.6, "backbone": "resnet1"}, fixed={"pretext.network": "resnet18"})
    assert _unlike(found) == ("backbone: resnet1 there, resnet18 here",)


def test_a_swept_backbone_is_that_of_the_setting(book: Any) -> None:
    made = book(published={"acc": 83.6, "backbone": "resnet18"}, fixed={"pretext.network": "resnet18"})
    made.configuration(0, {0: {"spc/selection_loss": -1.0, "acc": 0.8}}, {"pretext.network": "resnet50"})
    assert _unlike(summarize(made.ledger, made.launch.id)) == ("backbone: resnet18 there, resnet50 here",)


def test_one_run_is_no_mean(book: Any) -> None:
    made = book(published={"acc": 83.6, "statistic": "mean of 10"}, seeds=[0])
    made.configuration(0, {0: {"spc/selection_loss": -1.0, "acc": 0.8}})
    assert _unlike(summarize(made.ledger, made.launch.id)) == ("statistic: mean of 10 there, one run here",)


def test_rows_inherit_what_the_study_says_and_may_say_otherwise(book: Any) -> None:
    rows = {"a": {"published": {"acc": 80.0}}, "b": {"published": {"acc": 90.0, "protocol": "union"}}}
    made = book(ablate=rows, published={"protocol": "split", "source": "table 3"})
    for number, name in enumerate(rows):
        made.configuration(number, {0: {"spc/selection_loss": -1.0, "acc": 0.85}}, variant=name)
    a, b = published.published_values(summarize(made.ledger, made.launch.id))
    assert (a.unlike, a.difference) == (("protocol: split there, union here",), pytest.approx(0.05))
    assert (b.unlike, b.difference, b.notes["source"]) == ((), pytest.approx(-0.05), "table 3")


def test_the_table_shows_ours_theirs_protocol_and_marks_a_difference_that_is_none(summary: Any) -> None:
    found = published.table(summary(published={"acc": 83.6, "nmi": 68.7, **NOTES, "source": "SPC table 2"}))
    first = [cell.text for cell in found.rows[0]]
    assert found.columns[5:] == ("published for", "unlike ours in")
    assert first[1:6] == [
        "acc",
        "1.000 (best of 3)",
        "0.836",
        "+0.164*",
        "stl10, split, resnet18, 50 epochs of spc, best of 3, SPC table 2",
    ]
    assert found.rows[1][1].text == "nmi" and found.notes == ("* not obtained as ours was; see the last column.",)


def test_a_doubt_is_a_footnote_at_its_value_alone(summary: Any) -> None:
    found = summary(published={"acc": 83.6, "nmi": 68.7, "doubt": {"nmi": "swapped with <ari>?"}})
    table = published.table(found)
    assert [row[3].text for row in table.rows] == ["0.836", "0.687 [1]"]
    assert table.notes == ("[1] swapped with <ari>?",)
    assert "swapped with &lt;ari&gt;?" in html.as_html(table) and "[1] swapped with" in terminal.aligned(table)
    assert "\\[1\\] swapped with \\<ari\\>?" in markdown.as_markdown(table)
    assert "\\par\\footnotesize [1] swapped with \\textless{}ari\\textgreater{}?" in latex.as_latex(table)
    assert any("In doubt: swapped with <ari>?." in line for line in content.headline(found))


def test_a_metric_that_was_not_measured_has_no_difference(summary: Any) -> None:
    found = published.table(summary(published={"ari": 73.2}))
    assert [cell.text for cell in found.rows[0]][1:5] == ["ari", "–", "0.732", "–"]


def test_an_ablation_s_own_table_marks_it_too(book: Any) -> None:
    made = book(ablate={"a": {"published": {"acc": 80.0, "protocol": "split"}}})
    made.configuration(0, {0: {"spc/selection_loss": -1.0, "acc": 0.85}}, variant="a")
    assert [cell.text for cell in content.ablation(summarize(made.ledger, made.launch.id)).rows[0]][-2:] == [
        "0.800",
        "+0.050*",
    ]


def test_without_published_values_there_is_no_table(summary: Any) -> None:
    assert published.table(summary(published={"protocol": "split", "source": "nowhere"})).rows == ()


def test_a_value_of_the_whole_study_is_no_row_s(book: Any) -> None:
    made = book(ablate={"a": {"published": {"nmi": 70.0}}, "b": {}}, published={"acc": 80.0})
    for number, name in enumerate(("a", "b")):
        made.configuration(number, {0: {"spc/selection_loss": -1.0, "acc": 0.85, "nmi": 0.7}}, variant=name)
    summary = summarize(made.ledger, made.launch.id)
    assert [(each.row.variant, each.metric) for each in published.published_values(summary)] == [
        ("a", "acc"),
        ("a", "nmi"),
    ]
    assert "acc published" not in content.ablation(summary).columns


def test_a_row_of_the_published_table_that_is_not_run_says_why(summary: Any) -> None:
    rows = {"RUC + SCAN": {"acc": 89.5, "nmi": 80.0, "why": "it needs two networks"}}
    table = published.table(summary(published={"acc": 83.6, "not_run": rows}))
    texts = [tuple(cell.text for cell in row) for row in table.rows]
    assert texts[1:] == [
        ("RUC + SCAN", "acc", "not run", "0.895", "–", "–", "it needs two networks"),
        ("RUC + SCAN", "nmi", "not run", "0.800", "–", "–", "it needs two networks"),
    ]
