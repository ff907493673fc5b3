from platform.reports.content import about, prepare, question
from platform.reports.summarize import summarize
from typing import Any


def _asked(book: Any, text: str) -> list[tuple[str, str]]:
    made = book(question=text)
    return question(summarize(made.ledger, made.launch.id))


def test_a_labeled_line_of_the_files_head_is_an_entry_with_the_lines_that_continue_it(book: Any) -> None:
    text = "Does it help?\n\nSource: T3\nCost:  12 settings,\na minute each."
    assert _asked(book, text) == [("", "Does it help?"), ("source", "T3"), ("cost", "12 settings, a minute each.")]


def test_lines_without_a_label_are_paragraphs(book: Any) -> None:
    assert _asked(book, "One\nsentence.\n\nAnother: one.") == [("", "One sentence."), ("another", "one.")]
    assert _asked(book, "One.\n\nTwo.") == [("", "One."), ("", "Two.")]


def test_a_file_without_a_head_asks_nothing(book: Any) -> None:
    assert _asked(book, "") == []


def test_a_pretext_from_a_file_is_shown_with_its_sha256(book: Any) -> None:
    made = book(pretext="checkpoint", fixed={"pretext.path": "/x.pt", "pretext.sha256": "ab" * 32})
    assert dict(about(summarize(made.ledger, made.launch.id)))["checkpoint"] == f"sha256 {'ab' * 32}"


def test_a_trained_pretext_has_no_checkpoint_to_show(book: Any) -> None:
    made = book()
    assert "checkpoint" not in dict(about(summarize(made.ledger, made.launch.id)))


def test_shared_stages_are_named_where_rows_fill_a_slot_with_several(book: Any) -> None:
    made = book()
    made.prepare(0, {}, cached=True)
    assert [cell.text for cell in prepare(summarize(made.ledger, made.launch.id)).rows[0]] == ["0", "done", "reused"]
    made.prepare(0, {}, pretext="rotnet")
    found = [[cell.text for cell in row] for row in prepare(summarize(made.ledger, made.launch.id)).rows]
    assert sorted(row[2] for row in found) == ["rotnet computed", "simclr reused"]
