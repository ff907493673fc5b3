from platform.study.errors import StudyError, StudyErrors, did_you_mean, has_secret, redacted

import pytest


def test_an_error_shows_file_line_key_and_sentence() -> None:
    assert str(StudyError("spc.yaml", 14, "seeds", "must differ.")) == "spc.yaml:14: seeds: must differ."


def test_an_override_has_no_line() -> None:
    assert str(StudyError("--set #1", 0, "seeds", "must differ.")) == "--set #1: seeds: must differ."


def test_errors_are_sorted_by_line_and_overrides_come_last() -> None:
    given = [
        StudyError("--set #10", 0, "", "e"),
        StudyError("--set #2", 0, "", "d"),
        StudyError("a", 12, "", "c"),
        StudyError("a", 3, "", "b"),
    ]
    assert [error.sentence for error in StudyErrors(given).errors] == ["b", "c", "d", "e"]


def test_an_error_said_twice_is_reported_once() -> None:
    assert str(StudyErrors([StudyError("a", 1, "k", "s"), StudyError("a", 1, "k", "s")])) == "a:1: k: s"


def test_control_letters_cannot_forge_a_second_line() -> None:
    assert str(StudyError("a", 1, "k\nb", "s")) == "a:1: k\\nb: s"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql://me:hunter2@host/db", "postgresql://me:***@host/db"),
        ("postgresql://me:p@ss@host/db", "postgresql://me:***@host/db"),
        ("https://host/api?token=abc123&x=1", "https://host/api?token=***&x=1"),
        ("s3://b/k?X-Amz-Signature=abc123&X-Amz-Date=1", "s3://b/k?X-Amz-Signature=***&X-Amz-Date=1"),
        ("s3://b?access_key=abc123&secret_key=def456", "s3://b?access_key=***&secret_key=***"),
        ("https://b.blob.core.windows.net/c?sv=1&sig=abc%3D", "https://b.blob.core.windows.net/c?sv=1&sig=***"),
        ("AWS_SECRET_ACCESS_KEY=abc123 is wrong", "AWS_SECRET_ACCESS_KEY=*** is wrong"),
        ("401 for Authorization: Bearer abc.def-123", "401 for Authorization: Bearer ***"),
    ],
)
def test_a_password_is_found_and_hidden(text: str, shown: str) -> None:
    assert has_secret(text)
    assert redacted(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        "http://localhost:5000",
        "http://localhost:5000/a@b",
        "postgresql://me:${ENV:PG}@host/db",
        "postgresql://${ENV:USER}:${ENV:PG}@host/db",
        "a plain sentence: with a colon",
        "s3://bucket/folder?region=eu-west-1",
        "the bearer of this is nobody",
    ],
)
def test_ports_and_references_are_no_passwords(text: str) -> None:
    assert not has_secret(text)
    assert redacted(text) == text


@pytest.mark.parametrize(
    "name", ["RAY_AUTH_TOKEN", "AWS_SECRET_ACCESS_KEY", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_FLASK_SERVER_SECRET_KEY"]
)
def test_what_a_secret_variable_holds_is_hidden_wherever_it_stands(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "opensesame")
    assert redacted("cannot log in as me/opensesame; twice opensesame") == "cannot log in as me/***; twice ***"


def test_the_longer_of_two_secrets_is_hidden_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_TOKEN", "opensesame")
    monkeypatch.setenv("B_TOKEN", "opensesame-and-more")
    assert redacted("opensesame-and-more") == "***"


@pytest.mark.parametrize(("name", "value"), [("RAY_AUTH_TOKEN_PATH", "/home/me/token"), ("MY_TOKEN", "short")])
def test_paths_and_short_values_are_no_secrets(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)
    assert redacted(f"see {value}") == f"see {value}"


def test_the_nearest_name_is_suggested_whatever_its_case() -> None:
    assert did_you_mean("SCNA", ["scan", "spc"]) == "Did you mean 'scan'?"


def test_where_none_is_near_all_are_listed() -> None:
    assert did_you_mean("zzz", ["scan", "spc"]) == "Known: scan, spc."
