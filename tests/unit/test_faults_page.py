"""docs/faults.md names tests that exist."""

import re

from include.chimera.paths import PROJECT

TESTS = PROJECT / "tests"


def test_each_fault_names_a_test_that_exists() -> None:
    """A renamed test must not leave a promise without proof."""
    rows = [line for line in (PROJECT / "docs/faults.md").read_text().splitlines() if "::" in line]
    assert len(rows) > 20
    for row in rows:
        place = TESTS
        for folder, file, name in re.findall(r"([\w/]*/)?(test_\w+\.py)?::(test_\w+)", row):
            if file:
                place = TESTS / (folder or "integration/ingest/") / file
            assert f"def {name}(" in place.read_text(), (place, name)
