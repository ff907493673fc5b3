"""Which of several search actors gets a request, by hand: A and B are on one node, C on another."""

import pytest

from trainables.vector_search import routing
from trainables.vector_search.routing import Load, Router

LOADS = {"A": Load(0, "n1"), "B": Load(0, "n1"), "C": Load(0, "n2")}


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def loads(**queues: int) -> dict[str, Load]:
    return {name: Load(queue, LOADS[name].node) for name, queue in queues.items()}


def test_of_free_actors_one_on_the_own_node_is_taken() -> None:
    assert Router().choose("key", "n2", LOADS) == "C"
    assert Router().choose("key", "n1", LOADS) == "A"


def test_a_free_actor_elsewhere_goes_before_a_busy_one_here() -> None:
    assert Router().choose("key", "n1", loads(A=1, B=2, C=0)) == "C"


def test_of_busy_actors_the_least_queued_is_taken_and_of_equal_ones_that_of_the_own_node() -> None:
    assert Router().choose("key", "n1", loads(A=3, B=2, C=2)) == "B"
    assert Router().choose("key", "n2", loads(A=3, B=2, C=2)) == "C"


def test_an_equal_request_goes_where_the_first_went_however_busy_that_is() -> None:
    router = Router()
    assert router.choose("key", "n1", LOADS) == "A"
    assert router.choose("key", "n2", loads(A=9, B=0, C=0)) == "A"


def test_what_was_sent_off_a_moment_ago_counts_before_it_has_arrived() -> None:
    clock = Clock()
    router = Router(clock)
    assert [router.choose(key, "n1", LOADS) for key in ("k1", "k2", "k3")] == ["A", "B", "C"]
    clock.now_s = routing.UNDERWAY_S + 0.1
    assert router.choose("k4", "n1", LOADS) == "A"


def test_an_answer_whose_actor_is_gone_is_asked_of_another_one() -> None:
    router = Router()
    router.choose("key", "n1", LOADS)
    assert router.choose("key", "n1", loads(B=1, C=0)) == "C"
    assert router.choose("key", "n1", LOADS) == "C"


def test_the_keys_unused_for_longest_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routing, "KEPT_KEYS", 2)
    router = Router()
    for key in ("k1", "k2", "k1", "k3"):
        router.choose(key, "n1", LOADS)
    assert router.choose("k1", "n2", loads(A=5, B=5, C=0)) == "A"
    assert router.choose("k2", "n2", loads(A=5, B=5, C=0)) == "C"
