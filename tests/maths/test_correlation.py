"""Pseudo-graph, pseudo-labels and their losses against worked numbers and loops."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional

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


def predictions(num_images: int = 9) -> tuple[Tensor, Tensor]:
    """Two sets of predictions for the same images, the first with a gradient."""
    generator = torch.Generator().manual_seed(1)
    rows = torch.randn(2, num_images, 4, generator=generator, dtype=torch.float64).mul(2).softmax(2)
    return rows[0].requires_grad_(), rows[1]


def by_pytorch(name: str, z_BC: Tensor, plain_BC: Tensor) -> Tensor:
    """The same losses from PyTorch's own functions."""
    label_B, confident_B = correlation.pseudo_labels(plain_BC, 0.5)
    wanted_BC = functional.one_hot(label_B, 4).to(z_BC)
    if name == "graph":
        linked_BB = correlation.pseudo_graph(plain_BC, 0.8)
        cosine_BB = correlation.cosine_similarities(z_BC)
        return functional.binary_cross_entropy((cosine_BB / cosine_BB.max()).clamp(0, 1), linked_BB.to(z_BC))
    if name == "bce":
        each_B = functional.binary_cross_entropy(z_BC, wanted_BC, reduction="none").mean(1)
        return torch.where(confident_B, each_B, 0).mean()
    if name == "ce":
        return (functional.nll_loss(z_BC.log(), label_B, reduction="none") * confident_B).mean()
    return functional.binary_cross_entropy(z_BC, plain_BC)


def ours(name: str, z_BC: Tensor, plain_BC: Tensor) -> Tensor:
    if name == "graph":
        return correlation.graph_loss(z_BC, correlation.pseudo_graph(plain_BC, 0.8))
    if name == "consistency":
        return correlation.consistency_loss(z_BC, plain_BC)
    return correlation.label_loss(z_BC, *correlation.pseudo_labels(plain_BC, 0.5), form=name)  # type: ignore[arg-type]


LOSSES = ("graph", "bce", "ce", "consistency")


@pytest.mark.parametrize("name", LOSSES)
def test_losses_and_gradients_are_those_of_pytorch_s_functions(name: str) -> None:
    (z_BC, plain_BC), found = predictions(), []
    for of in (ours, by_pytorch):
        loss = of(name, z_BC, plain_BC)
        # Not 1: what lies below must pass a gradient on, and not only start one.
        found.append((loss.detach(), *torch.autograd.grad(3 * loss, z_BC)))
    torch.testing.assert_close(found[0], found[1], atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("name", LOSSES)
def test_what_is_no_number_goes_through_every_loss_without_an_error(name: str) -> None:
    z_BC, plain_BC = predictions()
    broken_BC = z_BC.detach().index_fill(0, torch.tensor([2]), math.nan).requires_grad_()
    plain_BC[2, plain_BC[2].argmax()] = 1.0  # confident, so that the label loss looks at it
    loss = ours(name, broken_BC, plain_BC)
    loss.backward()
    assert math.isnan(float(loss.detach()))


def test_the_invariance_loss_is_the_mean_distance() -> None:
    # (0.6, 0.4) and (0, 1) are 0.6 sqrt(2) apart, the other two are the same.
    z_BC = torch.tensor([[0.6, 0.4], [0.5, 0.5]], requires_grad=True)
    loss = correlation.invariance_loss(z_BC, torch.tensor([[0.0, 1.0], [0.5, 0.5]]))
    loss.backward()
    assert float(loss.detach()) == pytest.approx(0.3 * math.sqrt(2))
    assert z_BC.grad is not None and bool(z_BC.grad.isfinite().all())
