"""The self-labeling loss against numbers that an independent script computed in float64."""

import pytest
import torch

from trainables.maths.selflabel import confident_cross_entropy

WEAK_BC = torch.softmax(
    torch.tensor([[0, 2.5, 1.5], [1.5, 0.5, 3], [3, 2, 1], [1, 0, 2.5]], dtype=torch.float64), dim=1
)
STRONG_BC = torch.tensor([[1, 4, 2], [3, 1, 4], [0, 3, 1], [2, 0, 3]], dtype=torch.float64)


@pytest.mark.parametrize(
    ("threshold", "balanced", "mask", "expected"),
    [
        (0.68, True, [True, True, False, True], 0.2594291182),
        (0.68, False, [True, True, False, True], 0.2892901511),
        (0.60, True, [True] * 4, 1.2295680853),
        (0.60, False, [True] * 4, 1.0094291182),
    ],
)
def test_loss_and_mask_equal_the_golden_numbers(
    threshold: float, balanced: bool, mask: list[bool], expected: float
) -> None:
    loss, confident_B = confident_cross_entropy(WEAK_BC, STRONG_BC, threshold=threshold, balanced=balanced)
    assert confident_B.tolist() == mask
    assert float(loss) == pytest.approx(expected, abs=1e-6)


def test_a_probability_at_the_threshold_is_not_confident() -> None:
    _, confident_B = confident_cross_entropy(
        torch.tensor([[0.75, 0.25], [0.25, 0.75]]), torch.zeros(2, 2), threshold=0.75, balanced=True
    )
    assert confident_B.tolist() == [False, False]


@pytest.mark.parametrize("balanced", [True, False])
def test_without_a_confident_image_the_loss_and_its_gradient_are_zero(balanced: bool) -> None:
    logits_BC = STRONG_BC.clone().requires_grad_()
    loss, confident_B = confident_cross_entropy(WEAK_BC, logits_BC, threshold=0.999, balanced=balanced)
    loss.backward()  # type: ignore[no-untyped-call]
    assert float(loss.detach()) == 0.0 and not bool(confident_B.any())
    assert logits_BC.grad is not None and not bool(logits_BC.grad.any())


def test_with_one_label_only_balancing_changes_nothing() -> None:
    weak_BC = torch.tensor([[0.9, 0.1], [0.8, 0.2]], dtype=torch.float64)
    losses = [
        float(confident_cross_entropy(weak_BC, STRONG_BC[:2, :2], threshold=0.5, balanced=balanced)[0])
        for balanced in (True, False)
    ]
    assert losses[0] == pytest.approx(losses[1])


def test_no_gradient_reaches_the_weak_view() -> None:
    weak_BC = WEAK_BC.clone().requires_grad_()
    loss, _ = confident_cross_entropy(weak_BC, STRONG_BC, threshold=0.6, balanced=True)
    assert not loss.requires_grad


def test_views_of_different_shapes_are_refused_with_both_shapes() -> None:
    with pytest.raises(ValueError, match=r"\(4, 3\) and \(2, 3\)"):
        confident_cross_entropy(WEAK_BC, STRONG_BC[:2], threshold=0.6, balanced=True)


@pytest.mark.parametrize("balanced", [True, False])
def test_weights_multiply_class_weights_and_a_common_factor_changes_nothing(balanced: bool) -> None:
    weights_B = torch.tensor([2.0, 1.0, 5.0, 0.5], dtype=torch.float64)
    loss, confident_B = confident_cross_entropy(
        WEAK_BC, STRONG_BC, threshold=0.68, balanced=balanced, weights_B=weights_B
    )
    label_B = WEAK_BC.argmax(1)
    cross_B = torch.nn.functional.cross_entropy(STRONG_BC, label_B, reduction="none")
    # Confident are rows 0, 1 and 3 with labels 1, 2 and 2: in the balanced form the last two count half.
    weight_B = weights_B * confident_B * (torch.tensor([1.0, 0.5, 1.0, 0.5]) if balanced else 1.0)
    assert float(loss) == pytest.approx(float((weight_B * cross_B).sum() / weight_B.sum()))
    scaled, _ = confident_cross_entropy(WEAK_BC, STRONG_BC, threshold=0.68, balanced=balanced, weights_B=7 * weights_B)
    assert float(scaled) == pytest.approx(float(loss))
