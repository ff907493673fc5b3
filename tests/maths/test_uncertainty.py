"""Confidence weights and the losses they enter: golden numbers, hand-worked cases, and nested loops as an oracle."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from trainables.maths import uncertainty

DISTANCES_N = torch.tensor([0.2, 0.5, 1.1, 0.3, 0.4, 0.4], dtype=torch.float64)
LABELS_N = torch.tensor([0, 0, 0, 1, 2, 2])
LOGITS_NC = torch.tensor([[((2 * i + 5 * j + 1) % 7) / 2 for j in range(3)] for i in range(6)], dtype=torch.float64)


def golden() -> Tensor:
    return uncertainty.confidence_weights(DISTANCES_N, LABELS_N, 3, offset=0.5, direction="confident_up")


def test_golden_weights() -> None:
    # Cluster 0: (0.2, 0.5, 1.1) scale to 0, 1/3, 1. A lone image and two at the same distance get 1 + offset.
    expected_N = torch.tensor([1.5, 1 + 1 / 6, 0.5, 1.5, 1.5, 1.5], dtype=torch.float64)
    torch.testing.assert_close(golden(), expected_N, atol=1e-12, rtol=0)


@pytest.mark.parametrize(("form", "expected"), [("weighted_nll", 1.8566905707), ("double_softmax", 1.8169525804)])
def test_golden_losses(form: str, expected: float) -> None:
    terms_N = uncertainty.cross_entropies(LOGITS_NC, LABELS_N, golden(), form)  # type: ignore[arg-type]
    assert float(terms_N.mean()) == pytest.approx(expected, abs=1e-6)


def test_golden_loss_over_the_mean_weight() -> None:
    # mean(U / mean(U) * loss) = sum(U * loss) / sum(U).
    weights_N = golden() / golden().mean()
    terms_N = uncertainty.cross_entropies(LOGITS_NC, LABELS_N, weights_N, "normalized")
    assert float(terms_N.mean()) == pytest.approx(1.4530621857, abs=1e-6)


@pytest.mark.parametrize("form", ["weighted_nll", "normalized", "double_softmax"])
def test_weights_of_one_give_the_plain_cross_entropy(form: str) -> None:
    terms_N = uncertainty.cross_entropies(LOGITS_NC, LABELS_N, torch.ones(6, dtype=torch.float64), form)  # type: ignore[arg-type]
    assert float(terms_N.mean()) == pytest.approx(1.3485042987, abs=1e-6)


def test_the_second_softmax_is_the_closed_form() -> None:
    # -U log p_t + log(sum of the others' p + p_t^U), image by image.
    weights_N, share_NC = golden(), LOGITS_NC.softmax(1)
    target_N = share_NC.gather(1, LABELS_N[:, None])[:, 0]
    expected_N = -weights_N * target_N.log() + (1 - target_N + target_N**weights_N).log()
    terms_N = uncertainty.cross_entropies(LOGITS_NC, LABELS_N, weights_N, "double_softmax")
    torch.testing.assert_close(terms_N, expected_N, atol=1e-12, rtol=0)


def test_the_other_direction_weighs_the_far_image_most() -> None:
    weights_N = uncertainty.confidence_weights(DISTANCES_N, LABELS_N, 3, offset=0.5, direction="uncertain_up")
    torch.testing.assert_close(weights_N, 2 - golden(), atol=1e-12, rtol=0)


def test_empty_clusters_change_nothing() -> None:
    weights_N = uncertainty.confidence_weights(DISTANCES_N, LABELS_N * 5, 20, offset=0.5, direction="confident_up")
    torch.testing.assert_close(weights_N, golden(), atol=0, rtol=0)


@given(st.lists(st.tuples(st.integers(0, 5), st.floats(0, 1e6, width=32)), min_size=1, max_size=40))
def test_every_cluster_spans_zero_to_one_as_nested_loops_find_it(images: list[tuple[int, float]]) -> None:
    labels, distances = [label for label, _ in images], [distance for _, distance in images]
    found = uncertainty.relative_distances(torch.tensor(distances, dtype=torch.float64), torch.tensor(labels), 6)
    for label, distance, value in zip(labels, distances, found.tolist(), strict=True):
        own = [each for other, each in images if other == label]
        low, high = min(own), max(own)
        assert value == pytest.approx((distance - low) / (high - low) if high > low else 0.0, abs=1e-12)


def test_the_gradient_reaches_the_logits_and_scales_with_the_weight() -> None:
    gradients = []
    for weight in (1.0, 3.0):
        logits_BC = LOGITS_NC[:1].clone().requires_grad_()
        weights_B = torch.tensor([weight], dtype=torch.float64)
        uncertainty.cross_entropies(logits_BC, LABELS_N[:1], weights_B, "weighted_nll").sum().backward()
        assert logits_BC.grad is not None
        gradients.append(logits_BC.grad)
    torch.testing.assert_close(gradients[1], 3 * gradients[0])
    expected_BC = LOGITS_NC[:1].softmax(1) - functional.one_hot(LABELS_N[:1], 3)
    torch.testing.assert_close(gradients[0], expected_BC)
