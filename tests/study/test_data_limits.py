from collections.abc import Callable
from pathlib import Path
from platform.study.data_limits import data_errors
from platform.study.study import load_study

import pytest

from trainables.interfaces import DataShape

Write = Callable[..., Path]


def errors(write: Write, text: str, num_train: int) -> list[str]:
    return [str(error) for error in data_errors(load_study(write(text)), DataShape(num_train, 10, 10, 1, 8))]


def test_what_the_data_set_carries_is_no_error(write: Write) -> None:
    assert errors(write, "method: spc\nsearch: {neighbors.k: [5, 20]}\n", 1000) == []


@pytest.mark.parametrize("domain", ["[5, 300, 20]", "{int: [5, 300]}"])
def test_the_one_extreme_that_is_too_much_is_named_once(write: Write, domain: str) -> None:
    text = f"method: spc\nsearch:\n  spc.epochs: [1, 2]\n  neighbors.k: {domain}\n"
    assert errors(write, text, 256) == ["spc.yaml:4: search.neighbors.k: k must be at most 256, but is 300."]


def test_a_fixed_value_is_named_at_its_line(write: Write) -> None:
    text = "method: spc\nfixed:\n  neighbors.k: 300\n"
    assert errors(write, text, 256) == ["spc.yaml:3: fixed.neighbors.k: k must be at most 256, but is 300."]


def test_a_row_is_named_at_its_line(write: Write) -> None:
    text = "method: spc\nablate:\n  few: {}\n  many: {neighbors.k: 300}\n"
    assert errors(write, text, 256) == ["spc.yaml:4: ablate.many.neighbors.k: k must be at most 256, but is 300."]


def test_a_default_is_named_in_full_at_the_method(write: Write) -> None:
    assert errors(write, "method: spc\n", 100) == [
        "spc.yaml:1: spc.batch_size: batch_size must be at most 100, but is 256."
    ]
