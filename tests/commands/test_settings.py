"""``python -m platform.settings``: what each method can be set to."""

import json
from pathlib import Path
from platform import settings as command

import pytest

from trainables import pipeline, settings

ROOT = Path(__file__).parents[2]


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert command.main(list(arguments)) == command.OK
    return capsys.readouterr().out


@pytest.mark.parametrize("method", sorted(pipeline.METHODS))
def test_every_setting_of_a_method_is_printed_with_all_that_its_rule_says(
    method: str, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = json.loads(said(capsys, method, "--json"))["stages"]
    assert [section["stage"] for section in shown] == list(pipeline.METHODS[method])
    text = said(capsys, method)
    for section, (slot, stage) in zip(shown, pipeline.stages(method).items(), strict=True):
        assert section["slot"] == slot
        rules = settings.rules(stage.Config)
        assert [each["name"] for each in section["settings"]] == [f"{slot}.{name}" for name in rules]
        for each, (name, rule) in zip(section["settings"], rules.items(), strict=True):
            assert each["default"] == settings.defaults(stage.Config)[name]
            assert each["type"] == settings.kind_of(stage.Config, name).__name__
            for key in ("low", "high", "above", "below", "unit", "symbol", "meaning"):
                assert each[key] == getattr(rule, key)
            assert each["choices"] == list(rule.choices) and each["oracle"] == list(rule.oracle)
            assert each["when"] == {f"{slot}.{other}": list(values) for other, values in rule.when.items()}
            assert f"  {slot}.{name}" in text and rule.meaning in text


def test_a_setting_is_two_or_three_lines(capsys: pytest.CaptureFixture[str]) -> None:
    text = said(capsys, "scan")
    assert (
        "  neighbors.num_neighbors (K): 50 [neighbors]   a whole number, at least 1\n"
        "      neighbors mined per training image; a later stage may use fewer\n"
    ) in text
    assert "simclr (slot pretext)\n" in text and "\nneighbors\n" in text


def test_a_stage_that_is_no_method_is_shown_alone(capsys: pytest.CaptureFixture[str]) -> None:
    (only,) = json.loads(said(capsys, "moco", "--json"))["stages"]
    assert (only["stage"], only["slot"]) == ("moco", "pretext")


def test_without_a_method_every_stage_is_shown_once(capsys: pytest.CaptureFixture[str]) -> None:
    files = {path.stem for path in (ROOT / "trainables" / "stages").glob("*.py")} - {"__init__"}
    shown = [section["stage"] for section in json.loads(said(capsys, "--json"))["stages"]]
    assert len(shown) == len(set(shown)) and set(shown) == files


def test_a_method_that_does_not_exist_is_one_sentence_and_exit_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["scna"]) == command.WRONG
    out, err = capsys.readouterr()
    assert (out, err) == ("", "method 'scna' does not exist. Did you mean 'scan'?\n")


def test_the_written_page_is_what_the_command_gives(capsys: pytest.CaptureFixture[str]) -> None:
    page = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    assert said(capsys, "--markdown") == page, "docs/settings.md is not what the stages say; run make docs"


def test_a_table_has_as_many_cells_in_every_row(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [line.replace("\\|", "") for line in said(capsys, "--markdown").splitlines() if line.startswith("|")]
    assert len(rows) > 100 and {row.count("|") for row in rows} == {8}
