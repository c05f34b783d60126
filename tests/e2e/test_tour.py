"""docs/tour.md is what a tour shows now."""

import re

import pytest

from scripts.tour import PAGE, make

pytestmark = [pytest.mark.e2e, pytest.mark.long]


def outline(page: str) -> list[str]:
    """Return the page's headings and commands, their exit codes, and how runs and tasks ended."""
    return re.findall(r'^(?:#+ .*|\$ .*|\(exit.*|\{"(?:state|tasks)".*)$', page, re.MULTILINE)


def test_the_tour_shows_what_the_page_says() -> None:
    """Each step works; after a change of steps, `python -m scripts.tour` writes the page anew."""
    assert outline(make()) == outline(PAGE.read_text())
