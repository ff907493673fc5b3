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
    assert {"trainables/runner/pipeline_runner.py", "trainables/data/datasets.py"} <= set(map(shown, WORKER))
    assert {"platform/sweep.py", "platform/ledger/ledger.py"} <= set(map(shown, DRIVER))
    assert {"simclr", "neighbors", "scan", "selflabel", "spc", "kmeans"} <= {path.stem for path in STAGES}


def test_relative_imports_are_resolved() -> None:
    names = set(imported(ROOT / "trainables" / "stages" / "scan.py"))
    assert {"trainables.settings", "trainables.maths.scan_loss", "torch"} <= names


def test_the_worker_side_imports_nothing_of_the_driver_side() -> None:
    assert importers(WORKER, "platform") == set()


@pytest.mark.parametrize("path", STAGES, ids=lambda path: path.stem)
def test_a_stage_imports_no_other_stage_and_no_heavy_library(path: Path) -> None:
    others = {name for name in imported(path) if name.startswith("trainables.stages")}
    assert others == set()
    assert tops(path).isdisjoint(HEAVY)


def test_ray_is_imported_on_the_worker_side_at_its_edge_alone() -> None:
    edge = {
        "trainables/prometheus.py",
        "trainables/runner/runtime.py",
        "trainables/runner/train_group.py",
        "trainables/runner/tune_entry.py",
        "trainables/store/leases.py",
        "trainables/vector_search/search_actor.py",
        "trainables/vector_search/service.py",
    }
    assert importers(WORKER, "ray") <= edge


def test_a_session_without_ray_does_not_load_it() -> None:
    assert "ray" not in imports_outside_functions(ROOT / "trainables" / "runner" / "runtime.py")


@pytest.mark.parametrize(
    ("library", "homes"),
    [
        ("faiss", {"trainables/vector_search/faiss_search.py", "trainables/vector_search/kmeans_init.py"}),
        (
            "mlflow",
            {
                "platform/tracking/mlflow.py",
                "platform/tracking/mlflow_model.py",
                "platform/tracking/own_database.py",
                "platform/ui.py",
                "trainables/inference/served.py",  # MLflow's servers call it, by MLflow's own contract
            },
        ),
        (
            "optuna",
            {"platform/search/samplers.py", "platform/tracking/optuna_export.py", "platform/search/importances.py"},
        ),
    ],
)
def test_each_heavy_library_has_its_home(library: str, homes: set[str]) -> None:
    found = importers(WORKER + DRIVER, library)
    assert found <= homes, f"{library} is imported in {sorted(found - homes)}"


def test_each_side_imports_itself_relatively() -> None:
    absolute = {shown(path) for path in DRIVER if "platform" in absolute_tops(path)}
    absolute |= {shown(path) for path in WORKER if "trainables" in absolute_tops(path)}
    assert absolute == set()


# Which rooms of the driver a room may import. The commands (files at the root) stand above them all.
BELOW: dict[str, set[str]] = {
    "study": set(),
    "ledger": {"study"},
    "search": {"ledger", "study"},
    "tracking": {"ledger", "study", "search"},
    "reports": {"ledger", "study"},
    "run": {"search", "tracking", "ledger", "study"},
}
COMMANDS = {"sweep", "report", "ui", "settings", "assign", "new", "console", "end_of_sweep"}


def rooms_imported(path: Path) -> set[str]:
    """Rooms of the driver, or files at its root, that a file imports other than its own."""
    own = path.relative_to(ROOT / "platform").parts[0]
    parts = [name.split(".") for name in imported(path) if name.startswith("platform.")]
    return {part[1] for part in parts} - {own.removesuffix(".py")}


@pytest.mark.parametrize("path", [path for path in DRIVER if path.parent != ROOT / "platform"], ids=shown)
def test_imports_between_the_rooms_of_the_driver_point_down(path: Path) -> None:
    room = path.relative_to(ROOT / "platform").parts[0]
    assert rooms_imported(path) <= BELOW[room]


def test_every_room_of_the_driver_has_its_place() -> None:
    found = {path.name for path in (ROOT / "platform").iterdir() if path.is_dir() and (path / "__init__.py").exists()}
    assert found == set(BELOW)


def test_the_files_at_the_root_of_the_driver_are_commands() -> None:
    loose = {path.stem for path in (ROOT / "platform").glob("*.py")} - {"__init__"}
    assert loose <= COMMANDS
    assert len(loose) <= 8


def test_no_folder_is_a_heap() -> None:
    assert len(list((ROOT / "trainables").glob("*.py"))) <= 12
    for folder in {path.parent for path in WORKER + DRIVER} - {ROOT / "trainables" / "stages"}:
        assert len(list(folder.glob("*.py"))) <= 25, f"{shown(folder)} has more than 24 files and an __init__.py"


def cycles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Import circles among modules, each once."""
    found, done = [], set[str]()

    def visit(module: str, trail: list[str]) -> None:
        if module in trail:
            found.append([*trail[trail.index(module) :], module])
            return
        if module in done:
            return
        for other in sorted(graph.get(module, ())):
            visit(other, [*trail, module])
        done.add(module)

    for module in sorted(graph):
        visit(module, [])
    return found


def test_no_module_imports_itself_in_a_circle() -> None:
    def name(path: Path) -> str:
        return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")

    names = {name(path) for path in WORKER + DRIVER}
    graph = {
        name(path): {other for other in imported(path) if other in names and path.name != "__init__.py"} - {name(path)}
        for path in WORKER + DRIVER
    }
    packages = {name(path) for path in WORKER + DRIVER if path.name == "__init__.py"}
    assert cycles({module: others - packages for module, others in graph.items()}) == []


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
                # tune.py takes what worker_group.trainable made, and that is judged where it is made.
                if source.startswith("worker_group.trainable("):
                    continue
                assert source.split(".")[0] in known, f"{shown(path)}:{line} ships {source} of the driver side"
                checked.append(source)
    assert {"tune_entry.run_trial", "worker.run_group"} <= set(checked)


def test_platform_is_still_the_standard_library_s_module() -> None:
    import platform

    assert platform.system() in ("Linux", "Darwin", "Windows")
    assert platform.python_version().count(".") == 2


def test_platform_is_a_package_too() -> None:
    import platform

    assert [Path(each).resolve() for each in platform.__path__] == [ROOT / "platform"]
