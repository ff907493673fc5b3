"""The lowest versions that the project takes are above those with known holes."""

import re
import tomllib
from pathlib import Path

import pytest

PROJECT = tomllib.loads((Path(__file__).resolve().parents[2] / "pyproject.toml").read_text())
LISTED = PROJECT["project"]["dependencies"] + PROJECT["build-system"]["requires"]

# The first version without the hole.
FIXED = {
    "ray": (2, 54, "CVE-2023-48022, CVE-2025-62593, CVE-2026-27482: code through the dashboard and the job API"),
    "torch": (2, 10, "CVE-2025-32434, CVE-2026-24747: code through torch.load(weights_only=True)"),
    "mlflow": (3, 11, "CVE-2026-0545: jobs without a password; CVE-2025-11200: weak passwords"),
    "pyarrow": (14, 1, "CVE-2023-47248: code through a Parquet file"),
    "PyYAML": (5, 4, "CVE-2020-14343: code through a loader that is not the safe one"),
    "scikit-learn": (1, 5, "CVE-2024-5206: data kept in a vectorizer"),
    "setuptools": (78, 1, "CVE-2025-47273: files outside of the folder"),
}


def floor(name: str) -> tuple[int, ...]:
    (found,) = [each for each in LISTED if re.match(rf"{re.escape(name)}\b", each)]
    match = re.search(r">=([\d.]+)", found)
    assert match is not None, f"{name} has no lowest version"
    return tuple(map(int, match[1].split(".")))


@pytest.mark.parametrize("name", FIXED)
def test_the_lowest_version_is_above_the_known_holes(name: str) -> None:
    major, minor, why = FIXED[name]
    assert floor(name) >= (major, minor), why


@pytest.mark.parametrize("each", PROJECT["project"]["dependencies"])
def test_every_dependency_has_a_lowest_version(each: str) -> None:
    assert ">=" in each
