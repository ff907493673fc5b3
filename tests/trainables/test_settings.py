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
