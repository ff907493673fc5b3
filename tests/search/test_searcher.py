"""Which settings a study tries, drawn by number."""

from collections.abc import Callable
from platform.search.samplers import CompletedTrial, distribution
from platform.search.searcher import Searcher, lookahead
from platform.study.domains import Choice, Range
from platform.study.study import Study

import optuna
import pytest

MakeStudy = Callable[[str], Study]

PAGE = """\
    method: spc
    search:
      spc.strong_threshold: {uniform: [0.5, 0.99]}
      spc.optimizer.lr: {loguniform: [0.001, 0.1]}
      spc.graph_neighbors: {int: [5, 50], step: 5}
      spc.mix: {choice: [hierarchical, code]}
    sampler: {name: SAMPLER, startup: 2}
    trials: 20
    """


def study(make_study: MakeStudy, sampler: str = "tpe") -> Study:
    return make_study(PAGE.replace("SAMPLER", sampler))


@pytest.mark.parametrize(("slots", "seeds", "ahead"), [(1, 1, 2), (1, 3, 2), (4, 3, 3), (8, 3, 4), (6, 3, 3)])
def test_as_many_settings_may_be_under_way_as_keep_the_slots_busy(slots: int, seeds: int, ahead: int) -> None:
    # ceil(slots / seeds) settings fill the slots; one more is drawn while they run.
    assert lookahead(slots, seeds) == ahead


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_a_draw_is_decided_by_its_number_and_what_was_told(make_study: MakeStudy, sampler: str) -> None:
    page = study(make_study, sampler)
    first = Searcher(page)
    configurations: list[dict[str, object]] = []
    for number in range(6):
        configurations.append(first.draw(number, told(configurations, number - 1), configurations)[1])
    # A new one, asked for the last number only.
    assert Searcher(page).draw(5, told(configurations, 4), configurations[:5])[1] == configurations[5]


GRID = """\
    method: spc
    grid:
      spc.mix: [hierarchical, code]
    search:
      spc.strong_threshold: {uniform: [0.5, 0.99]}
      spc.optimizer.lr: {loguniform: [0.001, 0.1]}
    sampler: {name: tpe, startup: 2}
    trials: 20
    """


def test_a_draw_after_many_others_is_that_of_a_new_searcher(make_study: MakeStudy) -> None:
    # What it heard step by step, by combination of the grid, is what it would hear at once.
    page = make_study(GRID)
    steady, configurations = Searcher(page), list[dict[str, object]]()
    for number in range(24):
        configurations.append(steady.draw(number, told(configurations, number - 1), configurations)[1])
    for number in (22, 23):
        assert (
            Searcher(page).draw(number, told(configurations, number - 1), configurations[:number])[1]
            == configurations[number]
        )


def test_a_searcher_that_is_told_less_starts_anew(make_study: MakeStudy) -> None:
    page = study(make_study)
    used, configurations = Searcher(page), list[dict[str, object]]()
    for number in range(8):
        configurations.append(used.draw(number, told(configurations, number - 1), configurations)[1])
    assert used.draw(5, told(configurations, 4), configurations[:5])[1] == configurations[5]


def told(configurations: list[dict[str, object]], count: int) -> list[CompletedTrial]:
    return [
        CompletedTrial(number, params, (float(str(params["spc.strong_threshold"])),))
        for number, params in enumerate(configurations[: max(0, count)])
    ]


def test_a_setting_lies_in_its_domains(make_study: MakeStudy) -> None:
    searcher = Searcher(study(make_study, "random"))
    for number in range(20):
        _, params = searcher.draw(number, [], [])
        assert 0.5 <= params["spc.strong_threshold"] <= 0.99
        assert params["spc.graph_neighbors"] in range(5, 51, 5)
        assert params["spc.mix"] in ("hierarchical", "code")


def test_tpe_learns_from_what_it_is_told(make_study: MakeStudy) -> None:
    page = make_study(
        """\
        method: spc
        search: {spc.strong_threshold: {uniform: [0.1, 0.99]}}
        sampler: {name: tpe, startup: 4}
        trials: 40
        """
    )
    searcher = Searcher(page)
    configurations: list[dict[str, object]] = []
    for number in range(40):
        known = [
            CompletedTrial(index, params, (abs(float(str(params["spc.strong_threshold"])) - 0.3),))
            for index, params in enumerate(configurations)
        ]
        configurations.append(searcher.draw(number, known, configurations)[1])
    distances = [abs(float(str(params["spc.strong_threshold"])) - 0.3) for params in configurations]
    # Four random settings, then ever nearer to 0.3.
    assert sum(distances[-10:]) < sum(distances[:10]) / 2


def test_a_setting_that_failed_is_told_without_a_value(make_study: MakeStudy) -> None:
    page = study(make_study)
    searcher = Searcher(page)
    first = searcher.draw(0, [], [])[1]
    assert searcher.draw(1, [CompletedTrial(0, first, None)], [first])[1] != first


def test_a_grid_is_walked_in_order(make_study: MakeStudy) -> None:
    page = make_study(
        """\
        method: spc
        search:
          spc.graph_neighbors: {choice: [5, 20]}
          spc.mix: {choice: [hierarchical, code]}
        sampler: grid
        """
    )
    searcher = Searcher(page)
    assert searcher.total == 4
    found = [tuple(searcher.draw(number, [], [])[1].values()) for number in range(4)]
    assert found == [(5, "hierarchical"), (5, "code"), (20, "hierarchical"), (20, "code")]


def test_a_finite_space_gives_every_setting_once(make_study: MakeStudy) -> None:
    page = make_study(
        """\
        method: spc
        search:
          spc.graph_neighbors: {choice: [5, 10, 20, 30, 40]}
          spc.mix: {choice: [hierarchical, code]}
        sampler: random
        trials: 100
        """
    )
    searcher, configurations = Searcher(page), []
    assert searcher.total == 10
    for number in range(searcher.total):
        configurations.append(searcher.draw(number, [], configurations)[1])
    assert len({tuple(params.values()) for params in configurations}) == 10


def test_an_ablation_gives_its_rows_by_name(make_study: MakeStudy) -> None:
    searcher = Searcher(
        make_study("method: spc\nablate:\n  a: {}\n  b: {spc.intersection_requires_label_agreement: true}\n")
    )
    assert searcher.total == 2
    assert [searcher.draw(number, [], []) for number in range(2)] == [
        ("a", {}),
        ("b", {"spc.intersection_requires_label_agreement": True}),
    ]


def test_without_search_there_is_the_fixed_setting_alone(make_study: MakeStudy) -> None:
    searcher = Searcher(make_study("method: spc\n"))
    assert (searcher.total, searcher.draw(0, [], [])) == (1, ("", {}))


@pytest.mark.parametrize(
    ("domain", "expected"),
    [
        (Choice("a", (1, 2)), optuna.distributions.CategoricalDistribution((1, 2))),
        (Range("a", 0.1, 0.9), optuna.distributions.FloatDistribution(0.1, 0.9)),
        (Range("a", 0.1, 0.9, log=True), optuna.distributions.FloatDistribution(0.1, 0.9, log=True)),
        (Range("a", 1, 9, whole=True), optuna.distributions.IntDistribution(1, 9)),
        (Range("a", 1, 9, whole=True, step=2), optuna.distributions.IntDistribution(1, 9, step=2)),
    ],
)
def test_a_domain_has_optuna_s_name(domain: Choice | Range, expected: object) -> None:
    assert distribution(domain) == expected


CONDITIONAL = {
    "a grid": ("search: {scan.an.mode: [none, correction], scan.an.top_k: [2, 3, 5]}\nsampler: grid\n", 4),
    "a random search": (
        "search: {scan.an.mode: [none, correction], scan.an.top_k: [2, 3, 5]}\nsampler: random\ntrials: 50\n", 4,
    ),
    "a search by tpe": ("search: {scan.an.mode: [none, correction], scan.an.top_k: [2, 3, 5]}\ntrials: 50\n", 4),
    "a grid block": ("grid: {scan.an.mode: [none, correction], scan.an.top_k: [2, 3, 5]}\n", 4),
    "a switch in the block": (
        "grid: {scan.an.mode: [none, correction]}\nsearch: {scan.an.top_k: [2, 3, 5]}\nsampler: grid\n", 4,
    ),
    "a switch in the block, by tpe": (
        "grid: {scan.an.mode: [none, correction]}\nsearch: {scan.an.top_k: [2, 3, 5]}\ntrials: 9\n", 4,
    ),
    "a switch that is searched": (
        "grid: {scan.an.top_k: [2, 3]}\nsearch: {scan.an.mode: [none, correction]}\nsampler: grid\n", 4,
    ),
    "nothing conditional": ("search: {scan.epochs: [1, 2], scan.batch_size: [8, 16]}\nsampler: grid\n", 4),
}  # fmt: skip


@pytest.mark.parametrize("kind", CONDITIONAL)
def test_settings_that_do_not_count_make_no_setting_twice(kind: str, make_study: MakeStudy) -> None:
    page, number = CONDITIONAL[kind]
    searcher = Searcher(make_study("method: scan_loss\n" + page))
    assert searcher.total == number
    configurations = list[dict[str, object]]()
    for each in range(searcher.total):
        configurations.append(searcher.draw(each, [], configurations)[1])
    if kind != "a switch that is searched":  # which of its values count is known at the end alone
        assert len({tuple(sorted(params.items())) for params in configurations}) == number


def test_a_setting_drawn_before_another_was_searched_is_not_drawn_again(make_study: MakeStudy) -> None:
    before = [{"scan.an.top_k": 2}, {"scan.an.top_k": 3}]
    page = "method: scan_loss\nfixed: {scan.an.mode: correction}\nsearch: {scan.an.top_k: [2, 3]}\nsampler: grid\n"
    assert Searcher(make_study(page)).total == 2
    page = (
        "method: scan_loss\nsearch: {scan.an.mode: [correction, none], scan.an.top_k: [2, 3]}\nsampler: grid\n"
        "fixed: {}\n"
    )
    searcher = Searcher(make_study(page))
    default = {"scan.an.mode": "none"}
    assert searcher._meaning(before[0]) == searcher._meaning(default)
    assert searcher.draw(2, [], [*before[:0], default, {"scan.an.mode": "correction", "scan.an.top_k": 2}])[1] == {
        "scan.an.mode": "correction",
        "scan.an.top_k": 3,
    }
