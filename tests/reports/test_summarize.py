import json
from contextlib import nullcontext
from platform import end_of_sweep, report
from platform.ledger.aggregate import Spread
from platform.ledger.ledger import Ledger, place_of
from platform.ledger.storage import named
from platform.reports.summarize import on_our_scale, summarize
from types import SimpleNamespace
from typing import Any

import pytest

DELTA = "spc.strong_threshold"
OBJECTIVE = "spc/selection_loss"


def _scores(loss: float, acc: float) -> dict[str, float]:
    return {OBJECTIVE: loss, "acc": acc}


def _summary(book: Any) -> Any:
    return summarize(book.ledger, book.launch.id)


def test_a_setting_has_the_mean_of_each_metric_over_its_seeds(sweep: Any) -> None:
    row = _summary(sweep).configurations[0]
    assert row.objective == Spread(-3.0, 1.0, 3)
    assert row.metrics["acc"].mean == pytest.approx(0.8)
    assert row.metrics["acc"].std == pytest.approx(0.1)


def test_a_failed_or_waiting_cell_is_missing_and_not_zero(sweep: Any) -> None:
    row = _summary(sweep).configurations[2]
    assert (row.objective, row.done, row.wanted, row.missing) == (Spread(-0.5, None, 1), 1, 3, 2)


def test_a_failed_cell_is_named_with_its_reason_on_one_line(sweep: Any) -> None:
    (failure,) = _summary(sweep).failures
    assert (failure.label, failure.seed, failure.error) == ("δ=0.98", 1, "Diverged: spc: loss is nan lower it")


def test_a_metric_that_one_seed_lacks_counts_the_others(book: Any) -> None:
    made = book()
    made.configuration(0, {0: {OBJECTIVE: 1.0, "top5": 0.5}, 1: {OBJECTIVE: 3.0}, 2: None})
    row = _summary(made).configurations[0]
    assert (row.metrics["top5"], row.objective.n) == (Spread(0.5, None, 1), 2)


def test_the_ranking_goes_by_the_mean_of_the_objective(sweep: Any) -> None:
    assert [row.number for row in _summary(sweep).ranking] == [0, 1, 2]


def test_the_ranking_turns_round_when_more_is_better(book: Any) -> None:
    made = book(seeds=[0], objective={"metric": OBJECTIVE, "mode": "max"})
    made.configuration(0, {0: _scores(1.0, 0.1)})
    made.configuration(1, {0: _scores(2.0, 0.1)}, {DELTA: 0.9})
    assert [row.number for row in _summary(made).ranking] == [1, 0]


def test_equal_means_are_ranked_by_number(book: Any) -> None:
    made = book(seeds=[0])
    for number in (2, 0, 1):
        made.configuration(number, {0: _scores(1.0, 0.5)}, {DELTA: 0.5 + number / 10})
    summary = _summary(made)
    assert [row.number for row in summary.ranking] == [0, 1, 2]
    assert (summary.best.number, summary.oracle.number) == (0, 0)


def test_a_setting_without_a_result_is_not_ranked(book: Any) -> None:
    made = book(seeds=[0])
    made.configuration(0, {0: "OSError: disk"})
    summary = _summary(made)
    assert (summary.ranking, summary.best, summary.oracle, summary.regret) == ((), None, None, None)


def test_regret_is_the_accuracy_that_labels_would_have_added(sweep: Any) -> None:
    # The criterion picks δ 0.9 with mean accuracy 0.8, accuracy itself δ 0.95 with 0.9.
    summary = _summary(sweep)
    assert (summary.best.number, summary.oracle.number) == (0, 1)
    assert summary.regret == pytest.approx(0.1)


def test_without_accuracy_there_is_no_regret(book: Any) -> None:
    made = book(seeds=[0])
    made.configuration(0, {0: {OBJECTIVE: 1.0}})
    assert (_summary(made).oracle, _summary(made).regret) == (None, None)


def test_seeds_that_the_study_no_longer_asks_for_are_left_out(book: Any) -> None:
    made = book(seeds=[1])
    made.configuration(0, {0: _scores(9.0, 0.0), 1: _scores(1.0, 0.5)})
    row = _summary(made).configurations[0]
    assert (row.objective, row.done, row.wanted) == (Spread(1.0, None, 1), 1, 1)


def test_settings_that_come_to_the_same_share_their_trials(book: Any) -> None:
    # lambda_scope counts only while mix is hierarchical, so the second row is the first one again, trials included.
    made = book(seeds=[0])
    made.configuration(0, {0: _scores(1.0, 0.5)}, {"spc.mix": "code"}, "code")
    made.configuration(1, {}, {"spc.mix": "code", "spc.lambda_scope": "batch"}, "code, other scope")
    made.configuration(2, {}, {"spc.mix": "hierarchical"}, "hierarchical")
    assert [row.done for row in _summary(made).configurations] == [1, 1, 0]


@pytest.mark.parametrize(
    ("metric", "published", "ours"),
    [("acc", 80.6, 0.806), ("acc", 0.806, 0.806), ("spc/nmi", 75.4, 0.754), ("spc/loss", 2.5, 2.5)],
)
def test_percentages_of_label_metrics_become_shares(metric: str, published: float, ours: float) -> None:
    assert on_our_scale(metric, published) == pytest.approx(ours)


def test_ablation_rows_stand_in_the_order_of_the_file_with_their_difference(ablation: Any) -> None:
    without, with_ = _summary(ablation).ablation
    assert (without.row.label, with_.row.label) == ("without", "with")
    # Mean of 0.81 and 0.83 less 80.60 %.
    assert without.differences == {"acc": pytest.approx(0.014)}
    # nmi was published and not measured: it has no difference, not a difference to zero.
    assert with_.published == {"acc": pytest.approx(0.885), "nmi": 0.7}
    assert with_.differences == {"acc": pytest.approx(0.015)}


def test_prepare_rows_say_what_was_reused(sweep: Any) -> None:
    (row,) = _summary(sweep).prepare
    assert (row.seed, row.status, row.stages[0].cached, row.seconds) == (0, "DONE", True, 2.0)


def test_cost_adds_up_trials_and_prepare_cells(sweep: Any) -> None:
    # Seven finished trials of 2 s with one reused and one computed stage each; one prepare cell that was reused.
    cost = _summary(sweep).cost
    assert (cost.prepare_s, cost.trials_s, cost.computed, cost.reused) == (2.0, 14.0, 7, 8)


def test_the_same_ledger_gives_the_same_summary(sweep: Any) -> None:
    assert vars(_summary(sweep)) == vars(_summary(sweep))


@pytest.mark.parametrize("as_json", [True, False])
def test_the_end_of_a_sweep_reads_the_launch_once(
    sweep: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], as_json: bool
) -> None:
    reads, notes = [], []

    def configurations(ledger: Ledger, launch: int) -> Any:
        reads.append(launch)
        return read(ledger, launch)

    read = Ledger.configurations
    monkeypatch.setattr(Ledger, "configurations", configurations)
    state = SimpleNamespace(trial_queue=SimpleNamespace(finished=True, halted=False), status="done", seconds={})
    tracker = SimpleNamespace(
        start=lambda: None,
        log_parent=lambda files, note, metrics: notes.append(note),
        close=lambda seconds: "",
        ids=lambda: {"uri": None},
        model_error="",
        note="",
    )
    monkeypatch.setattr(end_of_sweep, "Tracker", lambda *arguments: tracker)
    ledger = Ledger(place_of(named(str(sweep.storage))))
    opened = end_of_sweep._Opened
    monkeypatch.setattr(end_of_sweep, "_opened", lambda asked: opened(asked, ledger, sweep.launch, size, ""))
    monkeypatch.setattr(end_of_sweep.launch, "leased", lambda *arguments: nullcontext(state))
    monkeypatch.setattr(end_of_sweep.embeddings, "draw", lambda *arguments: [])
    monkeypatch.setattr(end_of_sweep.optuna_export, "export", lambda *arguments: "")
    request: Any = SimpleNamespace(study=SimpleNamespace(file="page.yaml"), storage=named(str(sweep.storage)))
    size: Any = None
    data: Any = None
    assert end_of_sweep.carry_out(request, data, again="", as_json=as_json) == 0
    assert reads == [sweep.launch.id] and "Best by" in notes[0]
    assert (sweep.storage / "spc" / "report.html").exists()
    printed = capsys.readouterr().out
    assert json.loads(printed)["best"]["seeds"] == 3 if as_json else "Best by" in printed


def test_a_report_reads_the_launch_once(sweep: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    reads = []

    def configurations(ledger: Ledger, launch: int) -> Any:
        reads.append(launch)
        return read(ledger, launch)

    read = Ledger.configurations
    monkeypatch.setattr(Ledger, "configurations", configurations)
    report.reported(["spc"], named(str(sweep.storage)))
    assert reads == [sweep.launch.id]
