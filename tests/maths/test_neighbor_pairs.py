"""Partners: which rows may be met, and that each is as likely."""

import torch

from trainables.maths import neighbor_pairs

TABLE_NK = torch.tensor([[0, 1, 2, 3], [1, 0, 3, 2], [2, 3, 0, 1], [3, 2, 1, 0]])


def test_neighbors_of_another_class_go_to_the_end_and_do_not_count() -> None:
    # Classes a, b, a, unknown: image 0 keeps itself and 2; 1 only itself; 3, without a label, only itself.
    table_NK, count_N = neighbor_pairs.of_the_same_class(TABLE_NK, torch.tensor([0, 1, 0, -1]))
    assert count_N.tolist() == [2, 1, 2, 1]
    assert table_NK[:, :2].tolist() == [[0, 2], [1, 0], [2, 0], [3, 2]]


def test_each_column_up_to_the_count_is_as_likely() -> None:
    unit_B = torch.tensor([0.0, 0.32, 0.34, 0.99999997])
    own_BK = torch.tensor([[7, 8, 9, 5]]).expand(4, 4)
    drawn_B1 = neighbor_pairs.draw_one(own_BK, torch.full((4,), 3), unit_B, with_self=True)
    assert drawn_B1.squeeze(1).tolist() == [7, 7, 8, 9]


def test_without_itself_the_first_column_is_met_only_where_there_is_nothing_else() -> None:
    own_BK = torch.tensor([[7, 8, 9]]).expand(3, 3)
    drawn_B1 = neighbor_pairs.draw_one(own_BK, torch.tensor([3, 3, 1]), torch.tensor([0.0, 0.9, 0.9]), with_self=False)
    assert drawn_B1.squeeze(1).tolist() == [8, 9, 7]
