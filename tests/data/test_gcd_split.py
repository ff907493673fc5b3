"""Which labels may be seen, and batches of labeled and unlabeled images."""

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from trainables.data.gcd_split import balanced_batches, labeled_part

LABELS_N = torch.arange(200) % 10


@given(
    st.lists(st.integers(-1, 6), min_size=2, max_size=60),
    st.integers(1, 7),
    st.floats(0.05, 1.0),
    st.integers(0, 2**32 - 1),
)
def test_only_images_of_known_classes_have_labels_and_so_many_as_the_share_says(
    labels: list[int], num_known: int, share: float, seed: int
) -> None:
    labels_N = torch.tensor(labels)
    known_N = (labels_N >= 0) & (labels_N < num_known)
    wanted = int(share * int(known_N.sum()))
    assume(0 < wanted < len(labels))
    labeled_N = labeled_part(labels_N, known=range(num_known), share=share, seed=seed)
    assert labeled_N.dtype == torch.bool and labeled_N.shape == labels_N.shape
    assert int(labeled_N.sum()) == wanted
    assert not bool((labeled_N & ~known_N).any())
    assert torch.equal(labeled_N, labeled_part(labels_N, known=range(num_known), share=share, seed=seed))


@given(st.permutations(range(5)), st.permutations(range(5, 10)), st.integers(0, 50))
def test_which_known_and_which_new_class_an_image_has_decides_nothing(
    known: list[int], new: list[int], seed: int
) -> None:
    renamed_N = torch.tensor([*known, *new])[LABELS_N]
    first_N, second_N = (labeled_part(each, known=range(5), share=0.5, seed=seed) for each in (LABELS_N, renamed_N))
    assert torch.equal(first_N, second_N)


def test_seed_0_gives_the_published_images() -> None:
    # SimGCD's code: np.random.seed(0), then np.random.choice over the images of the known classes in their order.
    known_K = np.flatnonzero(LABELS_N.numpy() < 5)
    np.random.seed(0)
    expected = sorted(known_K[np.random.choice(range(100), replace=False, size=(50,))])
    found_N = labeled_part(LABELS_N, known=range(5), share=0.5, seed=0)
    assert found_N.nonzero().squeeze(1).tolist() == expected


def test_another_seed_gives_other_images_and_torch_s_and_numpy_s_own_generators_have_no_say() -> None:
    np.random.seed(3)
    torch.manual_seed(3)
    before = np.random.get_state()[1].tolist()  # type: ignore[index]
    first_N, second_N = (labeled_part(LABELS_N, known=range(5), share=0.5, seed=seed) for seed in (0, 1))
    assert not torch.equal(first_N, second_N)
    assert np.random.get_state()[1].tolist() == before  # type: ignore[index]


def test_a_share_is_rounded_down_to_whole_images() -> None:
    assert int(labeled_part(LABELS_N, known=[0], share=0.99, seed=0).sum()) == 19


def test_no_image_with_a_label_is_refused() -> None:
    sentence = (
        "0 of 200 have one: 0.01 of the 20 images of 1 known classes. Raise the labeled share.",
        "200 of 200 have one: 1 of the 200 images of 10 known classes. Lower the labeled share.",
    )
    for text, num_known, share in zip(sentence, (1, 10), (0.01, 1.0), strict=True):
        with pytest.raises(ValueError) as caught:
            labeled_part(LABELS_N, known=range(num_known), share=share, seed=0)
        assert text in str(caught.value)


@given(st.integers(2, 40), st.integers(1, 40), st.integers(1, 20), st.integers(0, 1000))
def test_unlabeled_images_come_first_in_every_batch(unlabeled: int, labeled: int, batch_size: int, seed: int) -> None:
    labeled_N = torch.randperm(unlabeled + labeled, generator=torch.Generator().manual_seed(seed)) < labeled
    assume(batch_size <= len(labeled_N))
    rows_SB, num_unlabeled = balanced_batches(labeled_N, batch_size, torch.Generator().manual_seed(seed))
    assert rows_SB.shape == (len(labeled_N) // batch_size, batch_size)
    for rows_B, count in zip(rows_SB, num_unlabeled, strict=True):
        assert labeled_N[rows_B].tolist() == [False] * count + [True] * (batch_size - count)


def test_both_kinds_have_half_of_the_batches_and_every_image_its_fair_part() -> None:
    # 4 labeled and 36 unlabeled images in 500 batches of 40: each labeled one is met 2,500 times on average (standard
    # deviation 47), each unlabeled one 278 times (17).
    labeled_N = torch.arange(40) < 4
    drawn = [balanced_batches(labeled_N, 40, torch.Generator().manual_seed(seed))[0] for seed in range(500)]
    counts_N = torch.bincount(torch.cat(drawn).flatten(), minlength=40)
    assert int(counts_N[:4].sum()) == pytest.approx(10_000, abs=350)
    assert bool(((counts_N[:4] - 2500).abs() < 235).all())
    assert bool(((counts_N[4:] - 10_000 / 36).abs() < 85).all())


def test_the_known_classes_may_be_any() -> None:
    found_N = labeled_part(LABELS_N, known=[1, 7], share=0.5, seed=0)
    assert set(LABELS_N[found_N].tolist()) == {1, 7}
    assert int(found_N.sum()) == int(torch.isin(LABELS_N, torch.tensor([1, 7])).sum()) // 2
