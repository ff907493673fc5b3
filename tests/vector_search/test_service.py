"""The shared search over a real Ray: found by name, computed once, alive after its actor was killed."""

import logging
import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
from ray.exceptions import RayActorError

from trainables.vector_search import service as module
from trainables.vector_search.faiss_search import FaissSearch
from trainables.vector_search.result_cache import Answers
from trainables.vector_search.search_actor import SearchActor
from trainables.vector_search.service import (
    NAMESPACE,
    SearchLost,
    Service,
    SharedSearch,
    content_key,
    start,
)


@pytest.fixture(scope="module")
def held() -> Iterator[list[Service]]:
    """A running Ray; what stands in the list keeps its actor alive from one test to the next."""
    ray.init(num_cpus=2, num_gpus=0, include_dashboard=False, namespace="another", log_to_driver=False)
    yield []
    ray.shutdown()


@pytest.fixture
def service(held: list[Service]) -> Service:
    held.append(start())
    return held[-1]


def end(actor: Any) -> None:
    """Kill an actor for good, and wait until its name is free."""
    ray.kill(actor)
    until = time.monotonic() + 60
    while "faiss-0" in [each["name"] for each in ray.util.list_named_actors(all_namespaces=True)]:
        assert time.monotonic() < until
        time.sleep(0.05)


def stats(service: Service) -> dict[str, int]:
    return service.stats()["faiss-0"]


def counted(service: Service, before: dict[str, int]) -> dict[str, int]:
    after = stats(service)
    return {name: after[name] - before[name] for name in ("requests", "hits", "joined", "computed")}


def points(seed: int, num_rows: int = 700, width: int = 64) -> np.ndarray:
    """Other points for each test, so that none finds another's answers kept."""
    return np.random.default_rng(seed).standard_normal((num_rows, width), dtype=np.float32)


def test_an_answer_is_computed_once_and_then_kept() -> None:
    answers, computed = Answers(1000), []
    for _ in range(3):
        answers.get("a", 0, lambda: computed.append(1) or (np.zeros(10, np.float32),))
    assert (len(computed), answers.counts["hits"], answers.kept_bytes) == (1, 2, 40)


def test_a_wider_answer_serves_a_narrower_request_but_not_the_other_way() -> None:
    answers = Answers(1000)
    for width in (64, 64, 128, 64):
        answers.get("a", width, lambda: (np.zeros(1),))
    assert (answers.counts["computed"], answers.counts["hits"]) == (2, 2)


def test_the_answer_unused_for_longest_goes_when_the_bytes_run_out() -> None:
    # Three answers of 40 bytes, 100 allowed; "a" was used after "b".
    answers = Answers(100)
    for key in ("a", "b", "a", "c"):
        answers.get(key, 0, lambda: (np.zeros(10, np.float32),))
    answers.get("a", 0, lambda: pytest.fail("a was dropped"))
    assert answers.kept_bytes == 80
    answers.get("b", 0, lambda: (np.zeros(10, np.float32),))
    assert answers.counts["computed"] == 4


def test_an_answer_larger_than_all_room_is_given_but_not_kept() -> None:
    answers = Answers(10)
    assert len(answers.get("a", 0, lambda: (np.zeros(10, np.float32),))[0]) == 10
    assert answers.kept_bytes == 0


def test_callers_that_wait_for_the_same_answer_get_it_although_it_is_not_kept() -> None:
    answers, entered, go = Answers(0), threading.Event(), threading.Event()

    def compute() -> tuple[np.ndarray]:
        entered.set()
        go.wait(5)
        return (np.ones(1),)

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(answers.get, "a", 0, compute)
        entered.wait(5)
        second = pool.submit(answers.get, "a", 0, lambda: pytest.fail("computed twice"))
        while answers.counts["joined"] == 0:
            time.sleep(0.001)
        assert answers.queue == 2
        go.set()
        assert second.result(5) is first.result(5)
    assert answers.queue == 0


def test_a_failed_computation_reaches_its_caller_and_the_next_one_tries_again() -> None:
    answers = Answers(100)
    with pytest.raises(ValueError, match="bad"):
        answers.get("a", 0, lambda: (_ for _ in ()).throw(ValueError("bad")))
    assert answers.get("a", 0, lambda: (np.ones(1),))[0] == 1


def test_the_key_tells_shapes_arguments_and_absent_arrays_apart() -> None:
    a = np.zeros((2, 3), np.float32)
    keys = [
        content_key("knn", (a, None), (1,)),
        content_key("knn", (a, a), (1,)),
        content_key("knn", (a.reshape(3, 2), None), (1,)),
        content_key("knn", (a, None), (2,)),
        content_key("kmeans", (a, None), (1,)),
    ]
    assert len(set(keys)) == 5
    assert content_key("knn", (a.copy(), None), (1,)) == keys[0]


def test_without_ray_the_client_says_what_to_do() -> None:
    if ray.is_initialized():
        pytest.skip("another test left Ray running")
    with pytest.raises(RuntimeError, match="SharedSearch needs a running Ray; call ray.init"):
        SharedSearch(1)


@pytest.mark.slow
def test_the_shared_search_answers_exactly_as_the_one_in_this_process(service: Service) -> None:
    shared, local, points_ND = SharedSearch(1), FaissSearch(1, "cpu"), points(0)
    for metric in ("inner_product", "l2"):
        for queries_MD in (None, points_ND[:30] + 1):
            pairs = zip(
                shared.knn(points_ND, queries_MD, 21, metric), local.knn(points_ND, queries_MD, 21, metric), strict=True
            )
            for got, wanted in pairs:
                assert got.dtype == wanted.dtype
                np.testing.assert_array_equal(got, wanted)
    for got, wanted in zip(
        shared.knn(points_ND, None, 21, "l2", half=True), local.knn(points_ND, None, 21, "l2", half=True), strict=True
    ):
        np.testing.assert_array_equal(got, wanted)
    got, wanted = shared.kmeans(points_ND, 7, 3, 20, 2), local.kmeans(points_ND, 7, 3, 20, 2)
    np.testing.assert_array_equal(got.centroids_CD, wanted.centroids_CD)
    np.testing.assert_array_equal(got.labels_N, wanted.labels_N)
    assert (got.inertia, got.num_empty) == (wanted.inertia, wanted.num_empty)
    got, wanted = shared.pic(points_ND, 5, 0.2, 0.001), local.pic(points_ND, 5, 0.2, 0.001)
    np.testing.assert_array_equal(got.labels_N, wanted.labels_N)
    got, wanted = shared.whiten(points_ND, 9), local.whiten(points_ND, 9)
    np.testing.assert_array_equal(got.matrix_DE, wanted.matrix_DE)
    np.testing.assert_array_equal(got.offset_E, wanted.offset_E)
    centroids_CD = shared.kmeans(points_ND, 7, 3, 20, 2).centroids_CD
    for got, wanted in zip(shared.assign(points_ND, centroids_CD), local.assign(points_ND, centroids_CD), strict=True):
        np.testing.assert_array_equal(got, wanted)


@pytest.mark.slow
def test_tasks_in_other_processes_find_the_actor_by_name_and_share_its_answers(service: Service) -> None:
    @ray.remote(num_cpus=1)
    def trial(points_ND: np.ndarray) -> int:
        SharedSearch(1).knn(points_ND, None, 5, "l2")
        return os.getpid()

    before = stats(service)
    pids = {ray.get(trial.remote(points(1))) for _ in range(2)}
    assert counted(service, before) == {"requests": 2, "hits": 1, "joined": 0, "computed": 1}
    assert before["pid"] not in pids


@pytest.mark.slow
def test_one_search_serves_every_smaller_k(service: Service) -> None:
    shared, local, points_ND = SharedSearch(1), FaissSearch(1, "cpu"), points(2)
    before = stats(service)
    for k in (21, 64, 5):
        np.testing.assert_array_equal(shared.knn(points_ND, None, k, "l2")[1], local.knn(points_ND, None, k, "l2")[1])
    assert counted(service, before)["computed"] == 1
    shared.knn(points_ND, None, 65, "l2")
    assert counted(service, before)["computed"] == 2


@pytest.mark.slow
def test_two_identical_requests_at_once_compute_once(service: Service) -> None:
    points_ND, before = points(3, 6000), stats(service)
    with ThreadPoolExecutor(2) as pool:
        asked = [pool.submit(SharedSearch(1).knn, points_ND, None, 20, "inner_product") for _ in range(2)]
        first, second = (request.result(60)[1] for request in asked)
    np.testing.assert_array_equal(first, second)
    seen = counted(service, before)
    assert (seen["requests"], seen["computed"]) == (2, 1)


@pytest.mark.slow
def test_a_request_runs_with_its_callers_threads(service: Service) -> None:
    for threads in (1, 2):
        SharedSearch(threads).assign(points(4), points(4)[:3])
        assert stats(service)["threads"] == threads


@pytest.mark.slow
def test_bad_input_is_refused_in_the_callers_words_and_before_it_is_sent(service: Service) -> None:
    before = stats(service)
    with pytest.raises(ValueError, match="^k must be at least 1 and at most 700, the rows of base_ND, but is 701"):
        SharedSearch(1).knn(points(5), None, 701, "l2")
    assert counted(service, before)["requests"] == 0


@pytest.mark.slow
def test_an_error_inside_the_actor_comes_back_as_the_error_itself(service: Service) -> None:
    with pytest.raises(ValueError, match="^l2 values are beyond float32; normalize the rows first"):
        SharedSearch(1).knn(points(5) * np.float32(1e30), None, 3, "l2")


@pytest.mark.slow
def test_an_actor_killed_during_a_search_restarts_and_gives_the_same_neighbors(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RESTART_LIMIT_S", 120.0)  # a fresh process imports torch, however busy the machine is
    points_ND, before = points(6, 12000, 256), stats(service)
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(SharedSearch(1).knn, points_ND, None, 20, "l2")
        while stats(service)["queue"] == 0:
            time.sleep(0.005)
        os.kill(before["pid"], signal.SIGKILL)
        _, neighbors_NK = asked.result(60)
    np.testing.assert_array_equal(neighbors_NK, FaissSearch(1, "cpu").knn(points_ND, None, 20, "l2")[1])
    after = stats(service)
    assert after["pid"] != before["pid"] and after["computed"] == 1


@pytest.mark.slow
def test_an_actor_that_is_gone_for_good_is_opened_again_by_the_client(service: Service) -> None:
    shared, points_ND = SharedSearch(1), points(7)
    shared.knn(points_ND, None, 4, "l2")
    ray.kill(service.actors["faiss-0"])
    wanted = FaissSearch(1, "cpu").knn(points_ND, None, 5, "l2")
    np.testing.assert_array_equal(shared.knn(points_ND, None, 5, "l2")[1], wanted[1])
    reopened = ray.get_actor("faiss-0", namespace=NAMESPACE)
    assert ray.get(reopened.stats.remote())["computed"] == 1


@pytest.mark.slow
def test_an_actor_that_is_found_while_it_goes_is_started_again(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    going = service.actors["faiss-0"]
    end(going)
    opened, asked = module._open, []

    def found_while_it_goes(*arguments: Any) -> Any:
        asked.append(arguments)
        return going if len(asked) == 1 else opened(*arguments)

    monkeypatch.setattr(module, "_open", found_while_it_goes)
    started = start()
    assert len(asked) == 2 and stats(started)["computed"] == 0
    monkeypatch.setattr(module, "_open", lambda *_: going)
    with pytest.raises(RayActorError):
        start()
    end(started.actors["faiss-0"])


@pytest.mark.slow
def test_an_actor_whose_gpu_fails_ends_and_a_fresh_one_answers(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RESTART_LIMIT_S", 120.0)  # a fresh process imports torch, however busy the machine is
    marker, points_ND = str(tmp_path / "failed"), points(9)

    class Failing(SearchActor):
        """Fails in its first process."""

        def _search(self, threads: int) -> Any:
            if not os.path.exists(marker):
                with open(marker, "w") as file:
                    file.write(str(os.getpid()))
                raise RuntimeError("CUDA error 700 an illegal memory access was encountered")
            return super()._search(threads)

    end(service.actors["faiss-0"])
    options = {"name": "faiss-0", "namespace": NAMESPACE, "max_restarts": -1, "max_concurrency": 4, "num_cpus": 0}
    actor = ray.remote(Failing).options(**options).remote("cpu")
    wanted = FaissSearch(1, "cpu").knn(points_ND, None, 5, "l2")
    np.testing.assert_array_equal(SharedSearch(1).knn(points_ND, None, 5, "l2")[1], wanted[1])
    after = ray.get(actor.stats.remote())
    assert after["computed"] == 1 and str(after["pid"]) != Path(marker).read_text()
    end(actor)  # the next test would find it while it goes


@pytest.mark.slow
def test_after_three_lost_attempts_the_caller_computes_itself_and_warns_once(
    service: Service, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    attempts = []

    def lose(*_: object) -> None:
        attempts.append(1)
        raise SearchLost("faiss-0 was lost")

    shared, points_ND = SharedSearch(1), points(8)
    monkeypatch.setattr(shared, "_ask_once", lose)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            labels_N, _distances_N = shared.assign(points_ND, points_ND[:5])
    np.testing.assert_array_equal(labels_N, FaissSearch(1).assign(points_ND, points_ND[:5])[0])
    assert len(attempts) == 6
    assert [record.message for record in caplog.records] == [
        "The shared search was lost 3 times in a row during assign; this trial now computes it itself."
    ]


@pytest.mark.slow
def test_starting_twice_gives_the_same_actor_and_books_nothing(service: Service) -> None:
    assert start().stats()["faiss-0"]["pid"] == stats(service)["pid"]
    assert ray.available_resources()["CPU"] == 2


@pytest.mark.slow
def test_more_gpus_than_the_cluster_has_are_refused(held: list[Service]) -> None:
    with pytest.raises(ValueError, match="num_gpus must be at least 0 and at most 0, the cluster's, but is 1"):
        start(1)
