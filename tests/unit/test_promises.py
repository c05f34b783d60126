"""The tests that pages name as proof exist."""

import re

import pytest

from include.chimera.paths import PROJECT

TESTS = PROJECT / "tests"


@pytest.mark.parametrize(("page", "least"), [("faults", 20), ("upgrades", 15)])
def test_each_promise_names_a_test_that_exists(page: str, least: int) -> None:
    """A renamed test must not leave a promise without proof."""
    rows = [line for line in (PROJECT / f"docs/{page}.md").read_text().splitlines() if "::" in line]
    assert len(rows) > least
    for row in rows:
        place = TESTS
        for folder, file, name in re.findall(r"([\w/]*/)?(test_\w+\.py)?::(test_\w+)", row):
            if file:
                place = TESTS / (folder or "integration/ingest/") / file
            assert f"def {name}(" in place.read_text(), (place, name)
