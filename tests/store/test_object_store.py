"""Results in an object store: nothing is there before all of it is, damage is refused, and any node goes on.

The store is a dict here, which can break at any request; ``tests/e2e/test_object_store.py`` has a real server.
"""

import io
import json
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch

from trainables.interfaces import Result
from trainables.store import artifacts, object_store
from trainables.store.artifacts import Store
from trainables.store.progress import ProgressFile

URI = "s3://bucket/folder"


class Broken(OSError):
    """An injected fault."""


class File:
    """As much of pyarrow's random access file as is asked for."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def size(self) -> int:
        return len(self._content)

    def read_at(self, num_bytes: int, offset: int) -> bytes:
        return self._content[offset : offset + num_bytes]


class Objects:
    """As much of a pyarrow file system as is asked for. breaks(method, path): whether a request fails."""

    def __init__(self) -> None:
        self.held: dict[str, bytes] = {}
        self.requests: list[tuple[str, str]] = []
        self.breaks: Callable[[str, str], bool] = lambda method, path: False

    def _asked(self, method: str, path: str) -> None:
        self.requests.append((method, path))
        if self.breaks(method, path):
            raise Broken("the connection was lost")

    def open_output_stream(self, path: str) -> AbstractContextManager[io.BytesIO]:
        self._asked("put", path)
        held = self.held

        class Stream(io.BytesIO):
            def close(self) -> None:
                held[path] = self.getvalue()
                super().close()

        return Stream()

    def open_input_file(self, path: str) -> AbstractContextManager["File"]:
        self._asked("get", path)
        if path not in self.held:
            raise FileNotFoundError(path)
        return nullcontext(File(self.held[path]))

    def delete_file(self, path: str) -> None:
        self._asked("delete", path)
        if path not in self.held:
            raise FileNotFoundError(path)
        del self.held[path]

    def puts(self) -> int:
        return sum(method == "put" for method, _ in self.requests)


@pytest.fixture
def objects(monkeypatch: pytest.MonkeyPatch) -> Objects:
    made = Objects()
    monkeypatch.setattr(object_store.Remote, "_at", lambda self, path: (made, path))
    monkeypatch.setattr(object_store, "_ATTEMPTS", 1)
    return made


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Store]:
    """node(name): the store as a fresh process of that node has it."""

    def made(name: str) -> Store:
        monkeypatch.setenv(object_store.LOCAL, str(tmp_path / name))
        return Store(URI)

    return made


def result(value: float = 1.0) -> Result:
    return Result(
        weights={"head": {"weight": torch.full((2, 3), value)}},
        arrays={"probabilities_eval": np.full((4, 2), value, dtype=np.float32)},
        facts={"network": "small"},
        metrics={"loss": value},
    )


def draw(folder: Path) -> None:
    (folder / "clusters.png").write_bytes(b"figure")


def put(store: Store, value: float = 1.0) -> None:
    store.put("scan-0", result(value), {"stage": "scan"}, [{"epoch": 1, "loss": value}], draw)


Node = Callable[[str], Store]


def test_what_one_node_puts_another_one_gets(objects: Objects, node: Node) -> None:
    put(node("first"), 3.0)
    second = node("second")
    assert "scan-0" in second
    found = second.get("scan-0")
    assert found is not None
    assert torch.equal(found.weights["head"]["weight"], torch.full((2, 3), 3.0))
    assert found.arrays["probabilities_eval"].tolist() == [[3.0, 3.0]] * 4
    assert (found.facts, found.metrics) == ({"network": "small"}, {"loss": 3.0})
    assert second.epochs("scan-0") == [{"epoch": 1, "loss": 3.0}]


def test_a_node_fetches_a_result_once(objects: Objects, node: Node) -> None:
    put(node("first"))
    node("second").get("scan-0")
    asked = len(objects.requests)
    assert node("second").get("scan-0") is not None
    assert len(objects.requests) == asked


def test_the_manifest_is_written_last(objects: Objects, node: Node) -> None:
    put(node("first"))
    written = [path for method, path in objects.requests if method == "put"]
    assert written[-1] == "stages/scan-0/manifest.json"
    # meta.json, weights.pt, epochs.json, one array, one figure
    assert len(written) == 6


@pytest.mark.parametrize("step", range(6))
def test_an_upload_that_dies_at_any_step_leaves_nothing_to_be_seen(objects: Objects, node: Node, step: int) -> None:
    objects.breaks = lambda method, path: method == "put" and objects.puts() > step
    with pytest.raises(object_store.Unreachable, match="the connection was lost"):
        put(node("first"))
    assert objects.puts() >= step + 1
    objects.breaks = lambda method, path: False
    for name in ("first", "second"):
        assert "scan-0" not in node(name)
        assert node(name).get("scan-0") is None
    assert list((node("first").root / ".new").iterdir()) == []
    put(node("second"), 2.0)
    found = node("first").get("scan-0")
    assert found is not None and found.metrics == {"loss": 2.0}


@pytest.mark.parametrize("step", range(1, 7))
def test_a_download_that_dies_at_any_step_leaves_nothing_half(objects: Objects, node: Node, step: int) -> None:
    put(node("first"))
    begun = len(objects.requests)
    objects.breaks = lambda method, path: len(objects.requests) >= begun + step
    with pytest.raises(object_store.Unreachable):
        node("second").get("scan-0")
    assert len(objects.requests) == begun + step
    objects.breaks = lambda method, path: False
    assert not (node("second").folder("scan-0")).exists()
    assert node("second").get("scan-0") is not None


def test_of_two_writers_the_later_counts_and_neither_is_mixed_with_the_other(objects: Objects, node: Node) -> None:
    # The second one begins and ends while the first is before its manifest.
    def once(method: str, path: str) -> bool:
        if method == "put" and path.endswith("manifest.json"):
            objects.breaks = lambda method, path: False
            put(node("second"), 2.0)
            assert metrics_on(node, "third") == {"loss": 2.0}
        return False

    first = node("first")
    objects.breaks = once
    put(first, 1.0)
    assert metrics_on(node, "fourth") == {"loss": 1.0}


def metrics_on(node: Node, name: str) -> object:
    found = node(name).get("scan-0")
    return found and (found.metrics if float(found.arrays["probabilities_eval"][0, 0]) == found.metrics["loss"] else {})


@pytest.mark.parametrize("which", ["weights.pt", "meta.json", "probabilities_eval.npy", "clusters.png"])
def test_a_damaged_object_is_refused_and_put_again(objects: Objects, node: Node, which: str) -> None:
    put(node("first"))
    (path,) = (path for path in objects.held if path.endswith(which))
    whole = objects.held[path]
    objects.held[path] = whole[:-1] + bytes([whole[-1] ^ 1])
    second = node("second")
    with pytest.warns(
        UserWarning, match=f"scan-0 is damaged in the store and is computed again: .*{which}: its sha256"
    ):
        assert second.get("scan-0") is None
    put(second)
    assert node("third").get("scan-0") is not None


def test_a_missing_object_is_refused(objects: Objects, node: Node) -> None:
    put(node("first"))
    (path,) = (path for path in objects.held if path.endswith("weights.pt"))
    del objects.held[path]
    with pytest.warns(UserWarning, match="weights.pt is missing"):
        assert node("second").get("scan-0") is None


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b'{"files": {"meta.json": "ab',
        b'{"files": {}}',
        b"[]",
        json.dumps({"files": {"meta.json": "a" * 64, "../../evil": "b" * 64}}).encode(),
        json.dumps({"files": {"meta.json": "a" * 64, "/etc/evil": "b" * 64}}).encode(),
        json.dumps({"files": {"meta.json": "../x"}}).encode(),
    ],
    ids=["empty", "cut", "without files", "a list", "above its folder", "absolute", "no digest"],
)
def test_a_damaged_manifest_counts_as_absent(objects: Objects, node: Node, content: bytes) -> None:
    objects.held["stages/scan-0/manifest.json"] = content
    with pytest.warns(UserWarning, match="the manifest of scan-0 is damaged"):
        assert node("first").get("scan-0") is None


def test_a_result_damaged_on_a_node_is_fetched_again(objects: Objects, node: Node) -> None:
    store = node("first")
    put(store, 3.0)
    (store.folder("scan-0") / "weights.pt").write_bytes(b"damaged")
    with pytest.warns(UserWarning, match="set aside"):
        found = node("first").get("scan-0")
    assert found is not None and found.metrics == {"loss": 3.0}


def test_an_unfinished_stage_goes_on_on_another_node_until_its_result_is_there(objects: Objects, node: Node) -> None:
    ProgressFile(node("first"), "scan-0").save(lambda: {"epoch": 4}, [{"epoch": 4, "loss": 1.0}])
    second = node("second")
    saved = ProgressFile(second, "scan-0").load()
    assert saved is not None and (saved.state, saved.epochs) == ({"epoch": 4}, [{"epoch": 4, "loss": 1.0}])
    put(second)
    assert ProgressFile(node("third"), "scan-0").load() is None


def test_progress_that_is_damaged_in_the_store_is_read_from_the_node(objects: Objects, node: Node) -> None:
    ProgressFile(node("first"), "scan-0").save(lambda: {"epoch": 4}, [])
    objects.held["progress/scan-0"] = objects.held["progress/scan-0"][:-1]
    with pytest.warns(UserWarning, match="progress of scan-0 is damaged"):
        saved = ProgressFile(node("first"), "scan-0").load()
    assert saved is not None and saved.state == {"epoch": 4}


def test_an_epoch_that_cannot_be_saved_in_the_store_stops_nothing(objects: Objects, node: Node) -> None:
    objects.breaks = lambda method, path: method == "put"
    store = node("first")
    with pytest.warns(UserWarning, match="the progress of scan-0 was saved on this node alone"):
        ProgressFile(store, "scan-0").save(lambda: {"epoch": 1}, [])
    saved = ProgressFile(store, "scan-0").load()
    assert saved is not None and saved.state == {"epoch": 1}


def test_the_driver_fetches_the_figures_alone(objects: Objects, node: Node) -> None:
    put(node("worker"))
    driver = node("driver")
    objects.requests.clear()
    (figure,) = artifacts.figures(URI, "scan-0")
    assert figure.read_bytes() == b"figure"
    assert [path.rpartition("/")[2] for _, path in objects.requests] == ["manifest.json", "clusters.png"]
    assert driver.get("scan-0") is not None


def test_figures_that_cannot_be_fetched_cost_the_figures_alone(objects: Objects, node: Node) -> None:
    node("driver")
    objects.breaks = lambda method, path: True
    with pytest.warns(UserWarning, match="the figures of scan-0 were not fetched"):
        assert artifacts.figures(URI, "scan-0") == []


def test_a_request_is_repeated_until_the_store_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(object_store.time, "sleep", waits.append)
    asked = []

    def call() -> str:
        asked.append(1)
        if len(asked) < 4:
            raise Broken("lost")
        return "answer"

    assert object_store._insist(call, 5) == "answer"
    assert waits == [1.0, 2.0, 4.0]
    asked.clear()
    with pytest.raises(object_store.Unreachable, match="lost; look at the credentials"):
        object_store._insist(call, 3)


# The URI


def test_each_uri_has_a_folder_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(object_store.LOCAL, str(tmp_path))
    folder = object_store.local_folder("s3://bucket/some/folder")
    assert folder.parent == tmp_path and folder.name.startswith("bucket-some-folder-")
    assert object_store.local_folder("s3://bucket/some/folder/") == folder
    others = ["gs://bucket/some/folder", "s3://bucket/some-folder", "s3://bucket/some/folder?endpoint_override=h:1"]
    assert len({folder, *map(object_store.local_folder, others)}) == 4
    monkeypatch.delenv(object_store.LOCAL)
    assert object_store.local_folder("s3://bucket/x").parent == Path.home() / ".clustersweep"


@pytest.mark.parametrize(
    ("uri", "says"),
    [
        ("s3://me:hunter2@bucket/runs", "no credentials in its URI"),
        ("s3://key@bucket/runs", "no credentials in its URI"),
        ("abfs://container:hunter2@account.dfs.core.windows.net/runs", "no credentials in its URI"),
        ("s3:///runs", "names no bucket"),
        ("s3://bucket/runs?secret_key=hunter2", "takes the options region, scheme, endpoint_override"),
    ],
)
def test_a_uri_that_says_too_much_or_too_little_is_refused(uri: str, says: str) -> None:
    with pytest.raises(ValueError, match=says) as refused:
        object_store.Remote(uri)
    assert "hunter2" not in str(refused.value)


def test_the_three_stores_are_known_and_a_folder_is_none() -> None:
    object_store.Remote("abfs://container@account.dfs.core.windows.net/runs")
    assert all(map(object_store.is_uri, ("s3://b/x", "gs://b/x", "abfs://c@a.dfs.core.windows.net/x")))
    assert not any(map(object_store.is_uri, ("runs", "/shared/runs", "file:///shared/runs", "http://b/x")))
