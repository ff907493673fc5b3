"""One seed, or one for the pretext and one for what follows."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainables import seeds
from trainables.runner import pipeline_runner

SEED = st.integers(0, 2**31 - 1)
CELL = {
    "kind": "trial",
    "method": "spc",
    "pretext": "",
    "changes": {},
    "seed": 0,
    "fingerprint": "f",
    "until": "",
}


@given(SEED, SEED)
def test_a_pair_is_one_number_that_gives_both_back(pretext: int, method: int) -> None:
    pair = seeds.crossed(pretext, method)
    assert seeds.is_crossed(pair) and seeds.parts(pair) == (pretext, method)
    # SQLite's whole numbers have 63 bits.
    assert pair < 2**63
    assert seeds.label(pair) == f"{pretext}/{method}"


@given(SEED)
def test_a_plain_seed_is_both(seed: int) -> None:
    assert not seeds.is_crossed(seed) and seeds.parts(seed) == (seed, seed) and seeds.label(seed) == str(seed)
    assert seeds.of_slot(seed, "pretext") == seeds.of_slot(seed, "scan") == seed


@pytest.mark.parametrize("written", [[0, 1, 5], {"pretext": [0, 7], "method": [1, 2, 3]}])
def test_what_is_written_is_read_back(written: list[int] | dict[str, list[int]]) -> None:
    assert seeds.written(seeds.expanded(written)) == written


def addresses(seed: int) -> dict[str, str]:
    return {slot: address for slot, (_, address) in pipeline_runner.addresses({**CELL, "seed": seed}).items()}


def test_the_pretext_s_seed_decides_what_comes_before_the_method() -> None:
    base, other_method = addresses(seeds.crossed(4, 0)), addresses(seeds.crossed(4, 1))
    assert {slot for slot in base if base[slot] == other_method[slot]} == {"pretext", "neighbors"}
    other_pretext = addresses(seeds.crossed(5, 0))
    assert not {slot for slot in base if base[slot] == other_pretext[slot]}


def test_a_pair_of_equal_seeds_is_the_plain_seed() -> None:
    assert addresses(seeds.crossed(3, 3)) == addresses(3)
