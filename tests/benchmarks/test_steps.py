"""The two sides of the training steps' benchmark do the same work."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from benchmarks import _plain_steps as plain
from benchmarks import steps
from trainables.maths import contrastive, scan_loss, selflabel, sinkhorn

NUM_IMAGES, BATCH = 48, 24
# Of 24 images in an outer batch each is trained on four times, and none is left out.
EXPECTED = {"simclr": 48, "scan": 48, "selflabel": 48, "swav": 48, "dccm": 192}


@pytest.fixture(autouse=True)
def _in_this_process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The baseline's images are changed here: no worker processes to start."""
    usual = DataLoader.__init__

    def init(self: "DataLoader[object]", *arguments: object, **options: object) -> None:
        options |= {"num_workers": 0, "persistent_workers": False}
        usual(self, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(DataLoader, "__init__", init)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("method", steps.CASES)
def test_both_sides_train_on_as_many_images_with_finite_losses(method: str) -> None:
    case = steps.CASES[method](steps.work(NUM_IMAGES, "small", BATCH))
    for seen in (case.ours(), case.theirs()):
        assert seen.num_images == EXPECTED[method]
        assert np.isfinite(seen.loss)


@pytest.mark.parametrize("augmentation", ["SIMCLR", "STRONG", "WEAK", "SWAV", "KERAS"])
def test_a_plain_view_is_a_float_image_of_the_same_size(augmentation: str) -> None:
    views, row = plain.Views(steps.work(4, "small").images, [getattr(plain, augmentation)])[2]
    assert row == 2 and views[0].shape == (3, 32, 32) and views[0].dtype == torch.float32


def test_a_neighbor_is_one_of_the_images_own() -> None:
    images_NCHW = torch.arange(4, dtype=torch.uint8)[:, None, None, None].expand(4, 3, 32, 32)
    data = plain.Views(images_NCHW, [level, level], np.array([[0, 3], [1, 2], [2, 1], [3, 0]]))
    assert {tuple(int(view) for view in data[1][0]) for _ in range(40)} == {(1, 1), (1, 2)}


def level(image: object) -> torch.Tensor:
    return torch.tensor(int(np.asarray(image)[0, 0, 0]))


def logits(seed: int) -> torch.Tensor:
    return torch.randn(12, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_the_plain_losses_are_ours() -> None:
    first_BC, second_BC = logits(0), logits(1)
    units = [torch.nn.functional.normalize(each, dim=1) for each in (first_BC, second_BC)]
    ours = contrastive.nt_xent(*units, temperature=0.1, symmetric=False)
    torch.testing.assert_close(plain.info_nce(*units, 0.1), ours)

    ours = scan_loss.scan_loss(first_BC, second_BC, entropy_weight=5.0)[0]
    torch.testing.assert_close(plain.neighbor_loss(first_BC, second_BC, 5.0), ours)

    weak_BC = first_BC.softmax(1)
    ours, _ = selflabel.confident_cross_entropy(weak_BC, second_BC, threshold=0.5, balanced=True)
    theirs = plain.self_label_loss(weak_BC.float(), second_BC.float(), 0.5)
    torch.testing.assert_close(theirs.double(), ours, atol=1e-6, rtol=1e-6)

    codes = [sinkhorn.codes(each, epsilon=0.5, iterations=3) for each in units]
    torch.testing.assert_close(plain.codes(units[0], 0.5, 3), codes[0])
    ours = sinkhorn.swapped_prediction(codes, units, temperature=0.1)
    torch.testing.assert_close(plain.swapped_loss((units[0], units[1]), 0.5, 3, 0.1), ours)


def test_partners_are_the_image_a_linked_one_and_two_that_are_not() -> None:
    # 0 and 1 are linked, 2 stands alone: it is its own partner.
    graph_BB = torch.tensor([[1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    partner_PB = plain.partners(graph_BB)
    assert partner_PB[:2].tolist() == [[0, 1, 2], [1, 0, 2]]
    assert partner_PB[2:, :2].tolist() == [[2, 2], [2, 2]] and set(partner_PB[2:, 2].tolist()) <= {0, 1}
