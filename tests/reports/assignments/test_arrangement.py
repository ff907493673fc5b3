from platform.reports.assignments.arrangement import arranged, shares

import numpy as np
import pytest

from trainables.maths.assignments import top_two


def test_clusters_come_by_size_and_images_by_their_probability() -> None:
    order = arranged(top_two(np.array([[0.9, 0.1, 0], [0.2, 0.8, 0], [0.4, 0.6, 0], [0.3, 0.7, 0]])), 3)
    assert (order.clusters, order.sizes) == ((1, 0), (3, 1))  # cluster 2 is empty
    assert order.rows_N.tolist() == [1, 3, 2, 0]
    # Margins of rows 0 to 3: 0.8, 0.6, 0.2, 0.4; row 2 stands at place 2, row 3 at place 1.
    assert order.uncertain_U.tolist() == [2, 1, 0, 3]


@pytest.mark.parametrize(
    ("sizes", "most", "wanted"),
    [((5, 3, 1), 9, (5, 3, 1)), ((5, 3, 1), 5, (2, 2, 1)), ((5, 3), 0, (0, 0)), ((4, 4), 7, (3, 3))],
)
def test_thumbnails_are_shared_out_alike(sizes: tuple[int, ...], most: int, wanted: tuple[int, ...]) -> None:
    assert shares(sizes, most) == wanted
