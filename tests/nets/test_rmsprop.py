"""The fused RMSprop against PyTorch's own."""

import copy

import pytest
import torch

from trainables.nets import rmsprop


def descended(optimizer: torch.optim.Optimizer, weight: torch.nn.Parameter, steps: int) -> torch.Tensor:
    draw = torch.Generator().manual_seed(1)
    for _ in range(steps):
        target = torch.randn(weight.shape, generator=draw, dtype=weight.dtype)
        optimizer.zero_grad()
        (weight - target).square().sum().backward()
        optimizer.step()
    return weight.detach()


@pytest.mark.parametrize("alpha", [0.0, 0.9, 0.99])
def test_it_descends_as_pytorchs_does(alpha: float) -> None:
    start = torch.nn.Parameter(torch.linspace(-1, 1, 12, dtype=torch.float64).reshape(3, 4))
    other = copy.deepcopy(start)
    ours = descended(rmsprop.fused([start], lr=0.05, alpha=alpha), start, 20)
    theirs = descended(torch.optim.RMSprop([other], lr=0.05, alpha=alpha), other, 20)
    assert torch.allclose(ours, theirs, rtol=0, atol=1e-12)


@pytest.mark.parametrize("into", ["a fresh optimizer", "the one that has made steps since"])
def test_its_state_goes_on_where_it_was_saved(into: str) -> None:
    weight = torch.nn.Parameter(torch.ones(5))
    optimizer = rmsprop.fused([weight], lr=0.1, alpha=0.9)
    descended(optimizer, weight, 3)
    saved, value = copy.deepcopy(optimizer.state_dict()), weight.detach().clone()
    expected = descended(optimizer, weight, 2).clone()
    if into == "a fresh optimizer":
        weight = torch.nn.Parameter(torch.ones(5))
        optimizer = rmsprop.fused([weight], lr=0.1, alpha=0.9)
    with torch.no_grad():
        weight.copy_(value)
    optimizer.load_state_dict(saved)
    assert torch.equal(descended(optimizer, weight, 2), expected)


@pytest.mark.parametrize("alpha", [-0.1, 1.0])
def test_an_alpha_it_cannot_hold_is_refused(alpha: float) -> None:
    with pytest.raises(ValueError, match="alpha"):
        rmsprop.fused([torch.nn.Parameter(torch.ones(1))], lr=0.1, alpha=alpha)


@pytest.mark.parametrize("laid", [torch.contiguous_format, torch.channels_last])
def test_weights_without_a_gradient_stay_and_the_others_descend_as_pytorchs_do(laid: torch.memory_format) -> None:
    draw = torch.Generator().manual_seed(3)
    layers = [torch.nn.Conv2d(3, 4, 3), torch.nn.Conv2d(3, 4, 3)]
    ours, theirs = ([copy.deepcopy(layer).to(memory_format=laid) for layer in layers] for _ in range(2))
    images = torch.randn(2, 3, 8, 8, generator=draw).to(memory_format=laid)
    for (used, idle), kind in ((ours, rmsprop.fused), (theirs, torch.optim.RMSprop)):
        optimizer = kind([*used.parameters(), *idle.parameters()], lr=0.05, alpha=0.9)  # type: ignore[operator]
        for _ in range(4):
            optimizer.zero_grad()
            used(images).square().mean().backward()
            optimizer.step()
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine.weight, other.weight, rtol=0, atol=1e-6)
    assert torch.equal(ours[1].weight, layers[1].weight) and not torch.equal(ours[0].weight, layers[0].weight)
