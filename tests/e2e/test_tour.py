"""docs/tour.md is what a tour shows now."""

import pytest

from scripts.tour import PAGE, make

pytestmark = [pytest.mark.e2e, pytest.mark.long]


def test_the_tour_shows_what_the_page_says() -> None:
    """Each answer, exit code and end; after a change, `python -m scripts.tour` writes it anew."""
    assert make().splitlines() == PAGE.read_text().splitlines()
