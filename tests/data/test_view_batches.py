"""Views of small batches are made together, the same on every rank and however many go together."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from trainables.data import augment, batches, view_batches
from trainables.data.batch_random import BatchRandom
from trainables.interfaces import Batch

NORM = augment.Norm((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pictures(num: int = 90, size_px: int = 8) -> Tensor:
    return torch.randint(0, 256, (num, 3, size_px, size_px), dtype=torch.uint8, generator=generator(1))


def made(
    images_NCHW: Tensor,
    batch_size: int,
    view: Callable[[Tensor, BatchRandom], Tensor],
    *,
    rank: int = 0,
    world_size: int = 1,
    times: int = 1,
) -> list[tuple[Batch, view_batches.Views]]:
    """Of each batch its rows and those after them."""
    order = batches.batches(
        len(images_NCHW), batch_size, generator(), rank=rank, world_size=world_size, drop_last=False
    )
    return list(
        view_batches.of_batches(
            order,
            images_NCHW,
            view,
            generator(2),
            rows_of=lambda batch: (batch.rows_B, (batch.rows_B + 1) % len(images_NCHW)),
            times=times,
        )
    )


def simclr(images_BCHW: Tensor, draws: BatchRandom) -> Tensor:
    return augment.simclr(images_BCHW, draws, NORM)


@pytest.mark.parametrize("times", [1, 2])
def test_every_batch_has_the_views_of_its_own_rows(times: int) -> None:
    images_NCHW = pictures()
    seen = made(images_NCHW, 20, lambda images_BCHW, draws: images_BCHW.float(), times=times)
    assert [len(batch.rows_B) for batch, _ in seen] == [20, 20, 20, 20, 10]
    assert torch.cat([batch.rows_B for batch, _ in seen]).sort().values.tolist() == list(range(90))
    for batch, views in seen:
        assert torch.equal(views.rows[0], batch.rows_B)
        assert torch.equal(views.rows[1], (batch.rows_B + 1) % 90)
        for rows_B, images_BCHW in zip(views.rows, views.images, strict=True):
            assert torch.equal(images_BCHW, images_NCHW[rows_B])
        expected = [images_NCHW[rows_B].float() for rows_B in views.rows for _ in range(times)]
        assert len(views.views) == len(expected)
        assert all(map(torch.equal, views.views, expected))


@pytest.mark.parametrize("values", [1, 2 * 20 * 2 * 192, view_batches.TOGETHER_VALUES])
def test_two_ranks_see_what_one_would_see(monkeypatch: pytest.MonkeyPatch, values: int) -> None:
    monkeypatch.setattr(view_batches, "TOGETHER_VALUES", values)
    whole = made(pictures(), 20, simclr, times=2)
    halves = [made(pictures(), 20, simclr, rank=rank, world_size=2, times=2) for rank in (0, 1)]
    for (_, one), (_, first), (_, second) in zip(whole, *halves, strict=True):
        for view, *parts in zip(one.views, first.views, second.views, strict=True):
            assert torch.equal(view, torch.cat(parts))


@pytest.mark.parametrize(("values", "calls"), [(1, 5), (2 * 20 * 2 * 192, 3), (10**9, 2)])
def test_as_many_batches_go_together_as_fit(monkeypatch: pytest.MonkeyPatch, values: int, calls: int) -> None:
    # Five batches of 20, 20, 20, 20 and 10 images, two kinds each; the short one never goes with the others.
    monkeypatch.setattr(view_batches, "TOGETHER_VALUES", values)
    sizes = []

    def view(images_BCHW: Tensor, draws: BatchRandom) -> Tensor:
        sizes.append(len(images_BCHW))
        return simclr(images_BCHW, draws)

    made(pictures(), 20, view)
    assert len(sizes) == calls and sum(sizes) == 180


def test_views_of_a_batch_differ_from_those_of_the_next() -> None:
    images_NCHW = pictures(1).repeat(80, 1, 1, 1)
    seen = made(images_NCHW, 20, simclr)
    flat = torch.stack([view.flatten() for _, views in seen for view in views.views])
    assert len(flat.unique(dim=0)) == len(flat)


@pytest.mark.parametrize("num_batches", [0, -1])
def test_draws_of_no_batch_are_refused(num_batches: int) -> None:
    with pytest.raises(ValueError, match="at least one batch"):
        BatchRandom(generator(), 10, num_batches=num_batches)


def test_draws_of_several_batches_are_the_ranks_rows_of_each() -> None:
    whole = BatchRandom(generator(), 6, num_batches=3).integers(0, 1000, 2).view(3, 6, 2)
    part = BatchRandom(generator(), 6, 2, 3, num_batches=3).integers(0, 1000, 2).view(3, 3, 2)
    assert torch.equal(part, whole[:, 2:5])
