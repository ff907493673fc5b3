"""What Ray and MLflow expect of a machine and do not get everywhere, given to them before they start.

A user without a name or a home, a folder for temporary files whose path is too long for a socket, a low limit of open
files, an address where no cluster answers: each ends in a library's traceback, or in minutes of waiting.
"""

import atexit
import getpass
import os
import resource
import shutil
import socket
import sys
import tempfile
from collections.abc import MutableMapping
from pathlib import Path

from . import ray_auth

RAY_TEMP = "RAY_TMPDIR"
PATIENCE_S = 10.0
"""For an answer of a cluster's address."""

_LONGEST_SOCKET = 107
"""Bytes of a socket's path on Linux."""
_SOCKET = "ray/session_2026-01-01_00-00-00_000000_1234567/sockets/plasma_store"
"""As Ray names one below its folder for temporary files."""
_FEWEST_FILES = 1024
_CLIENT_PORT = 10001
# What a gRPC server is greeted with, and the kind of frame that every one of them answers with (HTTP/2, RFC 9113, 3.4).
_GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
_SETTINGS_FRAME = 4


class Unusable(ValueError):
    """This machine, or the cluster that is to be joined, cannot run a sweep. The text is for the user."""


def prepare(environment: MutableMapping[str, str], address: str) -> None:
    """Set in the environment what Ray and MLflow would fail without, and look whether a cluster answers.

    Args:
        address: of a cluster to join; empty where one is started here.

    Raises:
        Unusable: nobody answers at the address, no folder can hold Ray's sockets, or a limit is too low.
    """
    name_user(environment)
    allow_open_files()
    if address:
        refuse_dead_address(address)
        return
    choose_temp(environment)
    try:
        ray_auth.require_token(environment, home(environment))
    except OSError as error:
        give_own_token(environment, error)


def home(environment: MutableMapping[str, str]) -> Path | None:
    """The user's home; None where there is none, as for a user that the machine has no entry of."""
    if environment.get("HOME") == "":
        return None
    try:
        return Path.home()
    except RuntimeError:
        return None


def name_user(environment: MutableMapping[str, str]) -> None:
    """Give a user whom the machine has no entry of a name, which MLflow and torch ask for."""
    try:
        getpass.getuser()
    except (KeyError, OSError):
        environment["USER"] = f"uid-{os.getuid()}"


def allow_open_files() -> None:
    """Raise this process's limit of open files to what it may have.

    Raises:
        Unusable: that is too few for Ray.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard or hard == resource.RLIM_INFINITY:
        wanted = 65_536 if hard == resource.RLIM_INFINITY else min(hard, 65_536)
        if soft != resource.RLIM_INFINITY and soft < wanted:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            soft = wanted
    if soft != resource.RLIM_INFINITY and soft < _FEWEST_FILES:
        raise Unusable(
            f"at most {soft} files may be open here, and Ray needs {_FEWEST_FILES}; raise the limit (ulimit -n "
            f"{_FEWEST_FILES}; in a container --ulimit nofile={_FEWEST_FILES})"
        )


def choose_temp(environment: MutableMapping[str, str]) -> None:
    """Name the folder in which Ray keeps its sockets, where the usual one cannot hold them.

    Raises:
        Unusable: no folder can.
    """
    usual = environment.get(RAY_TEMP) or environment.get("TMPDIR") or "/tmp"
    errors = list[str]()
    for folder in dict.fromkeys((usual, "/tmp", "/var/tmp", "/dev/shm")):
        error = why_no_sockets(folder)
        if not error:
            if folder != usual:
                print(f"Ray's sockets are kept in {folder}: {errors[0]}", file=sys.stderr)
                environment[RAY_TEMP] = folder
            return
        errors.append(error)
    raise Unusable(
        f"no folder can hold Ray's sockets ({'; '.join(errors)}). Name a writable one with a short path in TMPDIR."
    )


def why_no_sockets(folder: str) -> str:
    """Why Ray cannot keep its sockets below a folder; empty if it can."""
    length = len(os.fsencode(os.path.join(os.path.abspath(folder), _SOCKET)))
    if length > _LONGEST_SOCKET:
        return f"{folder} is {length - _LONGEST_SOCKET} bytes too long for the path of a socket"
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix="ray-") as probe, socket.socket(socket.AF_UNIX) as made:
            made.bind(os.path.join(probe, "s"))
    except OSError as error:
        return f"{folder} takes no socket ({error.strerror or error})"
    return ""


def give_own_token(environment: MutableMapping[str, str], why: OSError) -> None:
    """Keep the token of this sweep's cluster in a private temporary folder, since the home cannot hold it."""
    folder = tempfile.mkdtemp(prefix="clustersweep-token-")  # for its owner alone
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    print(f"The token of Ray's cluster is kept in {folder} until the sweep ends ({why})", file=sys.stderr)
    path = Path(folder) / "auth_token"
    environment[ray_auth.TOKEN_PATH] = str(path)
    ray_auth.make(path)


def refuse_dead_address(address: str) -> None:
    """Ask at an address whether a Ray cluster answers; "auto" and other names are left to Ray.

    Raises:
        Unusable: nobody does within ``PATIENCE_S``.
    """
    is_client = address.startswith("ray://")
    host, _, port = address.removeprefix("ray://").rstrip("/").rpartition(":")
    if is_client and not host:
        host, port = port, str(_CLIENT_PORT)
    if not host or not port.isdecimal() or not 0 < int(port) < 65_536:
        if is_client or ":" in address:
            raise Unusable(f"--address {address}: write HOST:PORT, ray://HOST:PORT or auto")
        return
    way_out = "start Ray there (ray start --head), correct --address or RAY_ADDRESS, or leave it out to start a cluster"
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=PATIENCE_S) as wire:
            try:
                wire.sendall(_GREETING)
                frame = wire.recv(9, socket.MSG_WAITALL)
            except ConnectionError:  # closed before it was read: not what Ray does
                frame = b""
    except OSError as error:
        what = error.strerror or str(error)
        raise Unusable(f"--address {address}: no Ray cluster answers there ({what}); {way_out}") from error
    if len(frame) < 4 or frame[3] != _SETTINGS_FRAME:
        raise Unusable(f"--address {address}: something else than a Ray cluster answers there; {way_out}")
