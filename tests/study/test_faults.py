from platform.study.faults import Fault, StudyFaults, did_you_mean, has_secret, redacted

import pytest


def test_a_fault_shows_file_line_key_and_sentence() -> None:
    assert str(Fault("spc.yaml", 14, "seeds", "must differ.")) == "spc.yaml:14: seeds: must differ."


def test_an_override_has_no_line() -> None:
    assert str(Fault("--set #1", 0, "seeds", "must differ.")) == "--set #1: seeds: must differ."


def test_faults_are_sorted_by_line_and_overrides_come_last() -> None:
    given = [
        Fault("--set #10", 0, "", "e"),
        Fault("--set #2", 0, "", "d"),
        Fault("a", 12, "", "c"),
        Fault("a", 3, "", "b"),
    ]
    assert [fault.sentence for fault in StudyFaults(given).faults] == ["b", "c", "d", "e"]


def test_a_fault_said_twice_is_reported_once() -> None:
    assert str(StudyFaults([Fault("a", 1, "k", "s"), Fault("a", 1, "k", "s")])) == "a:1: k: s"


def test_control_letters_cannot_forge_a_second_line() -> None:
    assert str(Fault("a", 1, "k\nb", "s")) == "a:1: k\\nb: s"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql://me:hunter2@host/db", "postgresql://me:***@host/db"),
        ("postgresql://me:p@ss@host/db", "postgresql://me:***@host/db"),
        ("https://host/api?token=abc123&x=1", "https://host/api?token=***&x=1"),
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
    ],
)
def test_ports_and_references_are_no_passwords(text: str) -> None:
    assert not has_secret(text)
    assert redacted(text) == text


def test_the_nearest_name_is_suggested_whatever_its_case() -> None:
    assert did_you_mean("SCNA", ["scan", "spc"]) == "Did you mean 'scan'?"


def test_where_none_is_near_all_are_listed() -> None:
    assert did_you_mean("zzz", ["scan", "spc"]) == "Known: scan, spc."
