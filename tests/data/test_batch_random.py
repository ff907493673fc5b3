"""Random numbers of a batch: what two ranks see, what a seed fixes, what is refused."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from trainables.data.batch_random import BatchRandom

KINDS: dict[str, Callable[[BatchRandom], Tensor]] = {
    "uniform": lambda draws: draws.uniform(-2, 3, 4),
    "bernoulli": lambda draws: draws.bernoulli(0.3),
    "normal": lambda draws: draws.normal(2, 2),
    "integers": lambda draws: draws.integers(-3, 9),
    "uniforms": lambda draws: torch.cat(draws.uniforms((-2, 3, 4), (0, 1, 1)), dim=1),
    "permutation": lambda draws: draws.permutation(5),
}


def drawn(seed: int, total: int, start: int = 0, count: int | None = None) -> BatchRandom:
    return BatchRandom(torch.Generator().manual_seed(seed), total, start, count)


@pytest.mark.parametrize("kind", KINDS)
def test_two_ranks_see_the_numbers_of_one(kind: str) -> None:
    whole = KINDS[kind](drawn(3, 6))
    parts = [KINDS[kind](drawn(3, 6, start, 3)) for start in (0, 3)]
    torch.testing.assert_close(torch.cat(parts), whole, rtol=0, atol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_images_get_different_numbers(kind: str) -> None:
    assert len(KINDS[kind](drawn(3, 64)).unique(dim=0)) > 1


def test_ranks_stay_together_after_many_draws() -> None:
    first, second, whole = drawn(1, 4, 0, 2), drawn(1, 4, 2, 2), drawn(1, 4)
    for draws in (first, second, whole):
        draws.normal(7)
        draws.uniforms((0, 1, 2), (3, 4, 1))
    torch.testing.assert_close(torch.cat([first.uniform(0, 1), second.uniform(0, 1)]), whole.uniform(0, 1))


def test_uniform_fills_its_range() -> None:
    values_B = drawn(0, 10_000).uniform(-2, 3)
    assert -2 <= values_B.min() < -1.99 and 2.99 < values_B.max() <= 3


def test_integers_leave_out_the_upper_end() -> None:
    assert drawn(0, 1000).integers(-1, 2).unique().tolist() == [-1, 0, 1]


def test_permutation_holds_each_place_once() -> None:
    assert (drawn(0, 50).permutation(4).sort(dim=1).values == torch.arange(4)).all()


def test_permutations_are_equally_likely() -> None:
    _, counts = drawn(0, 6000).permutation(3).unique(dim=0, return_counts=True)
    # Six orders, 1,000 expected of each, standard deviation 29.
    assert len(counts) == 6 and counts.min() > 880 and counts.max() < 1120


@pytest.mark.parametrize(("total", "start", "count"), [(0, 0, None), (4, 4, None), (4, -1, 2), (4, 3, 2)])
def test_rows_outside_the_batch_are_refused(total: int, start: int, count: int | None) -> None:
    with pytest.raises(ValueError, match=r"rows -?\d+ to -?\d+ of a batch of \d images were asked for"):
        drawn(0, total, start, count)


@pytest.mark.parametrize("num_batches", [1, 3])
@pytest.mark.parametrize("start", [0, 2])
def test_uniforms_gives_what_uniform_gives_one_after_the_other(num_batches: int, start: int) -> None:
    one, other = (BatchRandom(torch.Generator().manual_seed(5), 6, start, 3, num_batches=num_batches) for _ in range(2))
    found = one.uniforms((0.2, 1.0, 10), (-0.3, 0.3, 1), (0, 1, 4))
    expected = other.uniform(0.2, 1.0, 10), other.uniform(-0.3, 0.3, 1), other.uniform(0, 1, 4)
    for values, same in zip(found, expected, strict=True):
        assert torch.equal(values, same)
    assert torch.equal(one.uniform(0, 1), other.uniform(0, 1))


def test_several_views_at_once_get_the_numbers_of_one_after_the_other() -> None:
    ranges = ((0.0, 1.0, 2), (1.0, 5.0, 3))
    joint = BatchRandom(torch.Generator().manual_seed(2), 4, 1, 2, num_batches=3, num_views=2).uniforms(*ranges)
    single = BatchRandom(torch.Generator().manual_seed(2), 4, 1, 2, num_batches=3)
    views = [single.uniforms(*ranges) for _ in range(2)]
    for found, parts in zip(joint, zip(*views, strict=True), strict=True):
        assert torch.equal(found, torch.cat(parts))
