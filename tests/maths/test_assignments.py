import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from trainables.maths.assignments import joined, top_two


def test_the_two_largest_probabilities_are_found_and_their_difference_is_the_margin() -> None:
    top = top_two(np.array([[0.2, 0.5, 0.3], [0.1, 0.1, 0.8]]))
    assert top.cluster_N.tolist() == [1, 2]
    assert top.second_N.tolist() == [2, 0]  # of equal ones the lower number
    np.testing.assert_allclose(top.margin_N, [0.2, 0.7], atol=1e-6)


def test_one_cluster_has_no_second_one() -> None:
    top = top_two(np.ones((2, 1), np.float32))
    assert (top.second_N.tolist(), top.second_probability_N.tolist(), top.margin_N.tolist()) == (
        [-1, -1],
        [0, 0],
        [1, 1],
    )


@given(arrays.arrays(np.float32, (7, 4), elements=st.floats(0, 1, width=32)))
def test_they_are_those_of_a_sort(rows_NC: np.ndarray) -> None:
    top = top_two(rows_NC)
    sorted_NC = np.sort(rows_NC, axis=1)
    assert (top.cluster_N != top.second_N).all()
    np.testing.assert_array_equal(top.probability_N, sorted_NC[:, -1])
    np.testing.assert_array_equal(top.second_probability_N, sorted_NC[:, -2])


@pytest.mark.parametrize(
    ("bad", "rule"), [(np.zeros(3), "shape"), (np.zeros((2, 0)), "shape"), (np.full((1, 2), np.nan), "finite")]
)
def test_what_is_no_clustering_is_refused(bad: np.ndarray, rule: str) -> None:
    with pytest.raises(ValueError, match=rule):
        top_two(bad)


def test_joined_puts_the_second_rows_behind_the_first() -> None:
    both = joined(top_two(np.array([[0.9, 0.1]])), top_two(np.array([[0.2, 0.8]])))
    assert (len(both), both.cluster_N.tolist()) == (2, [0, 1])
