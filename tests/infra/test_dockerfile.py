"""The images: what they install is what a checkout installs, and nothing runs as root or carries a secret."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "infra" / "Dockerfile").read_text()


def stages() -> dict[str, list[str]]:
    """Instructions of each stage, continued lines joined, comments left out."""
    found: dict[str, list[str]] = {}
    lines = [line for line in TEXT.replace("\\\n", " ").splitlines() if line.strip() and not line.startswith("#")]
    for line in lines:
        if match := re.fullmatch(r"FROM (\S+) AS (\w+)", line):
            found[match[2]] = [*found.get(match[1], [])]
        else:
            found[list(found)[-1]].append(" ".join(line.split()))
    return found


def test_there_are_targets_for_cuda_cpu_and_the_tracking_server() -> None:
    assert set(stages()) == {"base", "cpu", "cuda", "tracking"}


def test_the_images_install_with_the_command_that_the_readme_gives() -> None:
    readme = (ROOT / "infra" / "README.md").read_text()
    assert "pip install -c constraints.txt -e . &&" in readme
    for target in ("cpu", "cuda"):
        # The same, with what a team's database needs.
        assert 'RUN pip install -c constraints.txt -e ".[team]"' in stages()[target]


def test_every_image_installs_pinned_versions_alone() -> None:
    pinned = {line.partition("==")[0] for line in (ROOT / "constraints.txt").read_text().splitlines()}
    for target in ("cpu", "cuda", "tracking"):
        installs = [line for line in stages()[target] if "pip install" in line]
        assert installs, target
        copied = next(n for n, line in enumerate(stages()[target]) if line.startswith("COPY") and "constraints" in line)
        for line in installs:
            assert stages()[target].index(line) > copied
            packages, pinned_file = re.subn(r"^.* -c constraints\.txt (-e)?", "", line)
            names = set(re.findall(r"[a-z][\w-]+", packages.replace("[auth]", "").replace("[team]", "")))
            assert (pinned_file and names <= pinned) or '$(grep -E "^(torch|torchvision)==" constraints.txt)' in line


def test_python_is_one_that_the_project_takes() -> None:
    version = re.search(r"FROM python:(\d+)\.(\d+)-slim", TEXT)
    assert version is not None
    assert (int(version[1]), int(version[2])) >= (3, 11)


def test_what_is_copied_exists_and_passes_the_ignore_file() -> None:
    kept = {
        line[1:]
        for line in (ROOT / "infra" / "Dockerfile.dockerignore").read_text().splitlines()
        if line.startswith("!")
    }
    copied = {
        word
        for target in ("cpu", "cuda", "tracking")
        for line in stages()[target]
        if line.startswith("COPY")
        for word in line.split()[2:-1]
    }
    assert copied == kept
    assert all((ROOT / name).exists() for name in copied)


def test_every_image_runs_as_a_user_and_asks_for_a_token() -> None:
    for target, lines in stages().items():
        users = [line for line in lines if line.startswith("USER")]
        assert users[-1:] == ["USER ray"], target
    assert "RAY_AUTH_MODE=token" in TEXT


def test_no_image_is_given_a_secret() -> None:
    assert not re.search(r"^\s*(ARG|ENV).*(PASSWORD|SECRET|_KEY|AUTH_TOKEN=)", TEXT, re.MULTILINE)
