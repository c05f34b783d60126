"""docs/faults.md names tests that exist."""

import re

from include.chimera.paths import PROJECT

TESTS = PROJECT / "tests" / "integration" / "ingest"


def test_each_fault_names_a_test_that_exists() -> None:
    """A renamed test must not leave a promise without proof."""
    rows = [line for line in (PROJECT / "docs/faults.md").read_text().splitlines() if "::" in line]
    assert len(rows) > 20
    for row in rows:
        file = re.search(r"(test_\w+\.py)::", row).group(1)
        source = (TESTS / file).read_text()
        for name in re.findall(r"::(test_\w+)", row):
            assert f"def {name}(" in source, (file, name)
