"""SPC's strong and weak images on tables small enough to work by hand."""

import pytest
import torch

from trainables.maths import spc_labels
from trainables.maths.spc_labels import Strong

PROBABILITIES_NC = torch.tensor([[0.95, 0.05], [0.96, 0.04], [0.40, 0.60], [0.02, 0.98]])


def strong(mask: list[bool], labels: list[int]) -> Strong:
    return Strong(torch.tensor(mask), torch.tensor(labels), 0.95)


def test_an_image_at_the_threshold_is_not_sure() -> None:
    found = spc_labels.strong_set(PROBABILITIES_NC.double(), 0.95)
    assert found.mask_N.tolist() == [False, True, False, True]
    assert found.labels_N.tolist() == [0, 0, 1, 1]
    assert found.threshold == 0.95


def test_without_a_sure_image_the_threshold_falls_until_every_present_class_has_one() -> None:
    # Best of class 0 is 0.70, of class 1 is 0.62; class 2 is nobody's. From 0.95: 0.90 ... 0.65 leaves class 1 out.
    probabilities_NC = torch.tensor([[0.70, 0.20, 0.10], [0.30, 0.62, 0.08], [0.30, 0.55, 0.15]])
    found = spc_labels.strong_set(probabilities_NC, 0.95)
    assert found.threshold == pytest.approx(0.60)
    assert found.mask_N.tolist() == [True, True, False]


def test_with_one_sure_image_the_threshold_stays() -> None:
    assert spc_labels.strong_set(torch.tensor([[0.99, 0.01], [0.4, 0.6]]), 0.95).threshold == 0.95


def test_probabilities_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="must be finite, but holds a NaN"):
        spc_labels.strong_set(torch.tensor([[float("nan"), 0.5]]), 0.95)


def test_top_fraction_takes_as_many_of_each_class_as_the_share_of_all_images() -> None:
    # 0.5 of 4 images: two of each column.
    propagated_NC = torch.tensor([[0.9, 0.1], [0.8, 0.2], [0.4, 0.6], [0.3, 0.7]])
    chosen_NC = spc_labels.top_fraction(propagated_NC, 0.5, "dataset")
    assert chosen_NC.tolist() == [[True, False], [True, False], [False, True], [False, True]]


def test_top_fraction_of_the_expected_class_size_takes_fewer() -> None:
    # 0.5 of 4 / 2 images: one of each column.
    propagated_NC = torch.tensor([[0.9, 0.1], [0.8, 0.2], [0.4, 0.6], [0.3, 0.7]])
    chosen_NC = spc_labels.top_fraction(propagated_NC, 0.5, "class_expected")
    assert chosen_NC.nonzero().tolist() == [[0, 0], [3, 1]]


def test_top_fraction_breaks_ties_by_index() -> None:
    propagated_NC = torch.tensor([[0.5], [1.0], [0.5], [0.5]])
    assert spc_labels.top_fraction(propagated_NC, 0.5, "dataset").ravel().tolist() == [True, True, False, False]


def test_top_fraction_takes_nothing_from_a_class_without_labels() -> None:
    propagated_NC = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    assert spc_labels.top_fraction(propagated_NC, 1.0, "dataset").tolist() == [[True, False], [True, False]]


def test_top_fraction_counts_as_a_person_would() -> None:
    # In floating point 0.29 * 100 is 28.999999999999996.
    assert int(spc_labels.top_fraction(torch.rand(100, 1) + 0.1, 0.29, "dataset").sum()) == 29


def test_a_fraction_of_less_than_one_image_is_refused_with_the_least_that_works() -> None:
    with pytest.raises(ValueError, match=r"0.01 of 10 images over 2 classes is 0.05; raise it to 0.2 or more"):
        spc_labels.top_fraction(torch.rand(10, 2), 0.01, "class_expected")


def test_the_intersection_by_image_ignores_the_class_that_was_chosen() -> None:
    chosen_NC = torch.tensor([[False, True], [True, False], [True, False]])
    both = spc_labels.intersect(strong([True, True, False], [0, 0, 0]), chosen_NC, require_label_agreement=False)
    assert both.mask_N.tolist() == [True, True, False]


def test_the_intersection_by_image_and_label_does_not() -> None:
    chosen_NC = torch.tensor([[False, True], [True, False], [True, False]])
    both = spc_labels.intersect(strong([True, True, False], [0, 0, 0]), chosen_NC, require_label_agreement=True)
    assert both.mask_N.tolist() == [False, True, False]


def test_an_empty_intersection_keeps_the_sure_images_and_says_so() -> None:
    chosen_NC = torch.tensor([[False, False], [True, False]])
    both = spc_labels.intersect(strong([True, False], [0, 0]), chosen_NC, require_label_agreement=False)
    assert both.mask_N.tolist() == [True, False]
    assert both.fell_back


def test_propagation_starts_from_sure_images_alone() -> None:
    assert spc_labels.seed_labels(strong([True, False], [1, 0]), 2).tolist() == [[0, 1], [0, 0]]


def test_hard_labels_keep_sure_ones_follow_the_propagation_and_fall_back_on_the_model() -> None:
    # Image 0 is sure of 1 though propagation says 0; image 1 follows; image 2 was not reached, its model says 1.
    propagated_NC = torch.tensor([[0.9, 0.1], [0.7, 0.3], [0.0, 0.0]])
    probabilities_NC = torch.tensor([[0.1, 0.9], [0.2, 0.8], [0.3, 0.7]])
    labels_N = spc_labels.hard_labels(propagated_NC, probabilities_NC, strong([True, False, False], [1, 1, 1]))
    assert labels_N.tolist() == [1, 0, 1]


@pytest.mark.parametrize(
    ("weak_label", "expected"),
    [
        ("lp_hard", [[0, 1], [1, 0], [0, 1]]),
        ("lp_soft", [[0, 1], [0.75, 0.25], [0, 1]]),
        ("model_soft", [[0, 1], [0.25, 0.75], [0.375, 0.625]]),
    ],
)
def test_targets_of_each_kind(weak_label: spc_labels.WeakLabel, expected: list[list[float]]) -> None:
    propagated_NC = torch.tensor([[0.75, 0.25], [0.75, 0.25], [0.0, 0.0]], dtype=torch.float64)
    probabilities_NC = torch.tensor([[0.125, 0.875], [0.25, 0.75], [0.375, 0.625]])
    targets_NC = spc_labels.targets(
        propagated_NC, probabilities_NC, strong([True, False, False], [1, 1, 1]), weak_label
    )
    assert targets_NC.dtype == torch.float32
    assert targets_NC.tolist() == expected


def test_hierarchical_mix_gives_the_sure_image_at_least_half() -> None:
    # A ratio of 0.25 counts as 0.75, and 0.75 stays.
    strong_BCHW, weak_BCHW = torch.ones(2, 1, 1, 1), torch.zeros(2, 1, 1, 1)
    images_BCHW, targets_BC = spc_labels.hierarchical_mix(
        strong_BCHW,
        torch.tensor([[1.0, 0.0], [1.0, 0.0]]),
        weak_BCHW,
        torch.tensor([[0.0, 1.0], [0.5, 0.5]]),
        torch.tensor([0.25, 0.75]),
    )
    assert images_BCHW.ravel().tolist() == [0.75, 0.75]
    assert targets_BC.tolist() == [[0.75, 0.25], [0.875, 0.125]]


def test_one_ratio_serves_a_whole_batch() -> None:
    images_BCHW, _ = spc_labels.hierarchical_mix(
        torch.ones(3, 1, 1, 1), torch.eye(3), torch.zeros(3, 1, 1, 1), torch.eye(3), torch.tensor([0.125])
    )
    assert images_BCHW.ravel().tolist() == [0.875] * 3


def test_halves_of_different_sizes_are_refused_with_both_shapes() -> None:
    with pytest.raises(ValueError, match=r"\(2, 1, 1, 1\) and \(1, 1, 1, 1\)"):
        spc_labels.hierarchical_mix(
            torch.ones(2, 1, 1, 1), torch.eye(2), torch.ones(1, 1, 1, 1), torch.eye(2)[:1], torch.tensor([0.5])
        )


def test_batch_mix_gives_an_image_its_ratio_and_its_partner_the_rest() -> None:
    images_BCHW, targets_BC = spc_labels.batch_mix(
        torch.tensor([0.0, 1.0]).view(2, 1, 1, 1), torch.eye(2), torch.tensor([1, 0]), torch.tensor([0.25])
    )
    assert images_BCHW.ravel().tolist() == [0.75, 0.25]
    assert targets_BC.tolist() == [[0.25, 0.75], [0.75, 0.25]]


def test_cross_entropy_of_a_mixed_target_is_the_mixture_of_two_cross_entropies() -> None:
    logits_BC = torch.tensor([[1.0, 2.0, 0.5]])
    one, two = (float(torch.nn.functional.cross_entropy(logits_BC, torch.tensor([label]))) for label in (0, 2))
    mixed = spc_labels.soft_cross_entropy(logits_BC, torch.tensor([[0.75, 0.0, 0.25]]))
    assert float(mixed) == pytest.approx(0.75 * one + 0.25 * two)


@pytest.mark.parametrize("concentration", [0.1, 1.0, 2.0])
def test_beta_draws_have_the_mean_and_variance_of_the_distribution(concentration: float) -> None:
    # Beta(a, a): mean 1/2, variance 1 / (4 (2a + 1)). 20,000 draws: standard error of the mean at most 0.0033.
    draws_B = spc_labels.beta_draws(20_000, concentration, torch.Generator().manual_seed(0))
    assert bool(((draws_B >= 0) & (draws_B <= 1)).all())
    assert float(draws_B.mean()) == pytest.approx(0.5, abs=0.013)
    assert float(draws_B.var()) == pytest.approx(1 / (4 * (2 * concentration + 1)), rel=0.04)


def test_beta_draws_come_from_the_generator_alone() -> None:
    first_B = spc_labels.beta_draws(8, 0.5, torch.Generator().manual_seed(3))
    torch.rand(5)
    assert torch.equal(first_B, spc_labels.beta_draws(8, 0.5, torch.Generator().manual_seed(3)))
