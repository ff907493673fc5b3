"""The token of clusters that are started here."""

import stat
from pathlib import Path
from platform.run import cluster
from platform.run.ray_auth import is_open, require_token

import pytest


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_token_is_made_for_its_owner_alone(tmp_path: Path) -> None:
    environment: dict[str, str] = {}
    require_token(environment, tmp_path)
    token = tmp_path / ".ray" / "auth_token"
    assert environment == {}
    assert (mode(token), mode(token.parent)) == (0o600, 0o700)
    assert len(bytes.fromhex(token.read_text())) == 32
    assert [path.name for path in token.parent.iterdir()] == ["auth_token"]


def test_a_token_that_is_there_stays_and_is_closed_to_others(tmp_path: Path) -> None:
    token = tmp_path / ".ray" / "auth_token"
    token.parent.mkdir()
    token.write_text("mine")
    token.chmod(0o644)
    require_token({}, tmp_path)
    assert token.read_text() == "mine"
    assert mode(token) == 0o600


def test_two_homes_get_different_tokens(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        require_token({}, tmp_path / name)
    first, second = ((tmp_path / name / ".ray" / "auth_token").read_text() for name in ("a", "b"))
    assert first != second


def test_a_named_token_is_used_and_none_is_made_beside_it(tmp_path: Path) -> None:
    named = tmp_path / "elsewhere"
    named.write_text("mine")
    require_token({"RAY_AUTH_TOKEN_PATH": str(named)}, tmp_path)
    assert mode(named) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["elsewhere"]


@pytest.mark.parametrize("environment", [{"RAY_AUTH_TOKEN": "mine"}, {"RAY_AUTH_MODE": "disabled"}])
def test_no_file_is_made_where_the_environment_has_said_it_all(environment: dict[str, str], tmp_path: Path) -> None:
    require_token(environment, tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert environment in ({"RAY_AUTH_TOKEN": "mine"}, {"RAY_AUTH_MODE": "disabled"})


def test_a_named_token_that_is_missing_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="RAY_AUTH_TOKEN_PATH=.*nowhere: there is no such file"):
        require_token({"RAY_AUTH_TOKEN_PATH": str(tmp_path / "nowhere")}, tmp_path)


def test_another_users_token_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    require_token({}, tmp_path)
    monkeypatch.setattr("os.getuid", lambda: 12345)
    with pytest.raises(ValueError, match="belongs to another user"):
        require_token({}, tmp_path)


@pytest.mark.parametrize(("noted", "found"), [("token", False), ("TOKEN", False), ("disabled", True), ("", True)])
def test_a_cluster_is_open_unless_ray_has_noted_a_token(noted: str, found: bool) -> None:
    assert is_open({"RAY_AUTH_MODE": noted} if noted else {}) == found


def test_the_mode_is_set_before_ray_is_imported_for_a_start_and_left_alone_for_a_join(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[str] = []

    class Stopped(BaseException):
        pass

    def start(**options: object) -> None:
        raise Stopped

    monkeypatch.setattr(cluster.ray_auth, "require_token", lambda environment, home: asked.append("token"))
    monkeypatch.setattr("ray.init", start)
    monkeypatch.setattr(cluster.environment, "refuse_dead_address", lambda address: None)
    for address in ("", "127.0.0.1:1"):
        with pytest.raises(Stopped), cluster.running(address):
            pass
    assert asked == ["token"]
