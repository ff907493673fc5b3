import math
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from platform.study.errors import StudyErrors
from platform.study.yaml_reader import MAX_BYTES, parse, parse_value, read
from typing import Any, NoReturn

import pytest
import yaml


def refusal(text: str) -> str:
    with pytest.raises(StudyErrors) as caught:
        parse(text, "spc.yaml")
    return str(caught.value)


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("true", True),
        ("1", 1),
        ("-3", -3),
        ("0.5", 0.5),
        ("1.0e-4", 1e-4),
        ("null", None),
        ("", None),
        ('"1"', "1"),
        ("~", None),
        ("Null", None),
        ("NULL", None),
        ("nULL", "nULL"),
        ("True", True),
        ("FALSE", False),
        ("tRUE", "tRUE"),
        *((word, word) for word in ("yes", "Yes", "no", "NO", "on", "On", "off", "OFF", "y", "Y", "n")),
        ("1e-4", 1e-4),
        ("1E5", 1e5),
        ("1e+3", 1000.0),
        ("-2E-3", -2e-3),
        ("+.5e2", 50.0),
        ("1.e3", 1000.0),
        (".5", 0.5),
        ("5.", 5.0),
        ("1e", "1e"),
        ("e5", "e5"),
        (".e5", ".e5"),
        (".", "."),
        ("1e5.0", "1e5.0"),
        (".inf", math.inf),
        ("+.INF", math.inf),
        ("-.Inf", -math.inf),
        ("inf", "inf"),
        ("nan", "nan"),
        ("017", 17),
        ("-010", -10),
        ("0o17", 15),
        ("0o18", "0o18"),
        ("-0o17", "-0o17"),
        ("0x1F", 31),
        ("0xfg", "0xfg"),
        ("0b11", "0b11"),
        ("1_000", "1_000"),
        ("1:30", "1:30"),
        ("12:30:45", "12:30:45"),
        ("2001-12-14", "2001-12-14"),
    ],
)
def test_scalars_are_read_as_written(written: str, value: Any) -> None:
    read_value = parse(f"key: {written}", "f").data["key"]
    assert (read_value, type(read_value)) == (value, type(value))


@pytest.mark.parametrize("written", [".nan", ".NaN", ".NAN"])
def test_no_number_is_read_as_written(written: str) -> None:
    value = parse(f"key: {written}", "f").data["key"]
    assert isinstance(value, float) and math.isnan(value)


def test_every_key_and_value_has_its_line() -> None:
    document = parse("method: scan\nsearch:\n  a.b:\n    - 1\n    - 2\n", "f")
    assert document.keys[("search", "a.b")].line == 3
    assert document.values[("search", "a.b", 1)].line == 5


def test_the_comment_block_on_top_is_the_question() -> None:
    assert (
        parse("\n# Does it help?\n#\n# Source: T3\n\n# not this\nmethod: a\n", "f").question
        == "Does it help?\n\nSource: T3"
    )


def test_both_lines_of_a_key_given_twice_are_named() -> None:
    assert refusal("seeds: [0]\nmethod: a\nseeds: [1]\n") == (
        "spc.yaml:3: seeds: the key stands twice, in line 1 and in line 3. Keep one."
    )


def test_an_alias_is_refused() -> None:
    assert refusal("a: &x 1\nb: *x\n") == (
        "spc.yaml:1: a: anchors and aliases (&name, *name) are not allowed. Write the value out where it is needed."
    )


def test_a_tag_is_refused() -> None:
    text = refusal("a: !!python/object/apply:os.system ['true']\n")
    assert text.startswith("spc.yaml:1: a: tags are not allowed, but here is 'tag:yaml.org,2002:python/object/apply")


def test_each_line_indented_with_a_tab_is_named() -> None:
    assert [error.split(": ")[0] for error in refusal("a:\n\tb: 1\n\tc: 2\n").split("\n")] == [
        "spc.yaml:2",
        "spc.yaml:3",
    ]


@pytest.mark.parametrize(("key", "shown"), [("1", "1"), ("true", "True"), ("[a, b]", "['a', 'b']"), ("~", "None")])
def test_a_key_that_is_no_text_is_refused(key: str, shown: str) -> None:
    assert refusal(f"{key}: x\n") == f"spc.yaml:1: a key must be text, but is {shown}. Write it in quotes."


@pytest.mark.parametrize(
    ("text", "found"), [("", "empty"), ("# only this\n", "empty"), ("- 1\n", "a list"), ("scan\n", "a single value")]
)
def test_a_file_that_is_no_mapping_is_refused(text: str, found: str) -> None:
    assert refusal(text).endswith(f"such as 'method: scan', but this one is {found}.")


def test_a_second_document_is_refused() -> None:
    assert (
        refusal("a: 1\n---\nb: 2\n")
        == "spc.yaml:2: a study file is one document; here begins a second. Split the file."
    )


def test_broken_yaml_is_refused_with_its_line() -> None:
    assert refusal("a: 1\nb: [1, 2\nc: 3\n").startswith("spc.yaml:3: this is not YAML (")


@pytest.mark.parametrize("problem", ["exceeded maximum nesting depth", "words of a later version"])
def test_a_library_that_stops_at_a_depth_of_its_own_is_not_quoted(
    monkeypatch: pytest.MonkeyPatch, problem: str
) -> None:
    def parse_nothing(text: str, Loader: object) -> NoReturn:
        mark = yaml.Mark("page", len(text), 0, len(text), None, 0)
        raise yaml.MarkedYAMLError("while scanning", mark, problem, mark)

    monkeypatch.setattr(yaml, "parse", parse_nothing)
    assert refusal("a: " + "[" * 21) == "spc.yaml:1: values nest at most 20 deep, and here is one more."
    assert refusal("a: " + "[" * 20).startswith("spc.yaml:1: this is not YAML (while scanning")


def test_several_errors_of_the_text_are_reported_together() -> None:
    assert len(refusal("a: 1\na: 2\nb: !x 1\n3: 4\n").split("\n")) == 3


@pytest.mark.parametrize(("written", "digits"), [("9" * 400, 400), ("-" + "0" * 19, 19), ("0x" + "f" * 20, 22)])
def test_a_number_too_long_for_arithmetic_is_refused(written: str, digits: int) -> None:
    sentence = f"a whole number has at most 18 digits, but this one has {digits}."
    assert refusal(f"trials: {written}") == f"spc.yaml:1: trials: {sentence}"
    with pytest.raises(StudyErrors, match=f"^--set #1: {sentence}$"):
        parse_value(written, "--set #1")


def test_a_value_of_many_letters_is_refused_without_showing_it() -> None:
    assert (
        refusal("a: " + "x" * 3000)
        == "spc.yaml:1: a: a value has at most 2,000 letters, but this one has 3,000. Shorten it."
    )


def test_a_control_letter_is_refused() -> None:
    assert "spc.yaml" in refusal("a: x\x00y\n")


BOMB = "a0: &a0 [lol, lol, lol]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 10))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (BOMB, "anchors and aliases"),
        ("a: " + "[" * 5000 + "]" * 5000, "values nest at most 20 deep"),
        ("a: " + "[\n" * 100_000, "values nest at most 20 deep"),
        ("a: [" + "1, " * 300_000 + "]", "at most 20,000 values"),
        ("".join(f"k{i}: {i}\n" for i in range(80_000)), "at most 20,000 values"),
    ],
    ids=["bomb", "5,000 deep", "100,000 lines deep", "long list", "many keys"],
)
def test_a_hostile_file_is_refused_in_bounded_time_and_memory(text: str, sentence: str) -> None:
    tracemalloc.start()
    started = time.process_time()
    shown = refusal(text)
    seconds, peak = time.process_time() - started, tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert sentence in shown
    # Tracing memory slows Python down several times; without it each of these takes a few hundredths of a second.
    assert seconds < 10  # of a machine that does other things; a page that grows without bound takes minutes
    assert peak < 100e6


def test_a_large_file_is_refused_before_it_is_parsed(write: Callable[..., Path]) -> None:
    with pytest.raises(StudyErrors, match="spc.yaml: a study file is at most 1,048,576 bytes"):
        read(write("#" * (MAX_BYTES + 1)))


def test_a_file_that_is_no_utf8_is_refused_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "latin.yaml"
    path.write_bytes(b"method: a\n# \xe9t\xe9\n")
    with pytest.raises(StudyErrors, match="latin.yaml:2: a study file is UTF-8 text, but has the byte 0xe9 here"):
        read(path)


def test_a_byte_order_mark_is_tolerated(write: Callable[..., Path]) -> None:
    assert read(write("\ufeffmethod: a\n")).data == {"method": "a"}


def test_a_missing_file_names_the_nearest_one(write: Callable[..., Path]) -> None:
    write("method: a\n")
    with pytest.raises(StudyErrors, match=r"^scp.yaml: there is no such file. Did you mean 'spc.yaml'\?$"):
        read(Path("scp.yaml"))


def test_a_value_of_an_override_is_a_scalar_or_brackets() -> None:
    texts = ["0.9", "[0, 1]", "{choice: [1, 2]}", "C:\\data # here", "1e-4"]
    assert [parse_value(text, "--set #1") for text in texts] == [
        0.9,
        [0, 1],
        {"choice": [1, 2]},
        "C:\\data # here",
        1e-4,
    ]
