"""The ring of keys, batch norm over parts, and the encoder that follows slowly."""

import pytest
import torch
from torch import nn

from trainables.nets import backbones
from trainables.nets.momentum import KeyQueue, SplitBatchNorm2d, follow, split_batch_norms


def queue(length: int = 5) -> KeyQueue:
    return KeyQueue(length, 2, torch.Generator().manual_seed(0))


def keys(first: int, num: int) -> torch.Tensor:
    return torch.arange(first, first + num).float()[:, None].expand(-1, 2)


def test_a_fresh_queue_holds_rows_of_length_one() -> None:
    torch.testing.assert_close(queue().keys_QD.norm(dim=1), torch.ones(5))


def test_the_queue_wraps_around_and_drops_the_oldest() -> None:
    ring = queue()
    ring.put(keys(0, 3))
    ring.put(keys(3, 3))
    assert ring.keys_QD[:, 0].tolist() == [5, 1, 2, 3, 4]
    ring.put(keys(6, 5))
    assert sorted(ring.keys_QD[:, 0].tolist()) == [6, 7, 8, 9, 10]


def test_the_queue_goes_on_where_its_saved_state_stood() -> None:
    ring, again = queue(), KeyQueue(5, 2, torch.Generator().manual_seed(1))
    ring.put(keys(0, 4))
    again.load_state_dict(ring.state_dict())
    for each in (ring, again):
        each.put(keys(4, 2))
    assert torch.equal(ring.keys_QD, again.keys_QD)


def test_more_keys_than_the_queue_holds_are_refused() -> None:
    with pytest.raises(ValueError, match="holds 5 keys, but 6 came"):
        queue().put(keys(0, 6))


@pytest.mark.parametrize("num_parts", [1, 2, 4])
def test_each_part_is_normalized_as_if_it_were_alone(num_parts: int) -> None:
    maps_BCHW = torch.randn(8, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    split, plain = SplitBatchNorm2d(nn.BatchNorm2d(3), num_parts), nn.BatchNorm2d(3)
    expected = torch.cat([plain(part) for part in maps_BCHW.chunk(num_parts)])
    torch.testing.assert_close(split(maps_BCHW), expected)


def test_running_statistics_are_the_mean_of_the_parts() -> None:
    maps_BCHW = torch.randn(8, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    split = SplitBatchNorm2d(nn.BatchNorm2d(3), 2)
    split(maps_BCHW)
    parts = [nn.BatchNorm2d(3) for _ in range(2)]
    for norm, part in zip(parts, maps_BCHW.chunk(2), strict=True):
        norm(part)
    means, variances = (torch.stack([getattr(p, name) for p in parts]) for name in ("running_mean", "running_var"))
    torch.testing.assert_close(split.running_mean, means.mean(0))
    torch.testing.assert_close(split.running_var, variances.mean(0))


def test_one_part_is_a_plain_batch_norm_in_both_modes() -> None:
    maps_BCHW = torch.randn(8, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    split, plain = SplitBatchNorm2d(nn.BatchNorm2d(3), 1), nn.BatchNorm2d(3)
    torch.testing.assert_close(split(maps_BCHW), plain(maps_BCHW))
    torch.testing.assert_close(split.eval()(maps_BCHW), plain.eval()(maps_BCHW))


def test_weights_move_between_a_split_and_a_plain_backbone() -> None:
    split, plain = (backbones.build("small", in_channels=1, image_size_px=8, seed=seed) for seed in (0, 1))
    split_batch_norms(split, 2)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in split.modules())
    split(torch.randn(8, 1, 8, 8))
    plain.load_state_dict(split.state_dict())
    images_BCHW = torch.randn(4, 1, 8, 8)
    torch.testing.assert_close(plain.eval()(images_BCHW), split.eval()(images_BCHW))


def test_the_slow_encoder_moves_by_its_momentum_and_the_fast_one_stays() -> None:
    slow, fast = nn.Linear(2, 2), nn.Linear(2, 2)
    expected = 0.9 * slow.weight.detach() + 0.1 * fast.weight.detach()
    before = fast.weight.detach().clone()
    follow(slow, fast, momentum=0.9)
    torch.testing.assert_close(slow.weight, nn.Parameter(expected))
    assert torch.equal(fast.weight, before)
