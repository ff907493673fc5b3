"""Batches of row numbers: every rank has its own part of the same global batches."""

import pytest
import torch

from trainables.data.batches import batches, dealt
from trainables.interfaces import Batch


def passes(
    num_rows: int, batch_size: int, *, rank: int = 0, world_size: int = 1, drop_last: bool = True
) -> list[Batch]:
    generator = torch.Generator().manual_seed(7)
    return list(batches(num_rows, batch_size, generator, rank=rank, world_size=world_size, drop_last=drop_last))


def test_one_pass_meets_every_row_once() -> None:
    rows = torch.cat([batch.rows_B for batch in passes(12, 4)])
    assert sorted(rows.tolist()) == list(range(12))


def test_the_same_generator_gives_the_same_order() -> None:
    assert [batch.rows_B.tolist() for batch in passes(12, 4)] == [batch.rows_B.tolist() for batch in passes(12, 4)]


def test_two_ranks_hold_the_halves_of_each_global_batch() -> None:
    alone = passes(12, 4)
    pairs = zip(passes(12, 4, rank=0, world_size=2), passes(12, 4, rank=1, world_size=2), strict=True)
    for whole, (first, second) in zip(alone, pairs, strict=True):
        assert torch.equal(whole.rows_B, torch.cat((first.rows_B, second.rows_B)))
        assert (first.start, second.start, first.total, second.total) == (0, 2, 4, 4)


def test_drop_last_leaves_out_the_part_that_is_no_whole_batch() -> None:
    assert [len(batch.rows_B) for batch in passes(11, 4)] == [4, 4]


def test_without_drop_last_the_rest_is_a_smaller_batch() -> None:
    assert [len(batch.rows_B) for batch in passes(11, 4, drop_last=False)] == [4, 4, 3]


def test_a_rest_is_trimmed_to_what_ranks_share_evenly() -> None:
    # 13 rows in batches of 8: the rest of 5 gives each of two ranks 2 and leaves one row out.
    last = passes(13, 8, rank=1, world_size=2, drop_last=False)[-1]
    assert (len(last.rows_B), last.start, last.total) == (2, 2, 4)


def test_a_rest_of_one_image_a_rank_is_left_out() -> None:
    # Batch normalization has no variance over a single image.
    assert [len(batch.rows_B) for batch in passes(9, 4, drop_last=False)] == [4, 4]
    assert [len(batch.rows_B) for batch in passes(11, 8, rank=0, world_size=2, drop_last=False)] == [4]


def test_a_batch_that_does_not_divide_among_the_workers_is_refused() -> None:
    with pytest.raises(ValueError, match="batch_size 5 does not divide among 2 workers; choose a multiple"):
        passes(20, 5, world_size=2)


def test_a_batch_above_the_images_is_refused_where_it_would_leave_none() -> None:
    with pytest.raises(ValueError, match="batch_size 8 is above the 7 images there are; choose a smaller one"):
        passes(7, 8)


def test_rows_in_a_given_order_are_dealt_as_they_come_and_may_stand_in_it_twice() -> None:
    order_N = torch.tensor([3, 3, 0, 5, 1, 3, 2])
    parts = [list(dealt(order_N, 4, rank=rank, world_size=2, drop_last=True)) for rank in (0, 1)]
    assert [[batch.rows_B.tolist() for batch in part] for part in parts] == [[[3, 3]], [[0, 5]]]
