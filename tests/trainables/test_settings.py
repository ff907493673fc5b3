"""Settings that know their own rules."""

import math
from dataclasses import dataclass
from typing import Literal

import pytest

from trainables import settings


@dataclass(frozen=True, kw_only=True)
class Config:
    share: float = settings.setting(0.5, "a share of all images", low=0, below=1, unit="as a share")
    count: int = settings.setting(3, "how many", low=1, high=9, unit="images")
    lr: float = settings.setting(0.1, "learning rate", above=0)
    mode: str = settings.setting("off", "which way", choices=("off", "on"))
    decay: float = settings.setting(0.9, "counts only when on", when={"mode": ("on",)})
    flag: bool = settings.setting(True, "yes or no")

    def __post_init__(self) -> None:
        settings.check(self)


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        (
            "share",
            75.0,
            "share must be at least 0 and below 1, but is 75.0. It is: a share of all images",
        ),
        ("share", 1.0, "share must be at least 0 and below 1, but is 1.0. It is: a share of all images"),
        ("count", 0, "count must be at least 1 and at most 9, but is 0. It is: how many"),
        (
            "count",
            2.5,
            "count must be a whole number, at least 1 and at most 9, but is 2.5. It is: how many",
        ),
        ("count", True, "count must be a whole number, at least 1 and at most 9, but is True. It is: how many"),
        ("lr", 0.0, "lr must be above 0, but is 0.0. It is: learning rate"),
        (
            "lr",
            "1e-4",
            "lr must be a number, above 0, but is '1e-4'. It is: learning rate",
        ),
        ("lr", "fast", "lr must be a number, above 0, but is 'fast'. It is: learning rate"),
        ("lr", math.nan, "lr must be above 0, but is nan. It is: learning rate"),
        ("lr", math.inf, "lr must be above 0, but is inf. It is: learning rate"),
        ("mode", "no", "mode must be one of off, on, but is 'no'. It is: which way"),
        ("decay", -math.inf, "decay must be finite, but is -inf. It is: counts only when on"),
        ("flag", 1, "flag must be true or false, but is 1. It is: yes or no"),
    ],
)
def test_a_bad_value_is_refused_with_rule_value_and_meaning(name: str, value: object, sentence: str) -> None:
    with pytest.raises(settings.SettingsError) as caught:
        Config(**{name: value})  # type: ignore[arg-type]
    assert caught.value.faults == [(name, sentence)]


def test_every_bad_value_is_named_at_once() -> None:
    with pytest.raises(settings.SettingsError) as caught:
        Config(share=2.0, count=0, mode="no")
    assert [name for name, _ in caught.value.faults] == ["share", "count", "mode"]


def test_the_name_shown_can_be_the_one_of_the_study_file() -> None:
    sentence = settings.fault(Config, "lr", 0, "scan.lr")
    assert sentence == "scan.lr must be above 0, but is 0. It is: learning rate"


def test_a_whole_number_becomes_a_float_where_one_is_declared() -> None:
    # 1 and 1.0 must be one setting, and so one address.
    assert isinstance(Config(lr=1).lr, float)


def test_a_choice_of_another_type_is_refused_though_it_is_equal() -> None:
    assert not settings.Rule("m", choices=(1, 2)).admits(1.0)


def test_a_setting_counts_only_while_the_others_say_so() -> None:
    assert "decay" not in settings.effective(Config())
    assert settings.effective(Config(mode="on"))["decay"] == 0.9


def test_effective_settings_are_in_the_order_of_their_declaration() -> None:
    assert list(settings.effective(Config(mode="on"))) == ["share", "count", "lr", "mode", "decay", "flag"]


Size = Literal["small", "large"]


@dataclass(frozen=True, kw_only=True)
class WithLiterals:
    size: Size = settings.setting("small", "how large", symbol="s")
    turns: Literal[2, 4] = settings.setting(4, "how many turns")

    def __post_init__(self) -> None:
        settings.check(self)


def test_a_literal_gives_a_setting_its_kind_and_its_choices() -> None:
    rules = settings.rules(WithLiterals)
    assert rules["size"].choices == ("small", "large") and rules["turns"].choices == (2, 4)
    assert (rules["size"].symbol, rules["size"].meaning) == ("s", "how large")
    assert [settings.kind_of(WithLiterals, name) for name in rules] == [str, int]
    assert WithLiterals(size="large", turns=2).turns == 2


def test_values_outside_of_a_literal_are_refused_by_name() -> None:
    with pytest.raises(settings.SettingsError) as refused:
        WithLiterals(size="huge", turns=3)  # type: ignore[arg-type]
    assert refused.value.faults == [
        ("size", "size must be one of small, large, but is 'huge'. It is: how large"),
        ("turns", "turns must be one of 2, 4, but is 3. It is: how many turns"),
    ]


# Groups


@dataclass(frozen=True, kw_only=True)
class Steps:
    kind: str = settings.setting("adam", "which optimizer", choices=("adam", "sgd"))
    lr: float = settings.setting(1e-4, "learning rate", above=0)
    momentum: float = settings.setting(0.9, "momentum of SGD", low=0, below=1, when={"kind": ("sgd",)})

    def __post_init__(self) -> None:
        settings.check(self)


@dataclass(frozen=True, kw_only=True)
class Queue:
    length: int = settings.setting(10, "entries kept", low=1, when={"mode": ("queue",)})

    def __post_init__(self) -> None:
        settings.check(self)


@dataclass(frozen=True, kw_only=True)
class Correction:
    mode: str = settings.setting("none", "what is done", choices=("none", "all", "queue"))
    top_k: int = settings.setting(3, "largest probabilities", low=2, symbol="k", when={"mode": ("all", "queue")})
    low: float = settings.setting(0.1, "smallest share", low=0, high=1)
    high: float = settings.setting(0.9, "largest share", low=0, high=1)
    queue: Queue = settings.group(Queue, when={"mode": ("queue",)}, length=7)
    last_epoch: int = settings.setting(5, "of correction", low=1, when={"epochs": (1, 2)})

    def __post_init__(self) -> None:
        settings.check(self)
        if self.low >= self.high:
            raise settings.SettingsError([("low", f"low must be below high ({self.high:g}), but is {self.low:g}")])


@dataclass(frozen=True, kw_only=True)
class Nested:
    epochs: int = settings.setting(2, "passes", low=1)
    optimizer: Steps = settings.group(Steps, when={"epochs": (2,)}, kind="sgd", lr=0.4)
    an: Correction = settings.group(Correction)
    where: str = settings.setting("", "a file", place=True)

    def __post_init__(self) -> None:
        settings.check(self)


NAMES = [
    "epochs", "optimizer.kind", "optimizer.lr", "optimizer.momentum",
    "an.mode", "an.top_k", "an.low", "an.high", "an.queue.length", "an.last_epoch", "where",
]  # fmt: skip


def test_settings_of_groups_have_dotted_names_in_the_order_of_their_declaration() -> None:
    assert list(settings.rules(Nested)) == NAMES == list(settings.values(Nested()))
    assert settings.groups(Nested) == {"optimizer": Steps, "an": Correction, "an.queue": Queue}
    assert settings.kind_of(Nested, "an.queue.length") is int
    assert settings.rules(Nested)["an.top_k"].symbol == "k"


def test_a_config_gives_a_group_defaults_of_its_own() -> None:
    defaults = settings.defaults(Nested)
    assert (defaults["optimizer.kind"], defaults["optimizer.lr"], defaults["optimizer.momentum"]) == ("sgd", 0.4, 0.9)
    # A value of the group leaves the others at what this Config has, not at the group's.
    built = settings.build(Nested, {"optimizer.momentum": 0.5})
    assert built.optimizer == Steps(kind="sgd", lr=0.4, momentum=0.5)
    assert settings.build(Nested, {"an.queue.length": 3}).an.queue.length == 3
    assert Steps() == Steps(kind="adam", lr=1e-4)


def test_a_condition_names_a_setting_of_the_group_or_else_of_the_config_around_it() -> None:
    when = {name: dict(rule.when) for name, rule in settings.rules(Nested).items()}
    assert when["optimizer.lr"] == {"epochs": (2,)}
    assert when["optimizer.momentum"] == {"epochs": (2,), "optimizer.kind": ("sgd",)}
    assert when["an.top_k"] == {"an.mode": ("all", "queue")}
    assert when["an.queue.length"] == {"an.mode": ("queue",)}
    assert when["an.last_epoch"] == {"epochs": (1, 2)}


@pytest.mark.parametrize("epochs", [1, 2, 3])
@pytest.mark.parametrize("kind", ["adam", "sgd"])
@pytest.mark.parametrize("mode", ["none", "all", "queue"])
def test_settings_of_groups_count_only_while_their_conditions_hold(epochs: int, kind: str, mode: str) -> None:
    built = settings.build(Nested, {"epochs": epochs, "optimizer.kind": kind, "an.mode": mode, "where": "x"})
    counting = {"epochs", "an.mode", "an.low", "an.high"}
    counting |= {"optimizer.kind", "optimizer.lr"} if epochs == 2 else set()
    counting |= {"optimizer.momentum"} if epochs == 2 and kind == "sgd" else set()
    counting |= {"an.top_k"} if mode != "none" else set()
    counting |= {"an.queue.length"} if mode == "queue" else set()
    counting |= {"an.last_epoch"} if epochs < 3 else set()
    assert list(settings.effective(built)) == [name for name in NAMES if name in counting]
    assert [*settings.active(built)] == [name for name in NAMES if name in {*counting, "where"}]


@pytest.mark.parametrize("name", NAMES)
def test_building_from_its_own_values_gives_the_same_config(name: str) -> None:
    changed = {"kind": "adam", "mode": "all", "where": "there"}.get(name.rpartition(".")[2], 1)
    changed = {"an.top_k": 4, "an.low": 0.25, "optimizer.momentum": 0.25, "an.high": 1}.get(name, changed)
    built = settings.build(Nested, {name: changed})
    assert settings.value(built, name) == changed
    assert settings.build(Nested, settings.values(built)) == built == settings.replaced(Nested(), {name: changed})


def test_every_bad_value_of_every_group_is_named_at_once() -> None:
    with pytest.raises(settings.SettingsError) as caught:
        settings.build(Nested, {"an.top_k": 1, "epochs": 0, "optimizer.lr": 0, "an.queue.length": "many"})
    assert caught.value.faults == [
        ("epochs", "epochs must be at least 1, but is 0. It is: passes"),
        ("optimizer.lr", "optimizer.lr must be above 0, but is 0. It is: learning rate"),
        ("an.top_k", "an.top_k must be at least 2, but is 1. It is: largest probabilities"),
        (
            "an.queue.length",
            "an.queue.length must be a whole number, at least 1, but is 'many'. It is: entries kept",
        ),
    ]


def test_what_a_group_itself_refuses_carries_its_dotted_name() -> None:
    with pytest.raises(settings.SettingsError) as caught:
        settings.build(Nested, {"an.low": 0.9})
    assert caught.value.faults == [("an.low", "low must be below high (0.9), but is 0.9")]


def test_a_group_refuses_bad_values_by_itself() -> None:
    with pytest.raises(settings.SettingsError, match="top_k must be at least 2, but is 1"):
        Correction(top_k=1)
    with pytest.raises(settings.SettingsError, match=r"optimizer must be Steps\(...\), but is 'adam'"):
        Nested(optimizer="adam")  # type: ignore[arg-type]


def test_a_whole_number_becomes_a_float_in_a_group_too() -> None:
    assert repr(settings.build(Nested, {"optimizer.lr": 1}).optimizer.lr) == "1.0"


def test_a_name_that_is_no_setting_is_a_mistake_of_the_program() -> None:
    with pytest.raises(TypeError, match=r"Nested has no setting an.top_l, an"):
        settings.build(Nested, {"an.top_l": 1, "an": 2})
    with pytest.raises(TypeError, match="Steps has no setting rate"):
        settings.group(Steps, rate=0.1)
    with pytest.raises(settings.SettingsError, match="lr must be above 0"):
        settings.group(Steps, lr=0.0)
