"""Turns between nodes: who gets a lease, when one ends, and what becomes of it when the book itself is lost."""

import threading
import time
from collections.abc import Iterator

import pytest
import ray

from trainables.store import leases
from trainables.store.leases import LEASE_S, Book, SharedLeases


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def test_a_lease_has_one_holder_until_it_is_given_back() -> None:
    book = Book(Clock())
    assert book.take("scan-0", "a") and not book.take("scan-0", "b")
    assert book.take("scan-1", "b")
    book.give_back("scan-0", "a")
    assert book.take("scan-0", "b") and not book.take("scan-0", "a")


def test_a_lease_that_is_not_renewed_ends() -> None:
    clock = Clock()
    book = Book(clock)
    book.take("scan-0", "a")
    clock.now_s = LEASE_S - 1
    assert book.take("scan-0", "a")
    clock.now_s = 2 * LEASE_S - 2
    assert not book.take("scan-0", "b")
    clock.now_s = 2 * LEASE_S
    assert book.take("scan-0", "b")


def test_only_its_holder_can_give_a_lease_back() -> None:
    book = Book(Clock())
    book.take("scan-0", "a")
    book.give_back("scan-0", "b")
    book.give_back("scan-1", "b")
    assert not book.take("scan-0", "b")


@pytest.fixture(scope="module")
def _ray() -> Iterator[None]:
    patience = pytest.MonkeyPatch()
    patience.setattr(leases, "_ASK_LIMIT_S", 100.0)  # an actor's process takes long to start on a busy machine
    ray.init(num_cpus=1, num_gpus=0, include_dashboard=False, namespace="another", log_to_driver=False)
    book = leases.start()
    assert ray.get(book.take.remote("the first", "test"))
    yield
    del book
    ray.shutdown()
    patience.undo()


@pytest.mark.slow
@pytest.mark.usefixtures("_ray")
def test_a_waiting_process_gets_the_lease_when_the_holder_ends_and_other_storages_do_not_wait() -> None:
    order = []
    entered = threading.Event()

    def second() -> None:
        entered.set()
        with SharedLeases("s3://bucket").hold("scan-0", 0.01):
            order.append("second")

    waiting = threading.Thread(target=second)
    with SharedLeases("s3://bucket").hold("scan-0"):
        waiting.start()
        entered.wait(30)
        with SharedLeases("s3://bucket").hold("scan-1"), SharedLeases("s3://another").hold("scan-0"):
            order.append("first")
    waiting.join(30)
    assert order == ["first", "second"]


@pytest.mark.slow
@pytest.mark.usefixtures("_ray")
def test_a_holder_keeps_its_lease_although_the_book_was_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "_RENEW_S", 0.05)
    with SharedLeases("s3://bucket").hold("scan-0"):
        ray.kill(leases.start())
        until = time.monotonic() + 100
        while not _is_held("s3://bucket/scan-0"):
            assert time.monotonic() < until, "the lease was not taken again"
            time.sleep(0.05)
    assert not _is_held("s3://bucket/scan-0")


def _is_held(name: str) -> bool:
    """By somebody else; what is free is taken, and given back at once."""
    try:
        taken = ray.get(leases.start().take.remote(name, "probe"))
        ray.get(leases.start().give_back.remote(name, "probe"))
    except ray.exceptions.RayActorError:
        return False
    return not taken


@pytest.mark.slow
@pytest.mark.usefixtures("_ray")
def test_without_any_book_the_work_is_done_all_the_same(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def lost() -> None:
        raise ray.exceptions.RayActorError()

    monkeypatch.setattr(leases, "start", lost)
    with SharedLeases("s3://bucket").hold("scan-0"):
        pass
    assert "s3://bucket/scan-0 may be computed twice" in caplog.text
