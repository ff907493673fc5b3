import warnings
from collections.abc import Callable
from pathlib import Path
from platform.study.domains import Choice, Domain, Range, grid_setting, grid_size
from platform.study.errors import StudyErrors
from platform.study.study import load_study

import optuna
import pytest

Write = Callable[..., Path]


def domain(write: Write, name: str, written: str) -> Domain:
    return load_study(write(f"method: spc\nsearch:\n  {name}: {written}\n")).search[name]


def refusal(write: Write, name: str, written: str) -> str:
    with pytest.raises(StudyErrors) as caught:
        domain(write, name, written)
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "written", "read"),
    [
        ("spc.threshold", "[0.9, 0.95]", Choice("spc.threshold", (0.9, 0.95))),
        ("spc.threshold", "{choice: [0.9, 0.95]}", Choice("spc.threshold", (0.9, 0.95))),
        ("pretext.lr", "[1, 0.5]", Choice("pretext.lr", (1.0, 0.5))),
        ("spc.threshold", "{uniform: [0.1, 0.9]}", Range("spc.threshold", 0.1, 0.9)),
        ("spc.threshold", "{uniform: [0.1, 0.9], step: 0.1}", Range("spc.threshold", 0.1, 0.9, step=0.1)),
        ("pretext.lr", "{loguniform: [1.0e-4, 1]}", Range("pretext.lr", 1e-4, 1.0, log=True)),
        ("neighbors.k", "{int: [1, 9], step: 2}", Range("neighbors.k", 1, 9, whole=True, step=2)),
        ("neighbors.k", "{int: [1, 64], log: true}", Range("neighbors.k", 1, 64, whole=True, log=True)),
        ("neighbors.k", "{min: 1, max: 64, log: true}", Range("neighbors.k", 1, 64, whole=True, log=True)),
        ("pretext.lr", "{min: 0.1, max: 1}", Range("pretext.lr", 0.1, 1.0)),
    ],
)
def test_each_way_of_writing_a_domain(write: Write, name: str, written: str, read: Domain) -> None:
    assert domain(write, name, written) == read


@pytest.mark.parametrize(
    ("name", "written", "sentence"),
    [
        ("spc.threshold", "0.9", "spc.threshold is 0.9; a single value belongs under fixed."),
        ("spc.threshold", "{}", "spc.threshold has no domain. A domain is one of choice: [...], uniform: [low, high]"),
        ("spc.threshold", "[]", "choice must be a list of values, but is []. Write it as [a, b, c]."),
        ("spc.threshold", "[0.9, 0.9]", "spc.threshold lists 0.9 twice. Keep one."),
        ("spc.threshold", "{uniform: [0.9, 0.1]}", "needs low below high, but they are 0.9 and 0.1."),
        ("spc.threshold", "{uniform: [0.1]}", "uniform must be a list of two numbers, low and high, but is [0.1]."),
        ("spc.threshold", "{min: 0.1}", "min needs a max beside it, but has none. Write {min: low, max: high}."),
        (
            "spc.threshold",
            "{uniform: [0.1, 0.9], log: true}",
            "log is not part of uniform. Write loguniform: [low, high].",
        ),
        ("spc.threshold", "{loguniform: [0.1, 0.9], step: 0.1}", "A logarithmic range has no steps"),
        ("spc.threshold", "{uniform: [0.1, 0.9], step: 0}", "step must be a number above 0, but is 0."),
        (
            "spc.threshold",
            "{uniform: [0.1, 0.9], step: 0.3}",
            "steps by 0.3 from 0.1 and never meets 0.9. Write 0.7 as",
        ),
        ("spc.threshold", "{uniform: [0.1, 0.9], stpe: 0.3}", "stpe is not part of uniform. Did you mean 'step'?"),
        ("spc.threshold", "{int: [0, 1]}", "is a number with a fraction. Write uniform: [low, high], with step: 1"),
        ("neighbors.k", "{uniform: [1, 9]}", "neighbors.k is a whole number. Write int: [low, high]."),
        ("neighbors.k", "{loguniform: [1, 9]}", "neighbors.k is a whole number. Write int: [low, high], log: true."),
        ("neighbors.k", "{int: [1, 9], step: 2, log: true}", "has log and step 2 together, which no sampler offers."),
        ("neighbors.k", "{int: [1, 9], log: 1}", "log must be true or false, but is 1."),
        ("neighbors.k", "{int: [1, 9.5]}", "neighbors.k must be a whole number, at least 1, but is 9.5."),
        ("spc.refine", "{uniform: [0, 1]}", "spc.refine is true or false, so it has no range. Write choice: [...]."),
        ("pretext.views", "{int: [0, 1]}", "pretext.views is text, so it has no range. Write choice: [...]."),
    ],
)
def test_a_wrong_domain_is_refused_with_a_way_out(write: Write, name: str, written: str, sentence: str) -> None:
    shown = refusal(write, name, written)
    assert shown.startswith(f"spc.yaml:3: search.{name}: ")
    assert sentence in shown


def test_each_choice_out_of_range_is_named_in_its_own_line(write: Write) -> None:
    shown = refusal(write, "spc.threshold", "\n    - 0.9\n    - 95\n    - 1.7").split("\n")
    assert shown[0] == (
        "spc.yaml:5: search.spc.threshold: spc.threshold must be above 0 and below 1, but is 95. "
        "It is: a prediction above it is sure. It looks like percent; as a share write 0.95."
    )
    assert shown[1].startswith(
        "spc.yaml:6: search.spc.threshold: spc.threshold must be above 0 and below 1, but is 1.7."
    )


def test_both_ends_of_a_range_are_judged(write: Write) -> None:
    assert len(refusal(write, "spc.threshold", "{uniform: [-1, 2]}").split("\n")) == 2


def test_a_logarithmic_range_from_zero_is_refused(write: Write) -> None:
    assert "must be above 0" in refusal(write, "pretext.lr", "{loguniform: [0, 1]}")


@pytest.mark.parametrize(
    ("given", "values"),
    [
        (Range("a.b", 1, 9, whole=True, step=4), (1, 5, 9)),
        (Range("a.b", 0.1, 0.4, step=0.1), (0.1, 0.2, 0.3, 0.4)),
        (Choice("a.b", ("x", "y")), ("x", "y")),
    ],
)
def test_values_are_listed_without_binary_dust(given: Domain, values: tuple[object, ...]) -> None:
    assert tuple(given.value_at(index) for index in range(given.size or 0)) == values
    assert given.size == len(values)


def test_a_continuous_range_has_no_values_to_list() -> None:
    with pytest.raises(ValueError, match="a.b is a continuous range"):
        Range("a.b", 0.0, 1.0).value_at(0)


def test_a_grid_of_a_million_million_settings_is_counted_not_built() -> None:
    domains = {name: Range(name, 1, 10**6, whole=True) for name in ("a.b", "a.c")}
    assert grid_size(domains) == 10**12
    assert grid_setting(domains, 10**12 - 1) == {"a.b": 10**6, "a.c": 10**6}


def test_the_last_name_of_a_grid_turns_fastest() -> None:
    domains = {"a.b": Choice("a.b", (1, 2)), "a.c": Choice("a.c", ("x", "y", "z"))}
    assert [tuple(grid_setting(domains, index).values()) for index in (0, 1, 3)] == [(1, "x"), (1, "y"), (2, "x")]


def test_an_index_outside_the_grid_is_refused() -> None:
    with pytest.raises(IndexError, match="the grid has 2 settings, so there is none at index 2"):
        grid_setting({"a.b": Choice("a.b", (1, 2))}, 2)


@pytest.mark.parametrize(
    "given",
    [
        Choice("a.b", ("x", "y")),
        Range("a.b", 0.1, 0.9),
        Range("a.b", 0.1, 0.9, step=0.1),
        Range("a.b", 1e-4, 1.0, log=True),
        Range("a.b", 1, 9, whole=True, step=2),
        Range("a.b", 1, 64, whole=True, log=True),
    ],
)
def test_optuna_suggests_inside_the_domain_and_without_warning(given: Domain) -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        values = [given.suggest(study.ask()) for _ in range(30)]
    if given.size is not None:
        assert all(given.holds(value) for value in values)
    else:
        assert isinstance(given, Range)
        assert all(given.low <= float(value) <= given.high for value in values)
