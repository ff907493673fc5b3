"""The arrows of the architecture, read from the text of every module: what may import what, and what Ray is shipped."""

import ast
import importlib.util
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
WORKER = sorted((ROOT / "trainables").rglob("*.py"))
DRIVER = sorted((ROOT / "platform").rglob("*.py"))
STAGES = sorted(path for path in (ROOT / "trainables" / "stages").glob("*.py") if path.stem != "__init__")
HEAVY = ("ray", "mlflow", "optuna", "faiss")

# By which calls things reach Ray's workers: the argument, and the functions called there.
SHIPPING = {"with_resources", "with_parameters", "remote", "TorchTrainer"}


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def shown(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imported(path: Path) -> Iterator[str]:
    """Every module that a file imports anywhere, by its full name; relative imports resolved."""
    package = path.relative_to(ROOT).with_suffix("").parts[:-1]
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield module
            yield from (f"{module}.{name.name}" for name in node.names)


def tops(path: Path) -> set[str]:
    return {name.partition(".")[0] for name in imported(path)}


def absolute_tops(path: Path) -> set[str]:
    """Top names of what is imported by its full name."""
    found = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            found |= {name.name.partition(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.add(str(node.module).partition(".")[0])
    return found


def importers(paths: list[Path], library: str) -> set[str]:
    return {shown(path) for path in paths if library in tops(path)}


def imports_outside_functions(path: Path) -> set[str]:
    """Top names of what is imported when the module is."""
    found: set[str] = set()

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            return
        if isinstance(node, ast.Import):
            found.update(name.name.partition(".")[0] for name in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.add(str(node.module).partition(".")[0])
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(tree(path))
    return found


def test_the_walk_over_the_text_finds_the_modules() -> None:
    assert {"trainables/walk.py", "trainables/data/sets.py"} <= set(map(shown, WORKER))
    assert {"platform/sweep.py", "platform/run/ledger.py"} <= set(map(shown, DRIVER))
    assert {"simclr", "neighbors", "scan", "selflabel", "spc", "kmeans"} <= {path.stem for path in STAGES}


def test_relative_imports_are_resolved() -> None:
    names = set(imported(ROOT / "trainables" / "stages" / "scan.py"))
    assert {"trainables.checks", "trainables.maths.consistency", "torch"} <= names


def test_the_worker_side_imports_nothing_of_the_driver_side() -> None:
    assert importers(WORKER, "platform") == set()


@pytest.mark.parametrize("path", STAGES, ids=lambda path: path.stem)
def test_a_stage_imports_no_other_stage_and_no_heavy_library(path: Path) -> None:
    others = {name for name in imported(path) if name.startswith("trainables.stages")}
    assert others == set()
    assert tops(path).isdisjoint(HEAVY)


def test_ray_is_imported_on_the_worker_side_at_its_edge_alone() -> None:
    allowed = {f"trainables/{name}.py" for name in ("service", "leases", "gauges", "entry", "prepare", "session")}
    assert importers(WORKER, "ray") <= allowed


def test_a_session_without_ray_does_not_load_it() -> None:
    assert "ray" not in imports_outside_functions(ROOT / "trainables" / "session.py")


@pytest.mark.parametrize(
    ("library", "homes"),
    [
        ("faiss", {"trainables/faiss_search.py", "trainables/kmeans_starts.py"}),
        ("mlflow", {"platform/run/tracking.py", "platform/ui.py"}),
        ("optuna", {"platform/run/samplers.py", "platform/run/mirror.py", "platform/run/importances.py"}),
    ],
)
def test_each_heavy_library_has_its_home(library: str, homes: set[str]) -> None:
    found = importers(WORKER + DRIVER, library)
    assert found <= homes, f"{library} is imported in {sorted(found - homes)}"


def test_the_driver_side_imports_itself_relatively() -> None:
    absolute = {shown(path) for path in DRIVER if "platform" in absolute_tops(path)}
    assert absolute == set()


def test_no_submodule_hides_a_name_of_the_standard_library_s_platform() -> None:
    spec = importlib.util.spec_from_file_location("_standard", Path(sysconfig.get_path("stdlib")) / "platform.py")
    assert spec is not None and spec.loader is not None
    standard = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(standard)
    public = {name for name in vars(standard) if not name.startswith("_")}
    assert "system" in public
    ours = {path.stem for path in (ROOT / "platform").iterdir() if not path.name.startswith("_")}
    assert ours and ours.isdisjoint(public)


def shipped(path: Path) -> Iterator[tuple[int, str]]:
    """(line, name) of each thing that a file hands to Ray by reference, as it is written there."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            for decorator in node.decorator_list:
                called = decorator.func if isinstance(decorator, ast.Call) else decorator
                if ast.unparse(called) in ("ray.remote", "remote"):
                    yield node.lineno, node.name
        if not isinstance(node, ast.Call) or not node.args:
            continue
        function = ast.unparse(node.func)
        if function.rpartition(".")[2] in SHIPPING and (function.startswith(("tune.", "ray.")) or function in SHIPPING):
            yield node.lineno, ast.unparse(node.args[0])


def from_trainables(path: Path) -> set[str]:
    """Names by which a file knows things of ``trainables``."""
    found = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.ImportFrom) and str(node.module).partition(".")[0] == "trainables" and not node.level:
            found |= {name.asname or name.name for name in node.names}
    return found


def assigned(path: Path, name: str) -> list[str]:
    """First words of everything that a file assigns to ``name``."""
    values = []
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.AnnAssign) and node.value and ast.unparse(node.target) == name:
            values.append(ast.unparse(node.value))
        if isinstance(node, ast.Assign):
            for target in node.targets:
                if isinstance(target, ast.Tuple) and name in [ast.unparse(each) for each in target.elts]:
                    values.append(ast.unparse(node.value))
                elif ast.unparse(target) == name:
                    values.append(ast.unparse(node.value))
    return values


def test_what_the_driver_ships_to_ray_lives_on_the_worker_side() -> None:
    # In a worker "platform" is the standard library's: a function of ours there cannot be found again.
    checked = []
    for path in DRIVER:
        known = from_trainables(path)
        for line, name in shipped(path):
            sources = assigned(path, name) or [name]
            for source in sources:
                # trials.py takes what group.trainable made, and that is judged where it is made.
                if source.startswith("group.trainable("):
                    continue
                assert source.split(".")[0] in known, f"{shown(path)}:{line} ships {source} of the driver side"
                checked.append(source)
    assert {"entry.run_trial", "worker.run_group"} <= set(checked)


def test_platform_is_still_the_standard_library_s_module() -> None:
    import platform

    assert platform.system() in ("Linux", "Darwin", "Windows")
    assert platform.python_version().count(".") == 2


def test_platform_is_a_package_too() -> None:
    import platform

    assert [Path(each).resolve() for each in platform.__path__] == [ROOT / "platform"]
