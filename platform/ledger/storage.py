"""Where a sweep keeps everything: ``--storage``, a folder or the URI of a folder in an object store.

In a folder everything is together. Under a URI are the stage results and a copy of the reports; the databases need a
file system, so they are in a folder of this machine, and so is what was fetched.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from trainables.store import eviction, object_store

from ..study.errors import redacted


@dataclass(frozen=True)
class Storage:
    """folder: of the ledger, the databases, the reports. uri: of the stage results; empty: they are in the folder."""

    folder: Path
    uri: str = ""

    @property
    def results(self) -> str:
        """The storage as workers know it."""
        return self.uri or str(self.folder.resolve())

    def below(self, name: str) -> "Storage":
        """A corner of this storage."""
        if not self.uri:
            return Storage(self.folder / name)
        parts = urlsplit(self.uri)
        return named(parts._replace(path=f"{parts.path.rstrip('/')}/{name}").geturl())

    def make_writable(self) -> None:
        """Create the folder and try it; try the object store.

        Raises:
            ValueError: it cannot be used; a sentence for the user.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            probe = self.folder / f".writable-{os.getpid()}"
            probe.write_bytes(b"")
            probe.unlink()
        except OSError as error:
            way_out = f"name another one with {object_store.LOCAL}" if self.uri else "choose another folder"
            raise ValueError(f"--storage {self.folder}: cannot be written ({error.strerror}); {way_out}") from error
        if self.uri:
            eviction.bound_bytes()
            try:
                object_store.Remote(self.uri).probe()
            except object_store.Unreachable as error:
                raise ValueError(f"--storage {redacted(self.uri)}: cannot be used: {redacted(str(error))}") from error

    def refuse_name(self, study: str) -> None:
        """Refuse a study whose folder cannot be in this storage.

        Raises:
            ValueError: something else than a folder has its name, or another one's differs by case alone, which would
                be the same folder on many disks; a sentence for the user.
        """
        folder, way_out = self.folder / study, "Give the study another name (name: ...), or move that away."
        if os.path.lexists(folder) and not folder.is_dir():
            raise ValueError(f"{folder} is no folder, but the reports of study {study!r} belong there. {way_out}")
        for other in self.folder.iterdir() if self.folder.is_dir() else ():
            if other.name != study and other.name.casefold() == study.casefold():
                raise ValueError(f"study {study!r} differs from {other} by case alone. {way_out}")

    def copy(self, files: Iterable[Path]) -> str:
        """Put reports under the URI too.

        Returns:
            A line that says where they are, or why they are not there; empty without a URI.
        """
        if not self.uri:
            return ""
        try:
            object_store.Remote(self.uri).copy(self.folder, files)
        except OSError as error:
            return f"the reports were not copied to {self.uri}: {redacted(str(error))}"
        return f"copied   to {self.uri}"


def named(text: str) -> Storage:
    """The storage that a command line names.

    Raises:
        ValueError: a URI that is none of an object store's, or not as it has to be; a sentence for the user.
    """
    if "://" not in text:
        return Storage(Path(text))
    if text.startswith("file:///"):
        return Storage(Path(unquote(urlsplit(text).path)))
    if not object_store.is_uri(text):
        known = ", ".join(f"{scheme}://" for scheme in object_store.SCHEMES)
        raise ValueError(f"--storage {redacted(text)}: name a folder, or a URI that begins with file:///, {known}")
    try:
        object_store.Remote(text)
    except ValueError as error:
        raise ValueError(f"--storage {redacted(text)}: {error}") from error
    return Storage(object_store.local_folder(text), text.rstrip("/"))
