"""Every sampler: fixed by its number and what was told, inside the domains, and better than chance where it learns."""

from collections.abc import Callable, Sequence
from platform.search.samplers import CompletedTrial, Params
from platform.search.searcher import Searcher
from platform.study.study import Study
from statistics import fmean
from typing import Any

import pytest

MakeStudy = Callable[[str], Study]
LEARNING = ("tpe", "cmaes", "gp", "nsga2")
EVERY = (*LEARNING, "qmc", "random")
DELTA, RATE, K2 = "spc.strong_threshold", "spc.optimizer.lr", "spc.graph_neighbors"

PAGE = """\
    method: spc
    search:
      spc.strong_threshold: {uniform: [0.1, 0.99]}
      spc.optimizer.lr: {loguniform: [0.001, 0.1]}
      spc.graph_neighbors: {int: [5, 50], step: 5}
    sampler: {name: SAMPLER, startup: 4, population: 6}
    trials: 60
    """


def page(make_study: MakeStudy, sampler: str, text: str = PAGE) -> Study:
    return make_study(text.replace("SAMPLER", sampler))


def cost(params: Params) -> float:
    """Planted: the best is a threshold of 0.3."""
    return abs(float(params[DELTA]) - 0.3)


def told(configurations: Sequence[Params], values: Callable[[Params], Sequence[float] | None]) -> list[CompletedTrial]:
    found = [(number, params, values(params)) for number, params in enumerate(configurations)]
    return [CompletedTrial(number, params, None if value is None else tuple(value)) for number, params, value in found]


def drawn(study: Study, count: int, lag: int = 1, values: Any = lambda params: (cost(params),)) -> list[Params]:
    """The first settings, each drawn while the ``lag`` ones before it were still under way."""
    searcher, configurations = Searcher(study), list[Params]()
    for number in range(count):
        configurations.append(
            searcher.draw(number, told(configurations, values)[: max(0, number - lag)], configurations)[1]
        )
    return configurations


@pytest.mark.parametrize("sampler", EVERY)
def test_a_restarted_search_draws_the_same(make_study: MakeStudy, sampler: str) -> None:
    study = page(make_study, sampler)
    configurations = drawn(study, 16, lag=2)
    # Another process, which was told everything at once and drew nothing before.
    known = told(configurations, lambda params: (cost(params),))[:13]
    assert Searcher(study).draw(15, known, configurations[:15])[1] == configurations[15]


def test_tpe_learns_within_ten_settings(make_study: MakeStudy) -> None:
    """Optuna's own share of good settings is a single one until the eleventh, and finds no better than chance."""

    def found(sampler: str, seed: int) -> float:
        text = PAGE.replace("name: SAMPLER", f"name: {sampler}, seed: {seed}")
        return min(cost(params) for params in drawn(make_study(text), 10))

    repetitions = range(12)
    assert fmean(found("tpe", seed) for seed in repetitions) < 0.75 * fmean(
        found("random", seed) for seed in repetitions
    )


@pytest.mark.parametrize("sampler", EVERY)
def test_settings_lie_in_their_domains_and_differ(make_study: MakeStudy, sampler: str) -> None:
    configurations = drawn(page(make_study, sampler), 14)
    for params in configurations:
        assert 0.1 <= params[DELTA] <= 0.99 and 0.001 <= params[RATE] <= 0.1
        assert params[K2] in range(5, 51, 5) and type(params[K2]) is int
    assert len({str(params) for params in configurations}) == 14


@pytest.mark.parametrize("sampler", LEARNING)
def test_a_learning_sampler_comes_nearer(make_study: MakeStudy, sampler: str) -> None:
    costs = [cost(params) for params in drawn(page(make_study, sampler), 48)]
    assert fmean(costs[36:]) < 0.6 * fmean(costs[:6])


@pytest.mark.parametrize("sampler", EVERY)
def test_settings_that_failed_do_not_break_it(make_study: MakeStudy, sampler: str) -> None:
    def values(params: Params) -> Sequence[float] | None:
        return None if params[K2] < 30 else (cost(params),)

    assert len(drawn(page(make_study, sampler), 20, values=values)) == 20
    assert len(drawn(page(make_study, sampler), 8, values=lambda params: None)) == 8


def test_quasi_random_settings_fill_the_space_evenly(make_study: MakeStudy) -> None:
    configurations = drawn(page(make_study, "qmc"), 32)
    # A Sobol sequence has one of its first 32 points in each 32nd of every axis.
    parts = sorted(int((params[DELTA] - 0.1) / 0.89 * 32) for params in configurations)
    assert parts == list(range(32))


# Several objectives

TWO = """\
    method: spc
    search: {spc.strong_threshold: {uniform: [0.1, 0.99]}, spc.optimizer.lr: {loguniform: [0.001, 0.1]}}
    sampler: {name: SAMPLER, startup: 4, population: 6}
    objective: [{metric: spc/loss, mode: min}, {metric: spc/selection_loss, mode: max}]
    trials: 60
    """


@pytest.mark.parametrize("sampler", ["tpe", "gp", "nsga2", "qmc", "random"])
def test_two_objectives_are_followed(make_study: MakeStudy, sampler: str) -> None:
    study = page(make_study, sampler, TWO)
    configurations = drawn(study, 12, values=lambda params: (cost(params), -cost(params)))
    known = told(configurations, lambda params: (cost(params), -cost(params)))[:10]
    assert Searcher(study).draw(11, known, configurations[:11])[1] == configurations[11]


# A grid block outside

BLOCKS = """\
    method: spc
    grid: {spc.mix: [hierarchical, code], spc.graph_neighbors: [5, 20]}
    search: {spc.strong_threshold: {uniform: [0.1, 0.99]}, spc.optimizer.lr: {loguniform: [0.001, 0.1]}}
    sampler: {name: SAMPLER, startup: 4}
    trials: 12
    """


def test_every_combination_has_its_own_search(make_study: MakeStudy) -> None:
    study = page(make_study, "tpe", BLOCKS)
    searcher = Searcher(study)
    assert searcher.total == study.num_settings == 48
    configurations = drawn(study, 48)
    for block in range(4):
        own = configurations[block::4]
        assert len({(params["spc.mix"], params[K2]) for params in own}) == 1
    assert len({(params["spc.mix"], params[K2]) for params in configurations[:4]}) == 4


def test_a_combination_learns_from_its_own_settings_only(make_study: MakeStudy) -> None:
    study = page(make_study, "tpe", BLOCKS)
    configurations = drawn(study, 40)
    known = told(configurations, lambda params: (cost(params),))
    other = [each if each.number % 4 == 0 else CompletedTrial(each.number, each.params, (123.0,)) for each in known]
    assert Searcher(study).draw(40, other, configurations)[1] == Searcher(study).draw(40, known, configurations)[1]
    assert Searcher(study).draw(41, other, configurations)[1] != Searcher(study).draw(41, known, configurations)[1]


def test_more_trials_only_append(make_study: MakeStudy) -> None:
    few, more = page(make_study, "tpe", BLOCKS), page(make_study, "tpe", BLOCKS.replace("trials: 12", "trials: 20"))
    assert drawn(more, 60)[:48] == drawn(few, 48)


def test_a_grid_block_alone_runs_each_combination(make_study: MakeStudy) -> None:
    study = make_study("method: spc\ngrid: {spc.mix: [hierarchical, code], spc.graph_neighbors: [5, 20]}\n")
    assert Searcher(study).total == 4
    assert drawn(study, 4, values=lambda params: (0.0,))[1] == {"spc.mix": "hierarchical", K2: 20}


# Starts

START = """\
    method: spc
    search: {spc.strong_threshold: {uniform: [0.1, 0.6]}, spc.optimizer.lr: {loguniform: [0.001, 0.1]}}
    start: [paper, {spc.strong_threshold: 0.5}]
    sampler: SAMPLER
    trials: 12
    """


def test_the_published_values_come_first_then_the_other_starts(make_study: MakeStudy) -> None:
    study = page(make_study, "random", START)
    defaults = study.stages["spc"].Config()
    first, second, third = drawn(study, 3)
    assert first == {DELTA: defaults.strong_threshold, RATE: defaults.optimizer.lr}
    assert second == {DELTA: 0.5, RATE: defaults.optimizer.lr}
    assert 0.1 <= third[DELTA] <= 0.6


@pytest.mark.parametrize("sampler", EVERY)
def test_a_start_outside_of_the_range_is_run_and_not_learned_from(make_study: MakeStudy, sampler: str) -> None:
    # The paper's threshold is above the searched range.
    study = page(make_study, sampler, START)
    assert drawn(study, 1)[0][DELTA] > 0.6
    assert all(params[DELTA] <= 0.6 for params in drawn(study, 12)[1:])


# Conditions

CONDITIONS = """\
    method: spc
    search:
      pretext.views.crop_min_area: {uniform: [0.1, 0.9]}
      pretext.augmentation: [simclr, affine]
    sampler: SAMPLER
    trials: 30
    """


@pytest.mark.parametrize("sampler", [*EVERY[:1], "gp", "nsga2", "qmc", "random"])
def test_what_does_not_count_is_not_drawn(make_study: MakeStudy, sampler: str) -> None:
    study = page(make_study, sampler, CONDITIONS)

    def values(params: Params) -> Sequence[float]:
        return (float(params.get("pretext.views.crop_min_area", 0.5)),)

    configurations = drawn(study, 12, values=values)
    kinds = {params["pretext.augmentation"] for params in configurations}
    assert kinds == {"simclr", "affine"}
    for params in configurations:
        assert ("pretext.views.crop_min_area" in params) == (params["pretext.augmentation"] == "simclr")
