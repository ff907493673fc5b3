"""LARC against its formula by hand."""

import pytest
import torch

from trainables.nets.larc import Larc


def stepped(weights: list[float], gradient: list[float], decay: float, steps: int = 1) -> torch.Tensor:
    parameter = torch.nn.Parameter(torch.tensor(weights))
    optimizer = Larc([parameter], lr=2.0, momentum=0.5, weight_decay=decay)
    for _ in range(steps):
        parameter.grad = torch.tensor(gradient)
        optimizer.step()
    return parameter.detach()


def test_a_step_is_as_long_as_a_thousandth_of_the_tensor() -> None:
    # |w| = 5, |g| = 10, no decay: g becomes g 0.001 5 / 10, and the step twice that.
    found = stepped([3.0, 4.0], [6.0, 8.0], 0.0)
    torch.testing.assert_close(found, torch.tensor([3 - 2 * 0.003, 4 - 2 * 0.004]))


def test_decay_enters_the_gradient_and_its_length_once() -> None:
    # g + wd w = (6.3, 8.4); times 0.001 5 / (10 + 0.1 5) = 1 / 2100.
    found = stepped([3.0, 4.0], [6.0, 8.0], 0.1)
    torch.testing.assert_close(found, torch.tensor([3 - 2 * 6.3 / 2100, 4 - 2 * 8.4 / 2100]))


def test_momentum_is_that_of_sgd() -> None:
    # The second step moves by the new scaled gradient and half the first one's.
    first, second = (stepped([3.0, 4.0], [6.0, 8.0], 0.0, steps) for steps in (1, 2))
    scaled = torch.tensor([6.0, 8.0]) * 0.001 * float(first.norm()) / 10
    torch.testing.assert_close(second, first - 2 * (scaled + 0.5 * torch.tensor([0.003, 0.004])))


@pytest.mark.parametrize(("weights", "gradient"), [([0.0, 0.0], [1.0, 2.0]), ([1.0, 2.0], [0.0, 0.0])])
def test_a_tensor_of_zeros_takes_a_plain_step_without_decay(weights: list[float], gradient: list[float]) -> None:
    found = stepped(weights, gradient, 0.1)
    torch.testing.assert_close(found, torch.tensor(weights) - 2 * torch.tensor(gradient))
