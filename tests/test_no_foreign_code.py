"""Nothing that comes from others can run code: read from the text of every module of the product."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FILES = sorted(path for folder in ("platform", "trainables", "benchmarks") for path in (ROOT / folder).rglob("*.py"))

# Modules that rebuild Python objects from bytes.
BANNED = {"pickle", "cPickle", "_pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal", "jsonpickle"}
# Calls that do, or that run text.
CALLS = {
    *("eval", "exec", "compile", "__import__"),
    *("os.system", "os.popen"),
    *("yaml.load", "yaml.load_all", "yaml.full_load", "yaml.unsafe_load"),
    *("torch.jit.load", "torch.hub.load", "mlflow.pytorch.load_model", "pandas.read_pickle"),
}
# The keyword that makes a loader harmless. Said each time: a default is the library's to change.
NEEDED = {
    "torch.load": ("weights_only", True),
    "np.load": ("allow_pickle", False),
    "numpy.load": ("allow_pickle", False),
    "np.save": ("allow_pickle", False),
}
# The one place: the package named like the standard library's module runs that module's own code.
ALLOWED = {
    ("platform/__init__.py", "exec"),
    ("platform/__init__.py", "compile"),
    # With MLflow's switch that refuses whatever was pickled.
    ("trainables/inference/served.py", "mlflow.pytorch.load_model"),
}


def dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def faults(text: str, shown: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [name.name for name in node.names] if isinstance(node, ast.Import) else [str(node.module)]
            yield from (f"{shown} imports {name}" for name in names if name.partition(".")[0] in BANNED)
        if not isinstance(node, ast.Call):
            continue
        name = dotted(node.func)
        if name in CALLS and (shown, name) not in ALLOWED:
            yield f"{shown}:{node.lineno} calls {name}"
        given = {word.arg: getattr(word.value, "value", None) for word in node.keywords}
        if name in NEEDED and given.get(NEEDED[name][0]) is not NEEDED[name][1]:
            yield f"{shown}:{node.lineno} calls {name} without {NEEDED[name][0]}={NEEDED[name][1]}"
        if given.get("shell"):
            yield f"{shown}:{node.lineno} starts a shell"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_module_runs_what_a_file_says(path: Path) -> None:
    assert list(faults(path.read_text(encoding="utf-8"), path.relative_to(ROOT).as_posix())) == []


@pytest.mark.parametrize(
    "text",
    [
        "import pickle",
        "from cloudpickle import loads",
        "import torch\ntorch.load(path)",
        "import torch\ntorch.load(path, weights_only=False)",
        "import numpy as np\nnp.load(path)",
        "import numpy as np\nnp.load(path, allow_pickle=True)",
        "import yaml\nyaml.load(text, Loader=yaml.Loader)",
        "eval(text)",
        "import subprocess\nsubprocess.run(text, shell=True)",
    ],
)
def test_each_of_these_would_be_found(text: str) -> None:
    assert len(list(faults(text, "x.py"))) == 1


def test_the_driver_and_the_worker_side_are_read() -> None:
    names = {path.relative_to(ROOT).as_posix() for path in FILES}
    assert {"platform/sweep.py", "trainables/store/artifacts.py", "trainables/nets/checkpoints.py"} <= names


def test_archives_are_opened_in_one_place_and_never_unpacked_by_their_own_names() -> None:
    # A member named ../x would be written outside the folder: archives.py writes each member itself, below names that
    # it has judged (tests/data/test_archives.py); torchvision opens the archives of published sets.
    opened = [path for path in FILES if re.search(r"\b(tarfile\.open|TarFile|ZipFile)\(", path.read_text())]
    assert [path.relative_to(ROOT).as_posix() for path in opened] == ["trainables/data/own_images/archives.py"]
    unpacked = r"\.extract(all)?\(|\bunpack_archive\b"
    assert [path for path in FILES if re.search(unpacked, path.read_text())] == []
