"""Every choice and switch of every stage on the pretend GPU: nothing raises, and the numbers are the CPU's."""

from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from tests.pretend_gpu.trained import comparable, differences
from tests.stages.test_switches import Case, cases
from trainables import pipeline, settings

ALIKE = {"bf16"}
"""Rounds after other operations on a GPU than on a CPU: it has to train, its numbers may differ."""


def different(given: Sequence[Case]) -> Iterator[Case]:
    """Each Config once, though many cases name a default; without compiled ones, which ask CUDA itself."""
    seen: set[tuple[str, Any]] = set()
    for case in given:
        config: Any = settings.build(pipeline.load(case.stage).Config, case.changes)
        key = (case.stage, comparable(config))
        if key not in seen and not case.changes.get("compute.compiled") and not _is_large_again(case):
            seen.add(key)
            yield case


def _is_large_again(case: Case) -> bool:
    """The large network is the same in every stage, and on 8 px its numbers are soon those of its rounding."""
    return case.name == "network" and case.value == "resnet18_cifar" and case.stage != "simclr"


CASES = list(different(cases()))
OF_VIEWS = [case for case in CASES if "augmentation" in case.name or case.name.startswith("views.")]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_switch_gives_the_numbers_of_the_cpu(case: Case) -> None:
    found = differences(case.stage, case.changes)
    assert case.value in ALIKE or not found


@pytest.mark.parametrize("case", OF_VIEWS, ids=str)
def test_views_of_colored_images_give_the_numbers_of_the_cpu(case: Case) -> None:
    assert not differences(case.stage, case.changes, num_channels=3, size_px=16)


def test_the_cases_cover_every_stage() -> None:
    assert {case.stage for case in CASES} == {case.stage for case in cases()}
