"""The catalogue lists exactly the metrics that are sent."""

import re

from include.chimera.lake.publish.verification import COUNTS
from include.chimera.observe.metrics import CATALOGUE
from include.chimera.paths import INCLUDE, PROJECT

SENT = re.compile(r"(?:Sample|incr)\(\s*f?\"(chimera_[\w{}]+)\"")


def test_what_is_sent_is_what_the_catalogue_holds() -> None:
    """One missing name stops all metrics of a run; one that is never sent is an empty panel."""
    files = [*(INCLUDE / "chimera").rglob("*.py"), *(PROJECT / "plugins").glob("*.py")]
    found = {name for file in files for name in SENT.findall(file.read_text())}
    sent = {name.replace("{count}", count) for name in found for count in COUNTS}
    assert sent == set(CATALOGUE)
