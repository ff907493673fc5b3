"""Pseudo-graph, pseudo-labels and their losses against worked numbers and loops."""

import math

import pytest
import torch
from torch import Tensor

from trainables.maths import correlation

Z_BC = torch.tensor(
    [[0.97, 0.02, 0.01], [0.96, 0.03, 0.01], [0.05, 0.92, 0.03], [0.4, 0.35, 0.25]], dtype=torch.float64
)


def test_the_golden_graph_links_the_first_two_images_only() -> None:
    wanted_BB = torch.eye(4, dtype=torch.bool)
    wanted_BB[0, 1] = wanted_BB[1, 0] = True
    assert torch.equal(correlation.pseudo_graph(Z_BC, 0.95), wanted_BB)


def test_the_golden_labels_leave_out_the_unsure_image() -> None:
    label_B, confident_B = correlation.pseudo_labels(Z_BC, 0.9)
    assert label_B.tolist() == [0, 0, 1, 0] and confident_B.tolist() == [True, True, True, False]


def test_a_probability_at_the_threshold_is_confident() -> None:
    assert correlation.pseudo_labels(torch.tensor([[0.75, 0.25]]), 0.75)[1].item()


def test_the_golden_losses() -> None:
    graph_BB, (label_B, confident_B) = correlation.pseudo_graph(Z_BC, 0.95), correlation.pseudo_labels(Z_BC, 0.9)
    found = {
        "graph": correlation.graph_loss(Z_BC, graph_BB),
        "bce": correlation.label_loss(Z_BC, label_B, confident_B, form="bce"),
        "ce": correlation.label_loss(Z_BC, label_B, confident_B, form="ce"),
    }
    wanted = {"graph": 0.4520897122, "bce": 0.0255981583, "ce": 0.0386657027}
    assert {name: float(value) for name, value in found.items()} == pytest.approx(wanted, abs=1e-6)


@pytest.mark.parametrize("normalize", [True, False])
def test_the_graph_loss_is_the_mean_over_pairs_in_a_loop(normalize: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    z_BC = torch.rand(7, 4, generator=generator, dtype=torch.float64).softmax(1)
    linked_BB = torch.rand(7, 7, generator=generator) < 0.3
    cosines = [[float(a @ b / (a.norm() * b.norm())) for b in z_BC] for a in z_BC]
    largest = max(map(max, cosines)) if normalize else 1.0
    # The diagonal is 1 up to rounding, so its log(1 - 1) would hang on that.
    linked_BB.fill_diagonal_(True)
    total = sum(
        -math.log(min(1.0, cosines[i][j] / largest) if linked_BB[i, j] else 1 - cosines[i][j] / largest)
        for i in range(7)
        for j in range(7)
    )
    found = correlation.graph_loss(z_BC, linked_BB, normalize_similarity=normalize)
    assert float(found) == pytest.approx(total / 49, abs=1e-9)


def test_predictions_of_zero_give_a_finite_loss_and_gradient() -> None:
    z_BC = torch.zeros(3, 2, requires_grad=True)
    correlation.graph_loss(z_BC, torch.eye(3, dtype=torch.bool)).backward()
    gradient: Tensor | None = z_BC.grad
    assert gradient is not None and bool(gradient.isfinite().all())


@pytest.mark.parametrize("form", ["bce", "ce"])
def test_without_a_confident_image_the_label_loss_is_zero(form: str) -> None:
    z_BC = Z_BC.clone().requires_grad_()
    loss = correlation.label_loss(z_BC, torch.zeros(4).long(), torch.zeros(4).bool(), form=form)  # type: ignore[arg-type]
    loss.backward()
    assert float(loss.detach()) == 0 and z_BC.grad is not None and not z_BC.grad.any()
