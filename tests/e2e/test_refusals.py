"""Whatever is wrong with the file, the data or the command: exit code 2, one clear text, and nothing is started."""

import sys
from collections.abc import Callable
from pathlib import Path
from platform import sweep

import pytest
import torch
from PIL import Image

Prepare = Callable[[Path], str]
"""Makes what is wrong in a folder, and gives the page."""


def page(text: str) -> Prepare:
    return lambda folder: text


def bomb(folder: Path) -> str:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12)]
    return "\n".join([*lines, "method: scan"]) + "\n"


def truncated_mnist(folder: Path) -> str:
    raw = folder / "data" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name in ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"):
        (raw / f"{name}-ubyte").write_bytes(b"\0\0\x08\x03\0\0")
    return f"method: scan\ndataset: {{name: mnist, root: {folder / 'data'}}}\n"


def image(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), (3, 90, 200)).save(path)


def one_class(folder: Path) -> str:
    for number in range(10):
        image(folder / "images" / "cat" / f"{number}.png")
    return f"method: scan\ndataset: {{name: folder, labels: folders, root: {folder / 'images'}}}\n"


def no_image(folder: Path) -> str:
    for name in ("cat", "dog"):
        for number in range(10):
            image(folder / "images" / name / f"{number}.png")
    (folder / "images" / "dog" / "3.png").write_text("no pixels here")
    return f"method: scan\ndataset: {{name: folder, root: {folder / 'images'}}}\n"


SMALL = "dataset: {name: digits, train_limit: 60, eval_limit: 30}\n"
FEW = "fixed: {pretext.batch_size: 30, scan.batch_size: 30, selflabel.batch_size: 30"

CASES: dict[str, tuple[Prepare, tuple[str, ...]]] = {
    "an unknown key with a near one": (
        page("method: scan\nfixed:\n  scan.learning_rte: 0.1\n  scan.epoch: 3\n"),
        ("page.yaml:3: fixed.scan.learning_rte", "page.yaml:4: fixed.scan.epoch", "Did you mean 'scan.epochs'?"),
    ),
    "an unknown key on top": (page("method: scan\nsedes: [0]\n"), ("page.yaml:2: sedes", "Did you mean 'seeds'?")),
    "a number in quotes": (
        page("method: scan\nfixed: {scan.optimizer.lr: '1e-4'}\n"),
        ("page.yaml:2: fixed.scan.optimizer.lr", "must be a number", "but is '1e-4'"),
    ),
    "a word that other versions of YAML take for a boolean": (
        page("method: scan\noracle: on\n"),
        ("page.yaml:2: oracle", "must be true or false", "but is 'on'"),
    ),
    "a percentage where a share belongs": (
        page("method: spc\nfixed: {spc.top_fraction_per_class: 3}\n"),
        ("page.yaml:2: fixed.spc.top_fraction_per_class", "above 0 and at most 1", "is 3", "as a share write 0.03"),
    ),
    "a threshold out of its range": (
        page("method: spc\nsearch: {spc.strong_threshold: {choice: [0.9, 1.7]}}\n"),
        ("page.yaml:2: search.spc.strong_threshold", "above 0 and below 1", "1.7"),
    ),
    "a key that stands twice": (
        page("method: scan\nseeds: [0]\nseeds: [1]\n"),
        ("page.yaml:3", "seeds", "twice"),
    ),
    "an alias bomb": (bomb, ("page.yaml:", "alias")),
    "an unknown method": (page("method: scna\n"), ("page.yaml:1: method", "'scna' does not exist", "'scan'")),
    "an unknown data set": (
        page("method: scan\ndataset: cifar11\n"),
        ("page.yaml:2: dataset.name", "'cifar11'", "cifar10"),
    ),
    "a data folder that is missing": (
        page("method: scan\ndataset: {name: cifar10, root: nowhere}\n"),
        ("page.yaml: dataset: ", "nowhere", "download"),
    ),
    "a data file that was cut short": (truncated_mnist, ("page.yaml: dataset: ", "idx", "download")),
    "an image folder with one class": (one_class, ("page.yaml: dataset: ", "images", "class")),
    "an image folder with a file that is no image": (no_image, ("page.yaml: dataset: ", "3.png")),
    "more neighbors than images": (
        page(f"method: scan\n{SMALL}{FEW}, neighbors.num_neighbors: 60}}\n"),
        ("page.yaml:3: fixed.neighbors.num_neighbors", "below the number of training images (60), but is 60"),
    ),
    "more clusters than images": (
        page(f"method: scan\n{SMALL}{FEW}, scan.num_clusters: 61}}\n"),
        ("page.yaml:3: fixed.scan.num_clusters", "at most the number of training images (60), but is 61"),
    ),
    "a name that leaves the storage": (page("method: scan\nname: ../x\n"), ("page.yaml:2: name", "'../x'")),
    "a name with a line break": (page('method: scan\nname: "a\\nb"\n'), ("page.yaml:2: name",)),
    "another objective than a metric": (
        page("method: scan\nobjective: {metric: scan/lost, mode: min}\n"),
        ("page.yaml:2: objective.metric", "scan/lost"),
    ),
    "labels as the objective of no oracle": (
        page("method: scan\nobjective: {metric: selflabel/acc, mode: max}\n"),
        ("page.yaml:2: objective", "oracle: true"),
    ),
    "a python tag": (page("method: !!python/object/apply:os.system [ls]\n"), ("page.yaml:1",)),
    "an empty file": (page(""), ("page.yaml",)),
}


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert sweep.main(arguments) == 2
    out, error = capsys.readouterr()
    assert out == ""
    assert "Traceback" not in error
    return error


@pytest.mark.parametrize("case", CASES)
def test_what_is_wrong_is_said_and_nothing_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], case: str
) -> None:
    prepare, texts = CASES[case]
    monkeypatch.chdir(tmp_path)
    Path("page.yaml").write_text(prepare(tmp_path))
    said = refused(["page.yaml"], capsys)
    for text in texts:
        assert text in said
    assert not Path("runs").exists()
    assert not Path("../x").exists()


def test_every_fault_of_a_file_is_named_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("page.yaml").write_text(
        "method: spc\nseeds: [0, 0]\nfixed:\n  scan.optimizer.lr: fast\n  spc.strong_threshold: 95\n  spc.gamma: 0.5\n"
    )
    said = refused(["page.yaml"], capsys).splitlines()
    assert [line.split(": ")[0] for line in said] == ["page.yaml:2", "page.yaml:4", "page.yaml:5", "page.yaml:6"]


def test_a_storage_that_cannot_be_written_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("page.yaml").write_text("method: scan\n")
    Path("file").write_text("")
    said = refused(["page.yaml", "--storage", "file/runs"], capsys)
    assert said == "--storage file/runs: cannot be written (Not a directory); choose another folder\n"


def test_a_storage_that_is_neither_a_folder_nor_in_an_object_store_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("page.yaml").write_text("method: scan\n")
    said = refused(["page.yaml", "--storage", "ftp://host/runs"], capsys)
    assert said.startswith("--storage ftp://host/runs: name a folder, or a URI that begins with file:///, s3://")
    said = refused(["page.yaml", "--storage", "s3://me:hunter2@bucket/runs"], capsys)
    assert said.startswith("--storage s3://me:***@bucket/runs: a storage takes no credentials in its URI")


def test_a_file_uri_is_the_folder_it_names() -> None:
    assert sweep.storage_of("file:///shared/my%20runs") == sweep.storage_of("/shared/my runs")


def test_machines_that_nobody_can_add_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    Path("page.yaml").write_text("method: scan\n")
    said = refused(["page.yaml", "--grow", "8:16:1"], capsys)
    assert said == "--grow is for a cluster that is joined: add --address, or leave it out\n"


def test_a_file_that_is_missing_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "nowhere.yaml" in refused(["nowhere.yaml"], capsys)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--set", "scan.epochs"], "--set"),
        (["--set", "fixed.scan.epochs=ten"], "ten"),
        (["--trials", "0"], "trials"),
        (["--seeds", "0,x"], "seeds"),
    ],
)
def test_a_bad_override_is_refused(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    text: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("page.yaml").write_text("method: scan\nsearch: {scan.optimizer.lr: {uniform: [0.1, 0.2]}}\n")
    assert text in refused(["page.yaml", *arguments], capsys)
    assert not Path("runs").exists()


def test_more_than_the_machine_has_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("page.yaml").write_text("method: scan\nresources: {trial: {cpu: 1000}}\n")
    said = refused(["page.yaml"], capsys)
    assert "page.yaml: resources.trial asks for 1000 CPUs" in said


def test_a_dry_run_starts_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("page.yaml").write_text("method: scan\n")
    assert sweep.main(["page.yaml", "--dry-run"]) == 0
    assert "1,437 to train on, 360 to judge" in capsys.readouterr().out
    assert not Path("runs").exists()
    ray = sys.modules.get("ray")
    assert ray is None or not ray.is_initialized()
