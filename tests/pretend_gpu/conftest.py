"""A pretend GPU for the tests of this folder; they are skipped where PyTorch does not allow one.

``make gpu-pretend`` runs them in a process of their own: what makes autograd run on the pretend GPU is for good.
"""

from collections.abc import Iterator

import pytest
import torch

from tests.pretend_gpu import autograd_context
from tests.pretend_gpu.counts import Counts
from tests.pretend_gpu.device import on

REASON = ""
if torch.cuda.is_available():
    REASON = "a real GPU is here: make gpu"
else:
    try:
        # When tests are collected, so before the first backward pass.
        autograd_context.replace()
    except autograd_context.Unsupported as error:
        REASON = str(error)


@pytest.fixture(autouse=True)
def _possible() -> None:
    if REASON:
        pytest.skip(REASON)


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def gpu() -> Iterator[Counts]:
    """The pretend GPU for a whole test, and what it counts."""
    with on() as counts:
        counts.clear()
        yield counts
