"""Whole augmentations: what every one of them promises, and each one's own sequence."""

import pytest
import torch
from torch import Tensor

from trainables.data import augment
from trainables.data.augment import AUGMENTATIONS, Norm, Strength
from trainables.data.batch_random import BatchRandom
from trainables.settings import SettingsError

RAW = {1: Norm((0.0,), (1.0,)), 3: Norm((0.0,) * 3, (1.0,) * 3)}
RANDOM = sorted(AUGMENTATIONS.keys() - {"eval"})


def pictures(num: int, channels: int, size: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (num, channels, size, size), generator=generator, dtype=torch.uint8)


def draws(num: int, seed: int = 0, start: int = 0, count: int | None = None) -> BatchRandom:
    return BatchRandom(torch.Generator().manual_seed(seed), num, start, count)


@pytest.mark.parametrize("size", [8, 11, 32])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_augmented_images_are_finite_and_in_range(name: str, channels: int, size: int) -> None:
    images_BCHW = AUGMENTATIONS[name](pictures(40, channels, size), draws(40), RAW[channels])
    assert images_BCHW.dtype == torch.float32 and images_BCHW.shape == (40, channels, size, size)
    assert images_BCHW.min() >= 0 and images_BCHW.max() <= 1


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_the_input_is_not_changed(name: str) -> None:
    images_BCHW = pictures(40, 3, 16)
    AUGMENTATIONS[name](images_BCHW, draws(40), RAW[3])
    assert torch.equal(images_BCHW, pictures(40, 3, 16))


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_the_same_seed_gives_the_same_images(name: str) -> None:
    first, second = (AUGMENTATIONS[name](pictures(40, 3, 16), draws(40), RAW[3]) for _ in range(2))
    assert torch.equal(first, second)


@pytest.mark.parametrize("name", RANDOM)
def test_another_seed_gives_other_images(name: str) -> None:
    first, second = (AUGMENTATIONS[name](pictures(40, 3, 16), draws(40, seed), RAW[3]) for seed in (0, 1))
    assert not torch.equal(first, second)


@pytest.mark.parametrize("name", RANDOM)
def test_copies_of_one_image_become_different(name: str) -> None:
    images_BCHW = pictures(1, 3, 16).expand(12, -1, -1, -1)
    assert len(AUGMENTATIONS[name](images_BCHW, draws(12), RAW[3]).unique(dim=0)) >= 6


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_two_ranks_make_the_images_of_one(name: str) -> None:
    images_BCHW = pictures(30, 3, 16)
    whole_BCHW = AUGMENTATIONS[name](images_BCHW, draws(30), RAW[3])
    parts = [
        AUGMENTATIONS[name](images_BCHW[start : start + 15], draws(30, start=start, count=15), RAW[3])
        for start in (0, 15)
    ]
    torch.testing.assert_close(torch.cat(parts), whole_BCHW, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_pieces_change_nothing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    images_BCHW = pictures(30, 3, 16)
    whole_BCHW = AUGMENTATIONS[name](images_BCHW, draws(30), RAW[3])
    monkeypatch.setattr(augment, "PIECE_VALUES", 7 * 3 * 16 * 16)
    torch.testing.assert_close(AUGMENTATIONS[name](images_BCHW, draws(30), RAW[3]), whole_BCHW, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_the_global_random_state_is_left_alone(name: str) -> None:
    before = torch.get_rng_state()
    AUGMENTATIONS[name](pictures(20, 3, 16), draws(20), RAW[3])
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_deterministic_algorithms_suffice(name: str) -> None:
    torch.use_deterministic_algorithms(True)
    try:
        AUGMENTATIONS[name](pictures(20, 3, 16), draws(20), RAW[3])
    finally:
        torch.use_deterministic_algorithms(False)


def test_eval_only_normalizes() -> None:
    images_BCHW = torch.full((1, 3, 8, 8), 51, dtype=torch.uint8)
    found_BCHW = augment.plain(images_BCHW, draws(1), Norm((0.1, 0.2, 0.0), (0.1, 0.5, 2.0)))
    # 51 / 255 = .2
    torch.testing.assert_close(found_BCHW[0, :, 0, 0], torch.tensor([1.0, 0.0, 0.1]))


def test_simclr_greys_a_fifth_of_the_images() -> None:
    images_BCHW = augment.simclr(pictures(2000, 3, 8), draws(2000), RAW[3])
    grey = (images_BCHW.amax(1) - images_BCHW.amin(1)).amax((1, 2)) < 1e-6
    # 400 expected, standard deviation 18.
    assert 330 < grey.sum() < 470


def test_simclr_without_jitter_keeps_the_colors_of_what_is_not_grey() -> None:
    image_1CHW = torch.tensor([250, 100, 30], dtype=torch.uint8).view(1, 3, 1, 1).expand(64, 3, 8, 8)
    images_BCHW = augment.simclr(image_1CHW, draws(64), RAW[3], Strength(jitter=0))
    colored_BCHW = images_BCHW[(images_BCHW[:, 0] - images_BCHW[:, 1]).amax((1, 2)) > 1e-3]
    assert len(colored_BCHW) > 32
    torch.testing.assert_close(colored_BCHW, (image_1CHW[: len(colored_BCHW)] / 255).contiguous(), rtol=0, atol=1e-5)


@pytest.mark.parametrize(("size", "longest"), [(32, 16), (64, 21), (96, 32), (224, 75), (8, 4), (28, 14)])
def test_cutout_is_the_published_length(size: int, longest: int) -> None:
    assert augment.published_cutout(size) == longest


def test_scan_strong_cuts_to_the_mean_color_after_normalizing() -> None:
    images_BCHW = torch.full((300, 3, 32, 32), 255, dtype=torch.uint8)
    norm = Norm((0.4, 0.5, 0.6), (0.2, 0.2, 0.2))
    found_BCHW = augment.scan_strong(images_BCHW, draws(300), norm, Strength(num_strong_ops=0))
    cut_BHW = (found_BCHW == 0).all(1)
    assert cut_BHW.any() and cut_BHW.sum((1, 2)).max() == 16 * 16
    assert torch.equal(cut_BHW, (found_BCHW == 0).any(1))


def test_cutout_of_length_one_is_off() -> None:
    images_BCHW = torch.full((50, 1, 8, 8), 255, dtype=torch.uint8)
    found_BCHW = augment.scan_strong(images_BCHW, draws(50), RAW[1], Strength(num_strong_ops=0, cutout_max_length=1))
    assert found_BCHW.min() == 1


def test_scan_strong_mirrors_half_the_images() -> None:
    images_BCHW = torch.arange(8, dtype=torch.uint8).expand(2000, 1, 8, 8)
    strength = Strength(num_strong_ops=0, cutout_max_length=1)
    mirrored = augment.scan_strong(images_BCHW, draws(2000), RAW[1], strength)[:, 0, 0, 0] > 0
    # 1,000 expected, standard deviation 22.
    assert 900 < mirrored.sum() < 1100


def test_spc_weak_shifts_by_an_eighth_at_most() -> None:
    column = torch.arange(32, dtype=torch.uint8)[:, None].expand(32, 32)
    found_BHW = augment.spc_weak(column.expand(500, 1, 32, 32), draws(500), RAW[1])[:, 0] * 255
    shift_B = (found_BHW[:, 16, 16] - 16).round().long()
    assert shift_B.unique().tolist() == list(range(-4, 5))


def test_affine_at_zero_only_normalizes() -> None:
    images_BCHW = pictures(5, 1, 8)
    found_BCHW = augment.affine(images_BCHW, draws(5), RAW[1], Strength(affine=0))
    torch.testing.assert_close(found_BCHW, images_BCHW / 255, rtol=0, atol=1e-5)


def test_affine_shifts_by_an_eighth_at_most() -> None:
    # A dot in the middle stays within an eighth of 64 px, plus its own width.
    images_BCHW = torch.zeros(300, 1, 64, 64, dtype=torch.uint8)
    images_BCHW[:, :, 31:33, 31:33] = 255
    bright_BHW = augment.affine(images_BCHW, draws(300), RAW[1])[:, 0] > 0.45
    rows = bright_BHW.any(0).nonzero()
    assert rows.min() >= 31 - 8 * 1.25 - 2 and rows.max() <= 32 + 8 * 1.25 + 2


def test_strong_operations_can_be_made_more_or_fewer() -> None:
    images_BCHW = pictures(100, 3, 16)
    few, many = (
        augment.scan_strong(images_BCHW, draws(100), RAW[3], Strength(num_strong_ops=n, cutout_max_length=1))
        for n in (1, 6)
    )
    straight, mirrored = images_BCHW / 255, images_BCHW.flip(-1) / 255
    untouched = [sum(map(torch.equal, x, y)) for x in (few, many) for y in (straight, mirrored)]
    # One operation in fourteen is the identity; six in a row almost never.
    assert sum(untouched[:2]) > sum(untouched[2:])


def test_wrong_pixels_are_refused() -> None:
    with pytest.raises(ValueError, match=r"must be uint8 of shape \(B, 1 or 3, H, W\).*torch.float32 of shape"):
        augment.simclr(torch.rand(2, 3, 8, 8), draws(2), RAW[3])


def test_images_under_eight_pixels_are_refused() -> None:
    with pytest.raises(ValueError, match=r"sides of at least 8 px, but are torch.uint8 of shape \(2, 3, 7, 7\)"):
        augment.simclr(pictures(2, 3, 7), draws(2), RAW[3])


def test_draws_for_another_batch_are_refused() -> None:
    with pytest.raises(ValueError, match="draws are for 4 images, but 2 came"):
        augment.simclr(pictures(2, 3, 8), draws(4), RAW[3])


def test_norm_for_other_channels_is_refused() -> None:
    with pytest.raises(ValueError, match="Norm has 1 channels, but the images have 3"):
        augment.simclr(pictures(2, 3, 8), draws(2), RAW[1])


def test_norm_without_spread_is_refused() -> None:
    with pytest.raises(ValueError, match=r"std above 0 for each channel, but has mean \(0.5,\) and std \(0.0,\)"):
        Norm((0.5,), (0.0,))


def test_strength_outside_its_range_is_refused() -> None:
    with pytest.raises(SettingsError, match="crop_min_area must be above 0 and at most 1, but is 0"):
        Strength(crop_min_area=0.0)


@pytest.mark.parametrize("size", [16, 256])
def test_views_of_simgcd_are_windows_of_seven_eighths_of_the_side_mirrored_or_not(size: int) -> None:
    # Columns and rows are numbered in the channels, so that a view says where it comes from.
    x_HW, y_HW = torch.arange(size).expand(size, size), torch.arange(size)[:, None].expand(size, size)
    images_BCHW = torch.stack([x_HW, y_HW, x_HW]).to(torch.uint8).expand(24, -1, -1, -1)
    views_BCHW = augment.simgcd(images_BCHW, draws(24), RAW[3]) * 255
    side, starts = size * 7 // 8, set()
    for x_HW, y_HW, _ in views_BCHW:
        mirrored = bool(x_HW[0, 0] > x_HW[0, -1])
        left, right = x_HW[0, [-1, 0] if mirrored else [0, -1]].tolist()
        assert right - left == pytest.approx(side - 1, abs=0.01)
        assert float(y_HW[-1, 0] - y_HW[0, 0]) == pytest.approx(side - 1, abs=0.01)
        starts.add((mirrored, round(left), round(float(y_HW[0, 0]))))
    assert {mirrored for mirrored, _, _ in starts} == {True, False}
    assert {left for _, left, _ in starts} <= set(range(size - side + 1)) and len(starts) >= 8
