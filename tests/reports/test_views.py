from platform.reports.tables import summarize
from platform.reports.views import question
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
