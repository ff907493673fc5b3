"""Machines that lack what Ray and MLflow expect: each is given it, or refused in one sentence, in bounded time."""

import errno
import os
import resource
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from platform.run import environment, ray_auth
from platform.run.environment import Unusable

import pytest


def test_a_user_without_an_entry_gets_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown() -> str:
        raise KeyError("getpwuid(): uid not found: 12345")

    given: dict[str, str] = {}
    monkeypatch.setattr("getpass.getuser", unknown)
    environment.name_user(given)
    assert given == {"USER": f"uid-{os.getuid()}"}


@pytest.mark.parametrize("home", ["none", "empty", "read-only"])
def test_without_a_home_the_token_is_kept_in_a_private_folder(
    home: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given = {"TMPDIR": str(tmp_path)} | ({"HOME": ""} if home == "empty" else {"HOME": str(tmp_path / "home")})

    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    def read_only(path: Path) -> None:
        if tmp_path / "home" in path.parents:
            raise OSError(errno.EROFS, "Read-only file system", str(path))
        original(path)

    original = ray_auth.make
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(ray_auth, "make", read_only)
    monkeypatch.setattr(Path, "home", no_home if home == "none" else lambda: tmp_path / "home")
    environment.prepare(given, "")
    path = Path(given[ray_auth.TOKEN_PATH])
    assert path.stat().st_mode & 0o777 == 0o600 and path.parent.stat().st_mode & 0o777 == 0o700
    assert len(path.read_text()) == 64
    said = capsys.readouterr().err
    assert str(path.parent) in said and path.read_text() not in said


def test_a_long_folder_for_temporary_files_is_replaced_with_a_word(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = {"TMPDIR": str(tmp_path / ("x" * 86))}
    environment.choose_temp(given)
    assert given[environment.RAY_TEMP] == "/tmp"
    assert "bytes too long for the path of a socket" in capsys.readouterr().err


def test_a_short_folder_for_temporary_files_is_left_alone(capsys: pytest.CaptureFixture[str]) -> None:
    given = {"TMPDIR": "/tmp"}
    environment.choose_temp(given)
    assert given == {"TMPDIR": "/tmp"} and capsys.readouterr().err == ""


def test_without_any_folder_for_sockets_a_sweep_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(self: socket.socket, address: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(socket.socket, "bind", none)
    with pytest.raises(Unusable, match=r"no folder can hold Ray's sockets \(/tmp takes no socket \(Operation not perm"):
        environment.choose_temp({})


@pytest.mark.parametrize(("soft", "hard", "expected"), [(256, 4_096, 4_096), (256, -1, 65_536), (8_192, 8_192, None)])
def test_the_limit_of_open_files_is_raised_to_what_it_may_be(
    monkeypatch: pytest.MonkeyPatch, soft: int, hard: int, expected: int | None
) -> None:
    asked: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (soft, hard))
    monkeypatch.setattr(resource, "setrlimit", lambda kind, limits: asked.append(limits))
    environment.allow_open_files()
    assert asked == ([] if expected is None else [(expected, hard)])


def test_a_limit_of_open_files_that_is_too_low_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (256, 256))
    with pytest.raises(Unusable, match=r"at most 256 files may be open here, and Ray needs 1024; raise the limit"):
        environment.allow_open_files()


@pytest.fixture
def answers(request: pytest.FixtureRequest) -> Iterator[str]:
    """The address of a server that answers every greeting with these bytes; None: it never answers."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        ended = threading.Event()

        def serve() -> None:
            wire, _ = listening.accept()
            with wire:
                if request.param is None:
                    ended.wait()
                else:
                    wire.sendall(request.param)

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"127.0.0.1:{listening.getsockname()[1]}"
        ended.set()
        thread.join()


SETTINGS = bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])


@pytest.mark.parametrize("answers", [SETTINGS], indirect=True)
def test_an_address_where_a_server_of_ray_s_kind_answers_is_taken(answers: str) -> None:
    environment.refuse_dead_address(answers)


@pytest.mark.parametrize("answers", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"-ERR unknown\r\n"], indirect=True)
def test_an_address_where_something_else_answers_is_refused(answers: str) -> None:
    with pytest.raises(Unusable, match="something else than a Ray cluster answers there; start Ray there"):
        environment.refuse_dead_address(answers)


@pytest.mark.parametrize("answers", [None], indirect=True)
def test_an_address_where_nobody_answers_is_refused_in_time(answers: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "PATIENCE_S", 0.2)
    began = time.monotonic()
    with pytest.raises(Unusable, match=r"no Ray cluster answers there \(timed out\)"):
        environment.refuse_dead_address(answers)
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_an_address_where_nothing_listens_is_refused_at_once(scheme: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"{scheme}127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(Unusable, match=r"no Ray cluster answers there \(Connection refused\)"):
            environment.refuse_dead_address(address)


@pytest.mark.parametrize("address", ["head:port", "head:0", "head:70000", "ray://head:x"])
def test_an_address_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(Unusable, match="write HOST:PORT, ray://HOST:PORT or auto"):
        environment.refuse_dead_address(address)


@pytest.mark.parametrize("address", ["auto", "local"])
def test_names_of_ray_s_own_are_left_to_ray(address: str) -> None:
    environment.refuse_dead_address(address)
