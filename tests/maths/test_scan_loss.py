"""SCAN's loss against numbers that an independent script computed in float64."""

import math

import pytest
import torch

from trainables.maths import scan_loss

ANCHORS_BC = torch.tensor([[0, 2.5, 1.5], [1.5, 0.5, 3], [3, 2, 1], [1, 0, 2.5]], dtype=torch.float64)
NEIGHBORS_BC = torch.tensor([[1, 4, 2], [3, 1, 4], [0, 3, 1], [2, 0, 3]], dtype=torch.float64)


def test_scan_loss_equals_the_golden_numbers() -> None:
    total, agreement, entropy = scan_loss.scan_loss(ANCHORS_BC, NEIGHBORS_BC, entropy_weight=5.0)
    assert float(agreement) == pytest.approx(0.7404899373, abs=1e-6)
    assert float(entropy) == pytest.approx(1.0592756455, abs=1e-6)
    assert float(total) == pytest.approx(-4.5558882900, abs=1e-6)


def test_scan_loss_with_weight_one_equals_the_golden_selection_number() -> None:
    total, _, _ = scan_loss.scan_loss(ANCHORS_BC, NEIGHBORS_BC, entropy_weight=1.0)
    assert float(total) == pytest.approx(-0.3187857081, abs=1e-6)


def test_disagreement_stops_at_100_with_a_finite_gradient() -> None:
    logits_BC = torch.tensor([[500.0, 0.0]], requires_grad=True)
    loss_B = scan_loss.neighbor_disagreement(logits_BC, torch.tensor([[0.0, 500.0]]))
    loss_B.sum().backward()  # type: ignore[no-untyped-call]
    assert loss_B.tolist() == [100.0]
    assert logits_BC.grad is not None and bool(logits_BC.grad.isfinite().all())


def test_disagreement_below_the_smallest_float32_is_exact() -> None:
    # Both products are e^-95: too small for float32, so it must be found in log space. -log(2 e^-95) = 95 - log 2.
    loss_B = scan_loss.neighbor_disagreement(torch.tensor([[95.0, 0.0]]), torch.tensor([[0.0, 95.0]]))
    assert float(loss_B) == pytest.approx(95 - math.log(2), rel=1e-6)


def test_half_precision_logits_are_widened() -> None:
    total, _, _ = scan_loss.scan_loss(ANCHORS_BC.half(), NEIGHBORS_BC.half(), entropy_weight=5.0)
    assert total.dtype == torch.float32
    assert float(total) == pytest.approx(-4.55588829, abs=1e-5)


def test_the_divergence_from_the_uniform_prior_is_log_c_minus_the_entropy() -> None:
    prior_C = torch.full((3,), 1 / 3, dtype=torch.float64)
    total, _, _ = scan_loss.scan_loss(ANCHORS_BC, NEIGHBORS_BC, entropy_weight=2.0, prior_C=prior_C)
    assert float(total) == pytest.approx(0.7404899373 + 2 * (math.log(3) - 1.0592756455), abs=1e-6)


def test_a_mean_prediction_equal_to_the_prior_costs_nothing() -> None:
    prior_C = torch.softmax(ANCHORS_BC, dim=1).mean(0)
    total, agreement, _ = scan_loss.scan_loss(ANCHORS_BC, NEIGHBORS_BC, entropy_weight=5.0, prior_C=prior_C)
    assert float(total) == pytest.approx(float(agreement), abs=1e-12)


def test_several_neighbors_add_up_and_the_entropy_counts_once() -> None:
    total, agreement, entropy = scan_loss.scan_loss(ANCHORS_BC, NEIGHBORS_BC, NEIGHBORS_BC, entropy_weight=5.0)
    assert float(agreement) == pytest.approx(2 * 0.7404899373, abs=1e-6)
    assert float(total) == pytest.approx(2 * 0.7404899373 - 5 * 1.0592756455, abs=1e-6)


def test_heads_in_one_tensor_have_the_losses_they_have_alone() -> None:
    anchors_HBC, neighbors_HBC = torch.stack((ANCHORS_BC, -ANCHORS_BC)), torch.stack((NEIGHBORS_BC, ANCHORS_BC))
    together = scan_loss.scan_loss(anchors_HBC, neighbors_HBC, entropy_weight=5.0)
    for head in range(2):
        alone = scan_loss.scan_loss(anchors_HBC[head], neighbors_HBC[head], entropy_weight=5.0)
        torch.testing.assert_close(torch.stack([each[head] for each in together]), torch.stack(alone))


def test_a_prior_of_another_length_is_refused_with_its_shape() -> None:
    with pytest.raises(ValueError, match=r"each of the 3 clusters, but has shape \(2,\)"):
        scan_loss.prior_divergence(torch.ones(1, 3) / 3, torch.ones(2) / 2)


def test_neighbor_logits_of_another_shape_are_refused_with_both_shapes() -> None:
    with pytest.raises(ValueError, match=r"\(4, 3\) and \(2, 3\)"):
        scan_loss.scan_loss(ANCHORS_BC, NEIGHBORS_BC[:2], entropy_weight=1.0)


def test_selection_loss_counts_the_image_itself() -> None:
    # Agreements: <a,a> = 1, <a,b> = 0.5, <b,b> = 0.5, <b,a> = 0.5. Mean prediction (0.75, 0.25).
    probabilities_NC = torch.tensor([[1.0, 0.0], [0.5, 0.5]])
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    loss = scan_loss.selection_loss(probabilities_NC, torch.tensor([[0, 1], [1, 0]]))
    assert loss == pytest.approx(3 * math.log(2) / 4 - entropy)


def test_selection_loss_in_chunks_equals_the_loss_over_all_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    probabilities_NC = torch.softmax(torch.randn(50, 4, generator=generator, dtype=torch.float64), dim=1)
    neighbors_NK = torch.randint(50, (50, 6), generator=generator)
    monkeypatch.setattr(scan_loss, "_CHUNK_ELEMENTS", 7 * 6 * 4)
    pairs_NK = (probabilities_NC[:, None] * probabilities_NC[neighbors_NK]).sum(dim=2)
    mean_C = probabilities_NC.mean(dim=0)
    expected = float(-pairs_NK.log().mean() + (mean_C * mean_C.log()).sum())
    assert scan_loss.selection_loss(probabilities_NC, neighbors_NK) == pytest.approx(expected, abs=1e-12)


def test_a_neighbor_table_of_another_split_is_refused_with_both_lengths() -> None:
    with pytest.raises(ValueError, match=r"each of the 4 images, but has 3; it must be mined within the same split"):
        scan_loss.selection_loss(torch.ones(4, 2) / 2, torch.zeros(3, 1, dtype=torch.int64))


def test_weights_multiply_each_pair_s_term_and_leave_the_entropy_alone() -> None:
    weights_B = torch.tensor([2.0, 0.0, 1.0, 1.0], dtype=torch.float64)
    terms_B = scan_loss.neighbor_disagreement(ANCHORS_BC, NEIGHBORS_BC)
    plain = scan_loss.scan_loss(ANCHORS_BC, NEIGHBORS_BC, entropy_weight=5.0)
    total, agreement, entropy = scan_loss.scan_loss(ANCHORS_BC, NEIGHBORS_BC, entropy_weight=5.0, weights=[weights_B])
    assert float(agreement) == pytest.approx(float((weights_B * terms_B).sum()) / 4)
    assert float(entropy) == float(plain[2])
    assert float(total) == pytest.approx(float(agreement) - 5 * float(entropy))


def test_cross_entropy_takes_the_neighbor_as_a_fixed_target() -> None:
    own_BC, theirs_BC = ANCHORS_BC.clone().requires_grad_(), NEIGHBORS_BC.clone().requires_grad_()
    loss_B = scan_loss.neighbor_cross_entropy(own_BC, theirs_BC)
    for row in range(4):
        target, logits = NEIGHBORS_BC[row].softmax(0).tolist(), ANCHORS_BC[row].log_softmax(0).tolist()
        assert float(loss_B[row].detach()) == pytest.approx(-sum(t * z for t, z in zip(target, logits, strict=True)))
    loss_B.sum().backward()  # type: ignore[no-untyped-call]
    assert own_BC.grad is not None and theirs_BC.grad is None
    _, agreement, _ = scan_loss.scan_loss(ANCHORS_BC, NEIGHBORS_BC, entropy_weight=5.0, agreement="ce")
    assert float(agreement) == pytest.approx(float(loss_B.detach().mean()))
