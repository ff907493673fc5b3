"""Images that stay in their files: the pixels memory has, decoded ahead, by processes that end with their owner."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from trainables.data import batches, datasets
from trainables.data.datasets import Spec, load
from trainables.data.decoding import workers
from trainables.data.decoding.workers import Decoders, FileImages
from trainables.data.loaded import DataError
from trainables.interfaces import ImageData
from trainables.nets import backbones, models
from trainables.runner.runtime import SingleProcess, StageRuntime
from trainables.stages import kmeans, neighbors, scan, selflabel, simclr, spc
from trainables.vector_search.faiss_search import FaissSearch

SIZE = 16
WAIT_S = 20.0


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 images to train on and 20 to judge in two classes, of several sizes; one is grey, one is a PNG."""
    folder: Path = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for part, num in (("train", 20), ("val", 10)):
        for label, name in enumerate(("ant", "bee")):
            (folder / part / name).mkdir(parents=True)
            for number in range(num):
                height, width = rng.integers(SIZE, 3 * SIZE, 2)
                image_HWC = rng.integers(0, 100, (height, width, 3)) + 120 * label
                kind = "png" if number == 1 else "jpg"
                image = Image.fromarray(image_HWC.astype(np.uint8))
                (image.convert("L") if number == 2 else image).save(folder / part / name / f"{number:02}.{kind}")
    return folder


@pytest.fixture(scope="module")
def memory(root: Path) -> ImageData:
    return load(Spec(name="folder", root=str(root), image_size=SIZE))


@pytest.fixture(scope="module")
def streamed(root: Path, memory: ImageData) -> ImageData:
    """The same images in their files, and the same mean and std to the last bit."""
    data = load(Spec(name="folder", root=str(root), image_size=SIZE, stream="always"))
    assert isinstance(data.train.images_NCHW, FileImages)
    return data


@pytest.fixture
def decoders() -> Iterator[Decoders]:
    yield Decoders(SIZE, num_workers=1)


def paths_of(data: ImageData) -> list[str]:
    assert isinstance(data.train.images_NCHW, FileImages)
    return list(data.train.images_NCHW.paths)


def waiting(decoders: Decoders) -> set[str]:
    assert decoders._work is not None
    return set(decoders._work._slots)


def decoded_ahead(decoders: Decoders, wanted: Iterable[str]) -> bool:
    """Whether exactly these files come to wait decoded."""
    work, wanted = decoders._work, set(wanted)
    assert work is not None
    with work._changed:
        return work._changed.wait_for(lambda: work._ready == wanted == set(work._slots), WAIT_S)


def ended(pid: int) -> bool:
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return True
        if state == "Z":
            return True
        os.sched_yield()
    return False


def test_streamed_pixels_are_those_in_memory(memory: ImageData, streamed: ImageData) -> None:
    assert torch.equal(streamed.train.images_NCHW[:], memory.train.images_NCHW[:])
    rows_B = torch.tensor([39, 0, 0, 17])
    assert torch.equal(streamed.train.images_NCHW[rows_B], memory.train.images_NCHW[rows_B])
    assert streamed.train.images_NCHW.shape == memory.train.images_NCHW.shape
    assert (streamed.train.images_NCHW.dtype, streamed.train.images_NCHW.ndim) == (torch.uint8, 4)
    assert streamed.shape == memory.shape and (streamed.mean, streamed.std) == (memory.mean, memory.std)
    assert torch.equal(streamed.train.labels_N, memory.train.labels_N)


def test_limits_and_union_hold_for_files(root: Path) -> None:
    spec = Spec(name="folder", root=str(root), image_size=SIZE, protocol="union", train_limit=30)
    wanted, found = load(spec), load(replace(spec, stream="always"))
    assert found.is_union and len(found.train) == 30
    assert torch.equal(found.train.images_NCHW[:], wanted.train.images_NCHW[:])


def test_the_whole_set_can_be_brought_into_memory(memory: ImageData, streamed: ImageData) -> None:
    images = streamed.eval.images_NCHW
    assert isinstance(images, FileImages)
    assert torch.equal(images.whole(torch.device("cpu")), memory.eval.images_NCHW[:])


def test_more_rows_than_the_ring_holds_come_in_parts(streamed: ImageData, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "RING_BYTES", 0)
    monkeypatch.setattr(workers, "SMALLEST_RING", 8)
    few = FileImages(paths_of(streamed), Decoders(SIZE, num_workers=2))
    rows_B = torch.arange(40).flip(0).repeat(2)
    assert torch.equal(few[rows_B], streamed.train.images_NCHW[rows_B])


def test_announced_rows_are_decoded_before_anybody_asks(streamed: ImageData, decoders: Decoders) -> None:
    paths = paths_of(streamed)
    images = FileImages(paths, decoders)
    images.announce(torch.tensor([5, 3, 8]))
    assert decoded_ahead(decoders, {paths[5], paths[3], paths[8]})
    assert torch.equal(images[torch.tensor([3])], streamed.train.images_NCHW[torch.tensor([3])])
    assert waiting(decoders) == {paths[5], paths[8]}


def test_what_was_announced_before_is_forgotten(streamed: ImageData, decoders: Decoders) -> None:
    paths = paths_of(streamed)
    images = FileImages(paths, decoders)
    images.announce(torch.arange(20))
    images.announce(torch.tensor([30, 31]))
    assert decoded_ahead(decoders, {paths[30], paths[31]})


def test_at_most_half_the_ring_is_decoded_ahead(streamed: ImageData, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "RING_BYTES", 0)
    monkeypatch.setattr(workers, "SMALLEST_RING", 12)
    decoders = Decoders(SIZE, num_workers=2)
    images = FileImages(paths_of(streamed), decoders)
    images.announce(torch.arange(40))
    assert decoded_ahead(decoders, set(paths_of(streamed)[:6]))
    images[torch.arange(4)]
    assert decoded_ahead(decoders, set(paths_of(streamed)[4:10]))


def test_slices_are_read_on_as_they_are(streamed: ImageData, decoders: Decoders) -> None:
    paths = paths_of(streamed)
    FileImages(paths, decoders)[10:14]
    assert decoded_ahead(decoders, set(paths[14:18]))


def test_an_epoch_announces_this_ranks_rows(streamed: ImageData, decoders: Decoders) -> None:
    paths = paths_of(streamed)
    split = replace(streamed.train, images_NCHW=FileImages(paths, decoders))
    order = batches.batches(split, 8, torch.Generator().manual_seed(0), rank=1, world_size=2, drop_last=True)
    own = [next(order), *order]
    assert decoded_ahead(decoders, {paths[row] for batch in own for row in batch.rows_B.tolist()})
    assert len(own) == 5


def test_batches_of_a_split_are_those_of_its_length(memory: ImageData, streamed: ImageData) -> None:
    orders = [
        [batch.rows_B.tolist() for batch in batches.batches(
            rows, 8, torch.Generator().manual_seed(3), rank=0, world_size=1, drop_last=True
        )]
        for rows in (40, memory.train, streamed.train)
    ]  # fmt: skip
    assert orders[0] == orders[1] == orders[2]


def test_a_damaged_file_is_named_when_its_row_is_asked_for(tmp_path: Path) -> None:
    good, empty, text = (tmp_path / name for name in ("good.png", "empty.png", "text.jpg"))
    Image.new("RGB", (20, 20), (9, 9, 9)).save(good)
    empty.write_bytes(b"")
    text.write_text("no image")
    images = FileImages([str(good), str(empty), str(text)], Decoders(SIZE, num_workers=1))
    with pytest.raises(DataError, match=r"(?s)empty.png is empty \(0 bytes\).*text.jpg is no readable image"):
        images[torch.arange(3)]
    assert bool((images[torch.tensor([0])] == 9).all())


def test_a_worker_that_was_killed_is_an_error_and_not_a_wait(streamed: ImageData, decoders: Decoders) -> None:
    images = FileImages(paths_of(streamed), decoders)
    images[torch.arange(2)]
    assert decoders._work is not None
    for process in decoders._work.processes:
        process.kill()
        process.wait()
    with pytest.raises(RuntimeError, match="process(es)? that decodes? images has ended"):
        images[torch.arange(20, 22)]


def test_workers_end_with_their_images(streamed: ImageData) -> None:
    images = FileImages(paths_of(streamed), Decoders(SIZE, num_workers=2))
    images[torch.arange(2)]
    assert images.decoders._work is not None
    pids = [process.pid for process in images.decoders._work.processes]
    del images
    assert all(map(ended, pids))


def test_workers_end_when_their_owner_is_killed(streamed: ImageData) -> None:
    program = (
        "import sys, torch\n"
        "from trainables.data.decoding.workers import Decoders, FileImages\n"
        f"images = FileImages(sys.argv[1:], Decoders({SIZE}, num_workers=2))\n"
        "images[torch.arange(2)]\n"
        "print(*(process.pid for process in images.decoders._work.processes), flush=True)\n"
        "sys.stdin.read()\n"
    )
    owner = subprocess.Popen(
        [sys.executable, "-c", program, *paths_of(streamed)[:2]],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).resolve().parents[2],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])},
    )
    assert owner.stdout is not None
    pids = list(map(int, owner.stdout.readline().split()))
    owner.send_signal(signal.SIGKILL)
    owner.wait()
    owner.stdout.close()
    assert len(pids) == 2 and all(map(ended, pids))


def test_predict_gives_what_it_gives_in_memory(memory: ImageData, streamed: ImageData) -> None:
    backbone = backbones.build("small", in_channels=3, image_size_px=SIZE, seed=0)
    features = [
        models.predict(backbone, data.train.images_NCHW, memory.mean, memory.std, batch_size=16)
        for data in (memory, streamed)
    ]
    assert torch.equal(*features)


def test_every_stage_gives_what_it_gives_in_memory(memory: ImageData, streamed: ImageData) -> None:
    stages = [
        (simclr, simclr.Config(network="small", batch_size=20, epochs=1)),
        (neighbors, neighbors.Config(num_neighbors=5)),
        (kmeans, kmeans.Config(restarts=1)),
        (scan, scan.Config(num_neighbors=3, batch_size=20, epochs=1)),
        (selflabel, selflabel.Config(batch_size=20, epochs=1, confidence_threshold=0.5)),
        (spc, spc.Config(batch_size=8, epochs=1, strong_threshold=0.5, graph_neighbors=5, top_fraction_per_class=0.1)),
    ]
    found: list[dict[str, dict[str, float]]] = []
    for data in (memory, streamed):
        results = {}
        for stage, config in stages:
            runtime = StageRuntime(SingleProcess(torch.device("cpu")), stage.NAMESPACE, 0, FaissSearch(1))
            steps = stage.train(config, data, {name: results[name] for name in stage.INPUTS}, runtime)
            while True:
                try:
                    next(steps)
                except StopIteration as end:
                    results[stage.NAMESPACE] = end.value
                    break
        found.append({
            slot: {key: value for key, value in result.metrics.items() if "seconds" not in key}
            for slot, result in results.items()
        })  # fmt: skip
    assert found[0] == found[1] and set(found[0]) == {"pretext", "neighbors", "kmeans", "scan", "selflabel", "spc"}


def test_a_study_streams_only_images_of_one_size() -> None:
    with pytest.raises(ValueError, match="stream: always needs an image_size above 0"):
        Spec(name="folder", stream="always")


def test_auto_streams_what_is_more_than_half_of_the_devices_free_memory(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec, cpu = Spec(name="folder", root=str(root), image_size=SIZE), torch.device("cpu")
    # 60 images of 768 bytes.
    monkeypatch.setattr(datasets, "LARGE_BYTES", 40_000)
    monkeypatch.setattr(datasets, "_free_bytes", lambda device: 92_160)
    assert isinstance(load(spec, cpu).train.images_NCHW, torch.Tensor)
    monkeypatch.setattr(datasets, "_free_bytes", lambda device: 92_159)
    assert isinstance(load(spec, cpu).train.images_NCHW, FileImages)
    assert isinstance(load(replace(spec, stream="never"), cpu).train.images_NCHW, torch.Tensor)


def test_every_process_finds_the_same_fingerprint_wherever_the_images_are(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datasets, "LARGE_BYTES", 40_000)
    spec = Spec(name="folder", root=str(root), image_size=SIZE)
    monkeypatch.setattr(datasets, "_free_bytes", lambda device: 10**12)
    fits, unknown = load(spec, torch.device("cpu")), load(spec)
    monkeypatch.setattr(datasets, "_free_bytes", lambda device: 0)
    streams = load(spec, torch.device("cpu"))
    assert fits.fingerprint == unknown.fingerprint == streams.fingerprint
    assert fits.mean == unknown.mean == streams.mean


def test_the_fingerprint_of_files_sees_names_sizes_labels_and_content(tmp_path: Path) -> None:
    for name in ("ant", "bee"):
        for number in range(3):
            path = tmp_path / "images" / name / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.effect_noise((8, 8), 50 + number).convert("RGB").save(path, compress_level=0)

    def fingerprint() -> str:
        return load(
            Spec(name="folder", root=str(tmp_path / "images"), image_size=8, stream="always", protocol="union")
        ).fingerprint

    first, seen = tmp_path / "images" / "ant" / "0.png", [fingerprint()]
    assert fingerprint() == seen[0]
    content = first.read_bytes()
    os.utime(first, (0, 0))
    assert fingerprint() == seen[0]
    # Without compression another picture of this size is a file of this size.
    Image.new("RGB", (8, 8), (1, 2, 3)).save(first, compress_level=0)
    assert first.stat().st_size == len(content)
    seen.append(fingerprint())
    first.write_bytes(content + b"\0")
    seen.append(fingerprint())
    first.write_bytes(content)
    first.rename(first.with_name("00.png"))
    seen.append(fingerprint())
    first.with_name("00.png").rename(tmp_path / "images" / "bee" / "00.png")
    seen.append(fingerprint())
    assert len(set(seen)) == 5
