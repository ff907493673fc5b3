"""DCCM's networks: shapes, first weights, and the discriminator against the plain form of it."""

import pytest
import torch

from trainables.interfaces import DataShape
from trainables.nets.dccm import CorrelationNetwork, Discriminator, GlobalMean, resolve


def shape(size_px: int, channels: int = 1) -> DataShape:
    return DataShape(100, 50, 10, channels, size_px)


@pytest.mark.parametrize(
    ("name", "channels", "size_px", "map_shape"),
    [
        ("dccm_c4", 3, 32, (64, 14, 14)),
        ("dccm_c4", 3, 96, (64, 46, 46)),
        ("dccm_small", 1, 8, (32, 4, 4)),
        ("dccm_small", 1, 28, (32, 7, 7)),
    ],
)
def test_shapes_are_the_published_ones(name: str, channels: int, size_px: int, map_shape: tuple[int, int, int]) -> None:
    network = CorrelationNetwork(name, shape(size_px, channels), 10, seed=0)
    found = network(torch.rand(4, channels, size_px, size_px))
    assert found.shallow_BFHW.shape == (4, *map_shape)
    assert found.deep_BC.shape == found.predictions_BC.shape == (4, 10) and found.features_BD.shape == (4, 64)
    torch.testing.assert_close(found.predictions_BC.sum(1), torch.ones(4))


def test_fully_connected_layers_start_as_a_truncated_identity() -> None:
    network = CorrelationNetwork("dccm_small", shape(8), 10, seed=0)
    assert torch.equal(network.clusters.weight, torch.eye(10, 64)) and not network.clusters.bias.any()


def test_convolutions_start_with_the_deviation_of_their_inputs() -> None:
    network = CorrelationNetwork("dccm_c4", shape(32, 3), 10, seed=0)
    stds = [float(part.weight.detach().std()) for part in network.modules() if isinstance(part, torch.nn.Conv2d)]
    # sqrt(2 / (9 channels)), as PyTorch's default for Kaiming's rule has it.
    assert stds == pytest.approx([(2 / 27) ** 0.5, (2 / 576) ** 0.5, (2 / 576) ** 0.5, (2 / 1152) ** 0.5], rel=0.05)


def test_batch_statistics_are_used_in_eval_mode_too() -> None:
    network = CorrelationNetwork("dccm_small", shape(8), 3, seed=0)
    images = torch.rand(6, 1, 8, 8)
    assert torch.equal(network.train()(images).predictions_BC, network.eval()(images).predictions_BC)
    assert not torch.equal(network(images[:3]).predictions_BC, network(images).predictions_BC[:3])


def test_weights_come_from_the_seed_alone() -> None:
    before = torch.get_rng_state()
    first, again, other = (CorrelationNetwork("dccm_small", shape(8), 3, seed=seed) for seed in (4, 4, 5))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first.shallow[0].weight, again.shallow[0].weight)
    assert not torch.equal(first.shallow[0].weight, other.shallow[0].weight)


def test_the_discriminator_is_three_layers_over_map_and_vector_laid_side_by_side() -> None:
    critic = Discriminator("dccm_small", 32, 3, seed=0)
    deep, shallow = torch.rand(5, 3), torch.rand(5, 32, 4, 4)
    partner = torch.randint(0, 5, (4, 5), generator=torch.Generator().manual_seed(0))
    found = critic(deep, shallow, partner)
    first = torch.cat([critic.on_shallow.weight, critic.on_deep.weight[:, :, None, None]], dim=1)
    for p in range(4):
        for i in range(5):
            joined = torch.cat([shallow[partner[p, i]], deep[i][:, None, None].expand(-1, 4, 4)])[None]
            hidden = torch.nn.functional.conv2d(joined, first).relu()
            wanted = critic.third(critic.second(hidden).relu())[0, 0]
            torch.testing.assert_close(found[p, i], wanted)


def test_auto_goes_by_size_and_too_small_images_are_refused() -> None:
    assert (resolve("auto", shape(28)), resolve("auto", shape(32))) == ("dccm_small", "dccm_c4")
    with pytest.raises(ValueError, match="dccm_c4 takes images of at least 32 px, but these have 8 px. Use dccm_small"):
        resolve("dccm_c4", shape(8))
    with pytest.raises(ValueError, match="auto or one of dccm_c4, dccm_small, but is 'vgg'"):
        resolve("vgg", shape(8))


@pytest.mark.parametrize("laid", [torch.contiguous_format, torch.channels_last])
def test_the_gradient_of_the_global_mean_lies_in_memory_as_the_maps_do(laid: torch.memory_format) -> None:
    maps = torch.rand(3, 5, 4, 4).to(memory_format=laid).requires_grad_()
    mean = GlobalMean()(maps)
    torch.testing.assert_close(mean, torch.nn.AdaptiveAvgPool2d(1)(maps))
    (slope,) = torch.autograd.grad(mean.square().sum(), maps)
    assert slope.is_contiguous(memory_format=laid)
    torch.testing.assert_close(slope, (2 * mean / 16).expand_as(maps).detach())
