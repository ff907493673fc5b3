from platform.reports.yaml_writer import dump
from platform.study.yaml_reader import parse
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

# What one of the two versions of YAML, or both, take for something else than text when it has no quotes.
TROUBLE = [
    *("1e-4", "1E5", ".5", "0o17", "017", "0x1F", "0b11", "1_000", "1:30", "12:30:45", "+12", "1.", ".inf", ".NAN"),
    *(
        "on",
        "Off",
        "yes",
        "no",
        "y",
        "N",
        "true",
        "TRUE",
        "False",
        "null",
        "Null",
        "~",
        "",
        "=",
        "<<",
        "-",
        "2001-12-14",
    ),
    *("# no comment", "a: b", "a #b", "[1]", "{a: b}", "&a", "*a", "!tag", " padded ", "two\nlines", "\u00fc", "\ttab"),
]
LETTERS = st.characters(exclude_categories=("Cs", "Cc", "Cn", "Co"), exclude_characters="\u2028\u2029\ufeff")
TEXTS = st.sampled_from(TROUBLE) | st.text(LETTERS, max_size=20) | st.text("0123456789.eE+-_:oxaf", max_size=6)
VALUES = st.recursive(
    TEXTS | st.booleans() | st.none() | st.integers(-(10**17), 10**17) | st.floats(allow_nan=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)


def typed(value: Any) -> Any:
    """The value with the type of each part, for 1 == True == 1.0."""
    if isinstance(value, dict):
        return {key: typed(each) for key, each in value.items()}
    return [typed(each) for each in value] if isinstance(value, list) else (type(value), value)


@pytest.mark.parametrize("text", TROUBLE)
def test_text_is_read_back_as_text_by_this_reader_and_by_pyyaml(text: str) -> None:
    data = {text: text, "list": [text]}
    written = dump(data)
    assert parse(written, "f").data == data == yaml.safe_load(written)


@given(st.dictionaries(TEXTS, VALUES, max_size=4))
def test_plain_data_is_read_back_by_this_reader_and_by_pyyaml(data: dict[str, Any]) -> None:
    written = dump(data)
    assert typed(parse(written, "f").data) == typed(data) == typed(yaml.safe_load(written))


def test_a_list_that_stands_twice_is_written_out_twice() -> None:
    seeds = [0, 1]
    written = dump({"a": seeds, "b": seeds})
    assert "&" not in written
    assert parse(written, "f").data == {"a": [0, 1], "b": [0, 1]}
