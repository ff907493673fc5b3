"""``meta.json`` of a stage result: what it says of itself, with a digest of every file and one of its own text.

A changed metric would be reported as if it had been measured, so the manifest is protected like the files it lists.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .damage import Damaged, opened, read_file

FILE = "meta.json"
_FILES = "sha256"
_OWN = "meta_sha256"


def digest(content: bytes) -> str:
    """The sha256 of a file's content, in hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def file_digest(path: Path) -> str:
    """The sha256 of a file, read piece by piece. Raises as ``damage.opened`` does."""
    with opened(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def to_bytes(folder: Path, meta: Mapping[str, Any], known: Mapping[Path, str] | None = None) -> bytes:
    """The text of a manifest.

    Args:
        folder: holds every file of the result; a manifest that is there already is not listed.
        meta: what the manifest says beside the digests; ``facts`` and ``metrics`` are among it.
        known: digests of files that were taken while they were written; the others are read.
    """
    known = known or {}
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / FILE)
    digests = {str(path.relative_to(folder)): known.get(path) or file_digest(path) for path in files}
    content = {**meta, _FILES: digests}
    return json.dumps({**content, _OWN: _own(content)}, indent=1).encode()


def read(folder: Path) -> dict[str, Any]:
    """The manifest of a result, checked against its own digest; the files are not looked at.

    Raises:
        Damaged: it is not what was written.
        OSError: it cannot be read.
    """
    path = folder / FILE
    try:
        content = json.loads(read_file(path))
    except (ValueError, RecursionError) as error:
        raise error if isinstance(error, Damaged) else Damaged(f"{path} is no JSON ({error})") from error
    if not isinstance(content, dict) or _OWN not in content:
        raise Damaged(f"{path} has no digest of its own: it is damaged, or of an earlier version of clustersweep")
    noted = content.pop(_OWN)
    if noted != _own(content):
        raise Damaged(f"{path}: its sha256 is not the one noted when it was written")
    return content


def check_files(folder: Path, meta: Mapping[str, Any]) -> list[Path]:
    """Compare every file of a result with the manifest.

    Args:
        meta: as ``read`` returns it.

    Returns:
        The files' paths, sorted. What else lies in the folder is not the result's.

    Raises:
        Damaged: a file is not what was written.
        OSError: a file cannot be read.
    """
    paths = []
    for relative, expected in sorted(meta[_FILES].items()):
        path = folder / relative
        if file_digest(path) != expected:
            raise Damaged(f"{path}: its sha256 is not the one noted when it was written")
        paths.append(path)
    return paths


def _own(content: Mapping[str, Any]) -> str:
    return digest(json.dumps(content, sort_keys=True).encode())
