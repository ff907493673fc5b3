from pathlib import Path
from platform import report
from platform.ledger.rows import PRUNED
from platform.reports.comparisons import studies
from platform.reports.summarize import summarize
from platform.reports.summary import Summary
from typing import Any

import pytest

OBJECTIVE = "spc/selection_loss"
CIFAR = {"name": "cifar10", "protocol": "split"}


def _study(book: Any, name: str, accs: list[float], **changes: Any) -> Summary:
    """A study of one setting with these accuracies, one a seed."""
    made = book(name=name, seeds=list(range(len(accs))), **changes)
    made.configuration(0, {seed: {OBJECTIVE: -1.0, "acc": acc} for seed, acc in enumerate(accs)})
    return summarize(made.ledger, made.launch.id)


def _texts(table: Any) -> list[list[str]]:
    return [[cell.text for cell in row] for row in table.rows]


def test_methods_on_one_data_set_are_compared_by_seed(book: Any) -> None:
    one = _study(book, "one", [0.70, 0.85, 0.78, 0.91])
    two = _study(book, "two", [0.711, 0.859, 0.790, 0.922], method="scan")
    found = studies.paired([one, two])
    assert found.title == "Differences in acc to one, paired by seed"
    assert _texts(found)[0][:3] == ["two", "4", "+0.011"] and _texts(found)[0][-1] == "better"
    assert "flatters whoever tried more of them" in found.notes[0]
    assert studies.matrix([one, two]).rows == ()


def test_one_method_over_data_sets_is_a_row_of_them(book: Any) -> None:
    summaries = [_study(book, "a", [0.9, 0.8]), _study(book, "b", [0.5, 0.7], dataset=CIFAR)]
    found = studies.matrix(summaries)
    assert found.columns == ("method", "digits (union)", "cifar10 (split)")
    assert _texts(found) == [["spc", "0.850 ± 0.071 (2)", "0.600 ± 0.141 (2)"]]
    assert studies.paired(summaries).rows == ()


def test_methods_over_data_sets_are_a_matrix_with_gaps(book: Any) -> None:
    summaries = [
        _study(book, "a", [0.9]),
        _study(book, "b", [0.5], dataset=CIFAR),
        _study(book, "c", [0.4], dataset=CIFAR, method="scan"),
    ]
    assert _texts(studies.matrix(summaries)) == [["spc", "0.900 (1)", "0.500 (1)"], ["scan", "–", "0.400 (1)"]]


def test_two_studies_of_one_method_on_one_data_set_are_no_matrix(book: Any) -> None:
    summaries = [_study(book, "a", [0.9]), _study(book, "b", [0.5]), _study(book, "c", [0.4], dataset=CIFAR)]
    assert studies.matrix(summaries).rows == ()


def test_another_pretext_is_part_of_a_method_s_name(book: Any) -> None:
    assert studies.method(_study(book, "a", [0.9])) == "spc"
    assert studies.method(_study(book, "b", [0.9], pretext="moco")) == "spc (moco)"
    assert studies.method(_study(book, "c", [0.9], method="dec", pretext="autoencoder")) == "dec"


@pytest.mark.parametrize(
    ("resources", "hours", "device"),
    [
        ({}, 16.0, "CPU h"),
        ({"trial": {"workers": 0, "cpu": 2.0, "gpu": 0.0}}, 30.0, "CPU h"),
        ({"trial": {"workers": 0, "cpu": 2.0, "gpu": 0.25}}, 3.5, "GPU h"),
        ({"prepare": {"workers": 4, "gpu": 1.0}, "trial": {"workers": 0, "gpu": 1.0}}, 22.0, "GPU h"),
    ],
)
def test_device_hours_count_what_each_phase_asks_for(
    sweep: Any, book: Any, resources: Any, hours: float, device: str
) -> None:
    """2 s of shared stages and 14 s of trials; here as if seconds were hours."""
    told = {**sweep.launch.resolved, "resources": resources}
    made = book(**told | {"name": "again"})
    made.prepare(0, {})
    for number in range(7):
        made.configuration(number, {0: {OBJECTIVE: 1.0}}, {"spc.graph_neighbors": number + 5})
    found, unit = studies.device_hours(summarize(made.ledger, made.launch.id))
    assert (found * 3600, unit) == (pytest.approx(hours), device)


def test_what_each_spent_stands_with_the_rule_that_picked(book: Any) -> None:
    made = book(name="one", seeds=[0, 1])
    made.configuration(0, {0: {OBJECTIVE: -1.0, "acc": 0.9}, 1: {OBJECTIVE: -1.0, "acc": 0.9}})
    made.configuration(1, {0: None}, {"spc.graph_neighbors": 50})
    made.ledger.stop(made.launch.id, f"{made.launch.id}-1-0", PRUNED, "behind", {}, 1.0)
    found = studies.budgets([summarize(made.ledger, made.launch.id)])
    assert _texts(found) == [
        ["one", "2", "2", "2", "1", "0.001 CPU h", "5.0 s", "2", "spc/selection_loss (min, label-free)"]
    ]


def test_unequal_budgets_are_named_and_equal_ones_too(book: Any) -> None:
    one, two = _study(book, "one", [0.9, 0.8]), _study(book, "two", [0.9, 0.8])
    assert studies.sentences([one, two])[0].startswith("Budgets are equal")
    more = _study(book, "more", [0.9, 0.8, 0.7])
    lines = studies.sentences([one, more])
    assert "Budgets are not equal in seeds: one 2, more 3." in lines
    assert "Budgets are not equal in device hours: the most is 1.5 times the least." in lines


def test_a_study_that_chose_with_labels_is_kept_apart(book: Any) -> None:
    lines = studies.sentences([_study(book, "a", [0.9]), _study(book, "b", [0.9], oracle=True)])
    assert any(line.startswith("Chosen with labels: b;") for line in lines)


def test_the_command_writes_the_comparison_and_the_same_bytes_again(
    book: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _study(book, "one", [0.9, 0.8])
    _study(book, "two", [0.7, 0.6])
    storage, folder = str(tmp_path), tmp_path / "comparisons" / "one+two"
    assert report.main(["one", "two", "--storage", storage]) == 0
    first = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert sorted(first) == ["comparison.html", "comparison.md", "comparison.tex"]
    assert str(folder / "comparison.html") in capsys.readouterr().out
    assert report.main(["one", "two", "--storage", storage]) == 0
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == first
    assert b"What each study spent" in first["comparison.html"] and b"\\toprule" in first["comparison.tex"]
