"""What runs next and what becomes of it: the same settings whatever ends first, after any restart, each cell once."""

import random
from collections.abc import Callable, Mapping
from pathlib import Path
from platform.run.board import Board
from platform.run.ledger import Ledger
from platform.run.rows import DONE, FAILED, PENDING
from platform.study.plan import shared_parts
from platform.study.schema import Study
from typing import Any

import pytest

MakeStudy = Callable[[str], Study]
MakeBoard = Callable[..., Board]

SEARCH = """\
    method: spc
    seeds: [0, 1]
    search:
      spc.strong_threshold: {uniform: [0.5, 0.99]}
      spc.graph_neighbors: {choice: [5, 20]}
    sampler: {name: tpe, seed: 3, startup: 3}
    trials: 9
    objective: {metric: spc/selection_loss, mode: min}
    """

FINITE = """\
    method: spc
    search:
      spc.graph_neighbors: {choice: [5, 20]}
      spc.mix: {choice: [hierarchical, code]}
    sampler: random
    trials: 30
    """

ABLATION = """\
    method: spc
    seeds: [0, 1]
    ablate:
      whole: {}
      "without refinement": {spc.refine: false}
      "without balance": {scan.entropy_weight: 0.0}
    """


def value(cell: Mapping[str, Any]) -> float:
    """A loss that a cell's settings decide, as if it had been trained."""
    return abs(float(cell["changes"].get("spc.strong_threshold", 0.0)) - 0.8) + 0.01 * int(cell["seed"])


def end(board: Board, key: str, cell: Mapping[str, Any]) -> None:
    metrics = {} if cell["kind"] == "prepare" else {"spc/selection_loss": value(cell)}
    board.done(key, {"metrics": metrics, "stages": [], "seconds": 1.0})


def play(board: Board, chance: random.Random, slots: int = 4, ends: int = 10_000) -> list[str]:
    """Run a board: fill the slots, end one of the running cells drawn by ``chance``, at most ``ends`` times."""
    running: dict[str, Mapping[str, Any]] = {}
    out: list[str] = []
    for _ in range(ends):
        while len(running) < slots and (found := board.next()) is not None:
            key, cell = found
            board.started(key)
            running[key] = cell
            out.append(key)
        if not running:
            break
        key = chance.choice(sorted(running))
        end(board, key, running.pop(key))
    return out


def proposed(board: Board) -> list[Mapping[str, Any]]:
    return [setting.params for setting in board.settings]


@pytest.fixture
def reference(make_study: MakeStudy, make_board: MakeBoard) -> list[Mapping[str, Any]]:
    """What one slot proposes, whose cells end in order."""
    board = make_board(make_study(SEARCH), "reference.db")
    play(board, random.Random(0), slots=1)
    assert board.finished
    return proposed(board)


@pytest.mark.parametrize("order", range(6))
def test_the_settings_do_not_depend_on_which_cells_end_first(
    make_study: MakeStudy, make_board: MakeBoard, reference: list[Mapping[str, Any]], order: int
) -> None:
    board = make_board(make_study(SEARCH))
    play(board, random.Random(order), slots=1 + order)
    assert board.finished
    assert proposed(board) == reference


@pytest.mark.parametrize("ends", range(1, 20, 3))
def test_the_settings_are_the_same_after_a_restart_at_any_point(
    make_study: MakeStudy, make_board: MakeBoard, reference: list[Mapping[str, Any]], ends: int
) -> None:
    study = make_study(SEARCH)
    play(make_board(study), random.Random(1), ends=ends)
    # The first driver is gone, with cells running; a new one opens the same ledger.
    board = make_board(study)
    play(board, random.Random(2))
    assert board.finished
    assert proposed(board) == reference


def test_a_driver_restarted_after_every_cell_proposes_the_same(
    make_study: MakeStudy, make_board: MakeBoard, reference: list[Mapping[str, Any]]
) -> None:
    study = make_study(SEARCH)
    for _ in range(50):
        board = make_board(study)
        if board.finished:
            break
        play(board, random.Random(3), ends=1)
    assert board.finished
    assert proposed(board) == reference


def test_a_board_made_again_writes_nothing(make_study: MakeStudy, make_board: MakeBoard, tmp_path: Path) -> None:
    # Ten thousand settings that are done already would be ten thousand waits for the disk.
    study = make_study(SEARCH)
    play(make_board(study), random.Random(1))
    ledger = Ledger(tmp_path / "l.db")
    launch = ledger.open_launch(study.name, {}, {}, lookahead=3)
    written: list[str] = []
    ledger._connection.set_trace_callback(written.append)  # noqa: SLF001 - what it asks of SQLite is the point
    board = Board(ledger, launch, study, fingerprints={"fingerprint": "f"}, shared=shared_parts(study), storage="/s")
    assert board.finished
    assert [text for text in written if not text.startswith("SELECT")] == []


def test_what_has_ended_is_known_in_its_order_also_after_a_restart(
    make_study: MakeStudy, make_board: MakeBoard
) -> None:
    study = make_study(SEARCH)
    first = make_board(study)
    play(first, random.Random(1), ends=9)
    again = make_board(study)
    assert [trial.key for trial in first.ended] == [trial.key for trial in again.ended]
    assert len(again.ended) == 9
    play(again, random.Random(2))
    assert len(again.ended) == len(again.trials) == again.num_trials + again.num_prepare
    assert [trial.sequence for trial in again.ended] == sorted(trial.sequence or 0 for trial in again.trials)


def test_a_cell_that_is_done_is_never_handed_out_again(make_study: MakeStudy, make_board: MakeBoard) -> None:
    study = make_study(SEARCH)
    first = make_board(study)
    play(first, random.Random(1), ends=11)
    done = {trial.key for trial in first.trials if trial.state == DONE}
    assert len(done) == 11
    again = set(play(make_board(study), random.Random(2)))
    assert done.isdisjoint(again)


def test_every_cell_is_handed_out_once(make_study: MakeStudy, make_board: MakeBoard) -> None:
    board = make_board(make_study(SEARCH))
    keys = play(board, random.Random(4))
    # 9 settings with 2 seeds, and one prepare cell a seed.
    assert len(keys) == len(set(keys)) == 9 * 2 + 2


def test_a_setting_is_not_drawn_before_its_lookahead_allows(make_study: MakeStudy, make_board: MakeBoard) -> None:
    # Setting i needs settings 0 .. i - 3 to have ended: with none ended there are three.
    board = make_board(make_study(SEARCH), lookahead=3)
    for key, cell in board.prepare_cells:
        board.started(key)
        end(board, key, cell)
    handed = []
    while (found := board.next()) is not None:
        handed.append(found)
    assert len(board.settings) == 3 and len(handed) == 6
    # One seed of setting 0 is not the setting.
    end(board, *handed[0])
    assert board.next() is None
    end(board, *handed[1])
    assert board.next() is not None
    assert len(board.settings) == 4


def test_another_sampler_seed_proposes_other_settings(
    make_study: MakeStudy, make_board: MakeBoard, reference: list[Mapping[str, Any]]
) -> None:
    board = make_board(make_study(SEARCH.replace("seed: 3", "seed: 4")))
    play(board, random.Random(0))
    assert proposed(board) != reference


def test_no_setting_is_proposed_twice(reference: list[Mapping[str, Any]]) -> None:
    texts = [str(sorted(params.items())) for params in reference]
    assert len(set(texts)) == len(texts) == 9


def test_a_finite_space_is_exhausted_and_then_finished(make_study: MakeStudy, make_board: MakeBoard) -> None:
    board = make_board(make_study(FINITE))
    play(board, random.Random(0))
    assert board.finished
    found = {(params["spc.graph_neighbors"], params["spc.mix"]) for params in proposed(board)}
    assert found == {(5, "hierarchical"), (5, "code"), (20, "hierarchical"), (20, "code")}
    assert len(proposed(board)) == 4


def test_settings_that_differ_in_nothing_that_counts_are_one_cell(make_study: MakeStudy, make_board: MakeBoard) -> None:
    # Without refinement its learning rate does not count.
    text = """\
        method: spc
        search:
          spc.refine: {choice: [true, false]}
          spc.lr: {choice: [0.01, 0.02]}
        sampler: grid
        """
    board = make_board(make_study(text))
    keys = play(board, random.Random(0))
    assert board.finished
    assert len(board.settings) == 4
    assert len([trial for trial in board.trials if trial.kind == "trial"]) == 3
    assert len(keys) == len(set(keys)) == 4


def test_rows_of_an_ablation_come_in_the_order_of_the_file(make_study: MakeStudy, make_board: MakeBoard) -> None:
    board = make_board(make_study(ABLATION))
    play(board, random.Random(5))
    assert [setting.variant for setting in board.settings] == ["whole", "without refinement", "without balance"]
    assert board.finished


def test_a_study_without_search_is_one_setting_with_every_seed(make_study: MakeStudy, make_board: MakeBoard) -> None:
    board = make_board(make_study("method: spc\nseeds: [0, 1, 2]\n"))
    play(board, random.Random(0))
    assert board.finished
    assert [(trial.kind, trial.seed) for trial in board.trials] == [("trial", 0), ("trial", 1), ("trial", 2)]


# Prepare


def test_no_trial_starts_before_its_seed_is_prepared(make_study: MakeStudy, make_board: MakeBoard) -> None:
    board = make_board(make_study(SEARCH))
    first, second = board.next(), board.next()
    assert first is not None and second is not None
    assert [first[1]["kind"], second[1]["kind"]] == ["prepare", "prepare"]
    assert board.next() is None
    end(board, *first)
    trial = board.next()
    assert trial is not None
    assert (trial[1]["kind"], trial[1]["seed"]) == ("trial", first[1]["seed"])


def test_a_prepare_cell_ends_at_the_last_stage_that_nothing_touches(
    make_study: MakeStudy, make_board: MakeBoard
) -> None:
    ((_, first), (_, second)) = make_board(make_study(SEARCH)).prepare_cells
    assert (first["until"], second["until"]) == ("scan", "scan")


def test_a_failed_prepare_fails_its_seed_s_trials_with_the_reason(make_study: MakeStudy, make_board: MakeBoard) -> None:
    board = make_board(make_study(SEARCH))
    found = board.next()
    assert found is not None
    key, cell = found
    board.started(key)
    board.failed(key, "Diverged: pretext: loss is nan")
    play(board, random.Random(0))
    assert board.finished
    trials = [trial for trial in board.trials if trial.kind == "trial"]
    mine = [trial for trial in trials if trial.seed == cell["seed"]]
    others = [trial for trial in trials if trial.seed != cell["seed"]]
    assert len(mine) == len(others) == 9
    assert {trial.state for trial in mine} == {FAILED}
    assert {trial.error for trial in mine} == {
        f"the stages shared by seed {cell['seed']} failed: Diverged: pretext: loss is nan"
    }
    assert {trial.state for trial in others} == {DONE}


def test_when_every_prepare_fails_the_launch_is_finished_without_a_trial(
    make_study: MakeStudy, make_board: MakeBoard
) -> None:
    board = make_board(make_study(SEARCH))
    for key, _ in board.prepare_cells:
        board.started(key)
        board.failed(key, "no")
    assert board.next() is None
    assert board.finished


def test_a_new_driver_tries_failed_cells_again(make_study: MakeStudy, make_board: MakeBoard) -> None:
    study = make_study(SEARCH)
    first = make_board(study)
    for key, _ in first.prepare_cells:
        first.started(key)
        first.failed(key, "no")
    assert first.next() is None
    board = make_board(study)
    assert {trial.state for trial in board.trials} == {PENDING}
    play(board, random.Random(0))
    assert {trial.state for trial in board.trials} == {DONE}


# Failures


def test_a_setting_with_a_failed_seed_counts_with_the_mean_of_the_others(
    make_study: MakeStudy, make_board: MakeBoard
) -> None:
    board = make_board(make_study(SEARCH), lookahead=1)
    for key, cell in board.prepare_cells:
        board.started(key)
        end(board, key, cell)
    first, second = board.next(), board.next()
    assert first is not None and second is not None
    assert board.next() is None
    board.failed(first[0], "no")
    end(board, *second)
    assert board.next() is not None


def test_a_cell_that_failed_is_not_handed_out_by_the_same_driver(make_study: MakeStudy, make_board: MakeBoard) -> None:
    board = make_board(make_study("method: spc\n"))
    found = board.next()
    assert found is not None
    board.started(found[0])
    board.failed(found[0], "no")
    assert board.next() is None
    assert board.finished


def test_a_setting_without_the_objective_s_metric_does_not_stop_the_search(
    make_study: MakeStudy, make_board: MakeBoard
) -> None:
    # Without refinement there is no spc/loss.
    text = """\
        method: spc
        search:
          spc.refine: {choice: [true, false]}
        objective: {metric: spc/loss, mode: min}
        trials: 2
        """
    board = make_board(make_study(text), lookahead=1)
    while (found := board.next()) is not None:
        key, cell = found
        refined = cell["changes"].get("spc.refine") is True
        board.started(key)
        board.done(key, {"metrics": {"spc/loss": 1.0} if refined else {}, "stages": [], "seconds": 1.0})
    assert board.finished


def test_epochs_are_in_the_ledger_before_the_cell_ends(make_study: MakeStudy, make_board: MakeBoard) -> None:
    board = make_board(make_study("method: spc\n"))
    found = board.next()
    assert found is not None
    board.started(found[0])
    board.epochs(found[0], [{"slot": "spc", "epoch": 1, "total": 2, "metrics": {"loss": 0.5}}])
    (row,) = board._ledger.epochs(board.launch.id, found[0])
    assert (row.slot, row.epoch, row.metrics) == ("spc", 1, {"loss": 0.5})
