"""docs/methods.md names pages that exist, and every page of the two papers."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
TEXT = (ROOT / "docs" / "methods.md").read_text(encoding="utf-8")
NAMED = sorted(set(re.findall(r"`(?:search_spaces/)?(?:papers/)?([\w]+\.yaml)`", TEXT)))
PAGES = sorted(path.name for path in (ROOT / "search_spaces" / "papers").glob("*.yaml"))
OF_THE_PAPERS = [name for name in PAGES if re.match(r"(scan|spc)_", name)]


def test_pages_are_found_on_both_sides() -> None:
    assert len(NAMED) > 20 and len(OF_THE_PAPERS) > 20


@pytest.mark.parametrize("name", NAMED)
def test_a_page_that_is_named_exists(name: str) -> None:
    assert list((ROOT / "search_spaces").rglob(name)), name


@pytest.mark.parametrize("name", OF_THE_PAPERS)
def test_a_page_of_the_papers_is_named(name: str) -> None:
    assert name in NAMED
