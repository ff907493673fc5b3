"""constraints.txt pins everything that `make` installs, and what is imported is declared."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import distribution, packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]
LINES = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
PINS = [Requirement(line) for line in LINES]
DECLARED = [Requirement(each) for each in [*PROJECT["dependencies"], *EXTRAS["team"], *EXTRAS["dev"]]]
OWN = {"platform", "trainables", "benchmarks", "tests"}


def here(requirement: Requirement, extra: str = "") -> bool:
    return requirement.marker is None or requirement.marker.evaluate({"extra": extra})


def installed_with(requirements: list[Requirement]) -> set[str]:
    """Names of everything that these requirements bring here, directly or through others."""
    names: set[str] = set()
    done: set[tuple[str, str]] = set()
    waiting = [(requirement.name, extra) for requirement in requirements for extra in ("", *requirement.extras)]
    while waiting:
        each = waiting.pop()
        if each in done:
            continue
        done.add(each)
        name, extra = each
        names.add(canonicalize_name(name))
        for line in distribution(name).requires or []:
            inner = Requirement(line)
            if here(inner, extra):
                waiting += [(inner.name, asked) for asked in ("", *inner.extras)]
    return names


def test_every_line_is_a_name_with_one_version() -> None:
    # No path, address or option: the file is the same on every machine.
    form = re.compile(r"[a-z0-9][a-z0-9-]*==[0-9][0-9a-z.]*( ; [a-z_'0-9 ().=!<>]+)?", re.IGNORECASE)
    assert len(LINES) > 100
    assert [line for line in LINES if not form.fullmatch(line)] == []


def test_a_platform_gets_one_version_of_a_package() -> None:
    names = [pin.name for pin in PINS]
    assert sorted(set(names)) == names


@pytest.mark.parametrize("requirement", [each for each in DECLARED if each.name != PROJECT["name"]], ids=str)
def test_a_pin_lies_within_the_bounds_of_the_project(requirement: Requirement) -> None:
    (pin,) = [pin for pin in PINS if pin.name == canonicalize_name(requirement.name)]
    ((version),) = [each.version for each in pin.specifier]
    assert requirement.specifier.contains(version)
    # The pin holds wherever the project asks for the package.
    assert not here(requirement) or here(pin)


def test_everything_that_is_installed_here_is_pinned() -> None:
    versions = {pin.name: str(pin.specifier) for pin in PINS}
    direct = {canonicalize_name(each.name) for each in DECLARED if here(each) and each.name != PROJECT["name"]}
    if any(f"=={distribution(name).version}" != versions[name] for name in direct):
        pytest.skip("another set of versions is installed here, with other packages around it")
    pinned = {pin.name for pin in PINS if here(pin)}
    needed = installed_with([each for each in DECLARED if here(each) and each.name != PROJECT["name"]])
    assert len(needed) > 100
    assert sorted(needed - pinned) == []


@pytest.mark.parametrize("package", ["torch", "ray", "nvidia-cudnn-cu13", "faiss-gpu"])
def test_what_another_platform_lacks_is_not_asked_of_it(package: str) -> None:
    (pin,) = [pin for pin in PINS if pin.name == package]
    mac = {"sys_platform": "darwin", "platform_machine": "arm64", "platform_system": "Darwin"}
    everywhere = package in ("torch", "ray")
    assert (pin.marker is None or pin.marker.evaluate(mac)) == everywhere


# Imports


def imported(path: Path) -> Iterator[str]:
    """Names on top of what a file imports, also by ``importlib.import_module`` with the name written out."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            yield node.module.partition(".")[0]
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            if node.args and isinstance(node.args[0], ast.Constant):
                yield str(node.args[0].value).partition(".")[0]


def foreign(folder: str) -> set[str]:
    paths = sorted((ROOT / folder).rglob("*.py"))
    assert paths
    beside = {path.stem for path in paths}
    names = {name for path in paths for name in imported(path)}
    return names - set(sys.stdlib_module_names) - OWN - (beside if folder == "tests" else set())


def undeclared(modules: set[str], requirements: list[str]) -> list[str]:
    """Imported modules that come with no declared package."""
    declared = {canonicalize_name(Requirement(each).name) for each in requirements}
    sources = packages_distributions()
    return sorted(
        module for module in modules if declared.isdisjoint(map(canonicalize_name, sources.get(module, [module])))
    )


@pytest.mark.parametrize("folder", ["platform", "trainables"])
def test_every_import_of_the_project_is_declared(folder: str) -> None:
    modules = foreign(folder)
    assert {"numpy", "ray"} <= modules
    assert undeclared(modules, [*PROJECT["dependencies"], *EXTRAS["team"]]) == []


@pytest.mark.parametrize("folder", ["tests", "benchmarks"])
def test_every_import_of_the_tests_is_declared(folder: str) -> None:
    # A peer that a benchmark compares with is installed into an environment of its own, by the benchmark.
    peers = re.findall(r'"--no-deps", f"(\w+)==', (ROOT / "benchmarks" / "peers.py").read_text())
    assert peers
    requirements = [*PROJECT["dependencies"], *EXTRAS["team"], *EXTRAS["dev"]]
    assert undeclared(foreign(folder) - set(peers), requirements) == []


def test_an_import_without_a_declaration_is_named(tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    path.write_text("import json, requests.adapters\nfrom PIL import Image\nfrom . import near\n")
    assert set(imported(path)) == {"json", "requests", "PIL"}
    assert undeclared({"requests", "PIL"}, ["Pillow>=11"]) == ["requests"]


def test_every_dependency_of_the_project_is_imported() -> None:
    modules = foreign("platform") | foreign("trainables")
    sources = packages_distributions()
    used = {canonicalize_name(name) for module in modules for name in sources.get(module, [module])}
    needed = [requirement for requirement in map(Requirement, PROJECT["dependencies"]) if here(requirement)]
    assert {canonicalize_name(requirement.name) for requirement in needed} - used == set()
