"""A real PostgreSQL server for tests: Debian's, in a folder of its own, killed and started again at will."""

import importlib.util
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_FOUND = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
BINARIES = _FOUND[-1].parent if _FOUND else Path(shutil.which("postgres") or "/missing/postgres").parent

DIALECT = "postgresql+psycopg2"
USER, PASSWORD, QUOTED = "sweeper", "open@sesame/7", "open%40sesame%2F7"
HOST = "127.0.0.1"


def missing() -> str:
    """Why there can be no server on this machine; empty if there can."""
    if importlib.util.find_spec("psycopg2") is None:
        return "psycopg2 is not installed"
    return "" if (BINARIES / "initdb").exists() else "PostgreSQL's server programs are not installed"


@contextmanager
def running() -> Iterator["Server"]:
    """A server that is up, with an empty database "tracking"."""
    # Not under pytest's own folders, which no other account can enter.
    folder = Path(tempfile.mkdtemp(prefix="clustersweep-postgres-"))
    made = None
    try:
        made = Server(folder)
        made.start()
        made.execute("CREATE DATABASE tracking")
        yield made
    finally:
        if made is not None:
            made.stop()
        shutil.rmtree(folder)


class Server:
    """A server with a folder of its own, which asks for a password."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._data = folder, folder / "data"
        self._account = _unprivileged()
        if self._account:
            shutil.chown(folder, self._account)
        with socket.socket() as probe:
            probe.bind((HOST, 0))
            self.port = int(probe.getsockname()[1])
        secret = folder / "password"
        secret.write_text(PASSWORD)
        secret.chmod(0o644)  # in a folder that only its owner can enter
        options = ["--auth", "scram-sha-256", "--encoding", "UTF8", "--locale", "C", "--no-sync"]
        self._run(["initdb", "-D", str(self._data), "-U", USER, "--pwfile", str(secret), *options]).wait(60)
        self._process: subprocess.Popen[bytes] | None = None

    def uri(self, database: str, password: str = QUOTED) -> str:
        return f"{DIALECT}://{USER}:{password}@{HOST}:{self.port}/{database}"

    def start(self) -> None:
        import psycopg2

        options = ["-p", str(self.port), "-c", f"listen_addresses={HOST}", "-c", "fsync=off", "-k", str(self._folder)]
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            # After a kill the old server's children are about for a moment, and the new one refuses to start.
            if self._process is None or self._process.poll() is not None:
                self._process = self._run(["postgres", "-D", str(self._data), *options])
            try:
                self.connection().close()
                return
            except psycopg2.OperationalError:
                time.sleep(0.2)
        raise TimeoutError(f"PostgreSQL did not start: {(self._folder / 'log').read_text()[-2000:]}")

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(30)

    def stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
            try:
                self._process.wait(30)
            except subprocess.TimeoutExpired:
                self.kill()

    def execute(self, statement: str) -> None:
        connection = self.connection()
        connection.autocommit = True
        connection.cursor().execute(statement)
        connection.close()

    def connection(self, database: str = "postgres") -> Any:
        import psycopg2

        return psycopg2.connect(host=HOST, port=self.port, user=USER, password=PASSWORD, dbname=database)

    def _run(self, command: list[str]) -> "subprocess.Popen[bytes]":
        account = pwd.getpwnam(self._account) if self._account else None
        with (self._folder / "log").open("ab") as log:
            return subprocess.Popen(
                [str(BINARIES / command[0]), *command[1:]],
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                user=account.pw_uid if account else None,
                group=account.pw_gid if account else None,
                extra_groups=[] if account else None,
            )


def _unprivileged() -> str:
    """Who runs the server: nobody else than us, unless we are root, whom PostgreSQL refuses."""
    if os.geteuid():
        return ""
    known = {account.pw_name for account in pwd.getpwall()}
    return next(name for name in ("postgres", "nobody") if name in known)
