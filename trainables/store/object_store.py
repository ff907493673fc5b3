"""Stage results in an object store (s3://, gs://, abfs://), beside a folder on each node that keeps what it has met.

    <uri>/stages/<name>/manifest.json        each file of a result with its sha256; written last
    <uri>/stages/<name>/<sha256>/<file>      the files: meta.json, weights.pt, arrays/*.npy, epochs.json, figures/*.png
    <uri>/progress/<name>                    the last saved epoch of an unfinished stage

An object appears whole or not at all, several do not: so a reader believes the manifest alone. A result whose writer
died before it is not there. Files lie under their digests, so two writers of one name can never mix theirs: the later
manifest counts, and both name whole results. What a reader fetches it checks against the manifest, which holds nothing
but digests: a flipped bit anywhere is refused.

The credentials are the environment's, as pyarrow finds them; a URI with some in it is refused.
"""

import hashlib
import json
import os
import re
import time
import uuid
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar
from urllib.parse import parse_qsl, urlsplit

SCHEMES = ("s3", "gs", "gcs", "abfs", "abfss")
LOCAL = "CLUSTERSWEEP_LOCAL"
"""Names the folder that holds the local sides of storages by URI; empty: ``~/.clustersweep``."""

_T = TypeVar("_T")
_OPTIONS = ("region", "scheme", "endpoint_override")
_ATTEMPTS = 5
"""Of each request, with 1, 2, 4, ... seconds in between: hours of work are not given up for a short outage."""
_WAIT_S = 1.0
_SHA256 = re.compile("[0-9a-f]{64}")
_WAYS_OUT = {
    "NO_SUCH_BUCKET": "create the bucket first, or correct its name",
    "NETWORK_CONNECTION": "look at the network and at AWS_ENDPOINT_URL",
    "ACCESS_DENIED": "give the credentials of the environment the right to read, write and delete there",
}
_WAY_OUT = "look at the credentials in the environment (AWS_..., GOOGLE_..., AZURE_..., or the machine's own role)"


class Unreachable(OSError):
    """An object store cannot be used; the text says what to do."""


def is_uri(storage: str) -> bool:
    """Whether a storage is a URI of an object store; otherwise it is a folder."""
    return urlsplit(storage).scheme in SCHEMES


def local_folder(uri: str) -> Path:
    """The folder on this machine for a storage by URI: fetched results, and the driver's own files.

    Returns:
        A path below the environment variable LOCAL, or below ``~/.clustersweep``; it is not created.
    """
    parts = urlsplit(uri)
    readable = re.sub("[^A-Za-z0-9.-]+", "-", f"{parts.netloc}{parts.path}").strip("-")[:60]
    digest = hashlib.sha256(uri.rstrip("/").encode()).hexdigest()[:8]
    root = os.environ.get(LOCAL, "")
    return (Path(root) if root else Path.home() / ".clustersweep") / f"{readable}-{digest}"


class Remote:
    """The results under one URI.

    Raises:
        ValueError: the URI carries a password or an option that is not allowed here, or names no bucket.
    """

    def __init__(self, uri: str) -> None:
        parts = urlsplit(uri)
        # An Azure address has its container where others have a user: abfs://container@account/...
        if parts.password is not None or ("@" in parts.netloc and not parts.scheme.startswith("abfs")):
            raise ValueError(f"a storage takes no credentials in its URI; {_WAY_OUT}")
        if not parts.hostname:
            raise ValueError("the URI names no bucket; write s3://bucket/folder")
        for option, _ in parse_qsl(parts.query, keep_blank_values=True):
            if option not in _OPTIONS:
                raise ValueError(f"a storage's URI takes the options {', '.join(_OPTIONS)}, but has {option}")
        self._uri = uri
        self._opened: tuple[Any, str] | None = None

    def probe(self) -> None:
        """Write an object, read it and delete it.

        Raises:
            Unreachable: one of them failed.
        """
        path, content = f".probe-{uuid.uuid4().hex}", b"clustersweep"
        try:
            self._write(path, content, attempts=1)
            if self._read(path, attempts=1) != content:
                raise Unreachable("an object does not come back as it was written")
            self._delete(path)
        except ValueError as error:  # pyarrow's, of a URI it cannot open
            raise Unreachable(_in_words(error)) from error

    def __contains__(self, name: str) -> bool:
        return self._manifest(name) is not None

    def publish(self, name: str, folder: Path) -> None:
        """Write a complete result, its manifest last.

        Args:
            name: ``<stage>-<address>``.
            folder: holds the files of the result.

        Raises:
            Unreachable: something could not be written; readers find what they found before.
        """
        files: dict[str, str] = {}
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            relative, content = path.relative_to(folder).as_posix(), path.read_bytes()
            files[relative] = hashlib.sha256(content).hexdigest()
            # Even if an object is there already: it may be the damaged one that made somebody compute this again.
            self._write(_object(name, relative, files[relative]), content)
        self._write(_manifest(name), json.dumps({"files": files}, indent=1).encode())

    def fetch(self, name: str, into: Path, only: str = "") -> bool:
        """Bring a result into a folder and check it against the manifest.

        Args:
            name: ``<stage>-<address>``.
            into: receives the files.
            only: take only files whose relative path begins with it.

        Returns:
            False if there is no such result.

        Raises:
            ValueError: a file is missing or damaged.
            Unreachable: the store cannot be asked.
        """
        files = self._manifest(name)
        if files is None:
            return False
        for relative, digest in files.items():
            if not relative.startswith(only):
                continue
            content = self._read(_object(name, relative, digest))
            if content is None:
                raise ValueError(f"{relative} is missing")
            if hashlib.sha256(content).hexdigest() != digest:
                raise ValueError(f"{relative}: its sha256 is not the one in the manifest")
            path = into / relative
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        return True

    def copy(self, folder: Path, files: Iterable[Path]) -> None:
        """Copy local files to the same relative paths, for people to look at.

        Args:
            folder: the paths are relative to it.
            files: inside ``folder``.

        Raises:
            Unreachable: something could not be written.
        """
        for path in files:
            self._write(path.relative_to(folder).as_posix(), path.read_bytes())

    def save_progress(self, name: str, content: bytes) -> None:
        """Keep the save of an unfinished stage. A failure only warns, since the next save comes soon.

        Args:
            name: ``<stage>-<address>``.
            content: of the save.
        """
        try:
            self._write(f"progress/{name}", content, attempts=1)
        except Unreachable as error:
            warnings.warn(f"the progress of {name} was saved on this node alone: {error}", stacklevel=2)

    def progress(self, name: str) -> bytes | None:
        """The newest save of an unfinished stage; None if there is none."""
        return self._read(f"progress/{name}")

    def drop_progress(self, name: str) -> None:
        """Delete the save of a stage that is finished."""
        try:
            self._delete(f"progress/{name}")
        except Unreachable:
            pass  # it is read no more once the result is there

    def _manifest(self, name: str) -> dict[str, str] | None:
        content = self._read(_manifest(name))
        if content is None:
            return None
        try:
            files: dict[str, str] = json.loads(content)["files"]
            if "meta.json" not in files or not all(map(_is_plain, files, files.values())):
                raise ValueError("it names other files than a result has")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            warnings.warn(f"the manifest of {name} is damaged, so it counts as absent: {error}", stacklevel=2)
            return None
        return files

    # What pyarrow is asked for

    def _at(self, path: str) -> tuple[Any, str]:
        if self._opened is None:
            from pyarrow import fs  # 0.3 s that a storage in a folder does not spend

            system, base = fs.FileSystem.from_uri(self._uri)
            self._opened = system, base.rstrip("/")
        system, base = self._opened
        return system, f"{base}/{path}"

    def _write(self, path: str, content: bytes, attempts: int | None = None) -> None:
        def write() -> None:
            system, full = self._at(path)
            with system.open_output_stream(full) as stream:
                stream.write(content)

        _insist(write, attempts or _ATTEMPTS)

    def _read(self, path: str, attempts: int | None = None) -> bytes | None:
        def read() -> bytes | None:
            system, full = self._at(path)
            try:
                # In one request; a stream's read() asks for every quarter of a megabyte anew.
                with system.open_input_file(full) as file:
                    content: bytes = file.read_at(file.size(), 0)
            except FileNotFoundError:
                return None
            return content

        return _insist(read, attempts or _ATTEMPTS)

    def _delete(self, path: str) -> None:
        def delete() -> None:
            system, full = self._at(path)
            try:
                system.delete_file(full)
            except FileNotFoundError:
                pass

        _insist(delete, 1)


def _insist(call: Callable[[], _T], attempts: int) -> _T:
    """What ``call`` returns, asked up to so many times.

    Raises:
        Unreachable: it failed every time.
    """
    for attempt in range(1, attempts + 1):
        try:
            return call()
        except OSError as error:
            if attempt == attempts:
                raise Unreachable(_in_words(error)) from error
            time.sleep(_WAIT_S * 2 ** (attempt - 1))
    raise AssertionError("attempts is at least 1")


def _manifest(name: str) -> str:
    return f"stages/{name}/manifest.json"


def _object(name: str, relative: str, digest: str) -> str:
    return f"stages/{name}/{digest}/{relative}"


def _is_plain(relative: str, digest: str) -> bool:
    """Whether a manifest's line stays below the folder it is fetched into."""
    path = PurePosixPath(relative)
    return not path.is_absolute() and ".." not in path.parts and bool(_SHA256.fullmatch(digest))


def _in_words(error: BaseException) -> str:
    """One sentence of what went wrong, and one of what to do."""
    text = " ".join(str(error).split())
    cut = re.sub(r" \(Request ID: [^)]*\)", "", text)
    way_out = next((words for key, words in _WAYS_OUT.items() if key in cut), _WAY_OUT)
    return f"{cut}; {way_out}"
