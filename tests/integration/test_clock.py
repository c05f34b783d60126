"""No test's outcome depends on when it runs: the unit ring under a shifted clock."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from include.chimera.paths import PROJECT

pytestmark = [pytest.mark.integration, pytest.mark.long]
LIBRARY = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)
MOMENTS = (
    *(("UTC", f"2026-11-30 {hour:02}:59:55") for hour in range(24)),  # its end is a month's too
    ("UTC", "2026-12-31 23:59:55"),
    ("UTC", "2028-02-28 23:59:55"),
    ("UTC", "2028-02-29 23:59:55"),
    ("Europe/Berlin", "2026-03-29 01:59:55"),
    ("Europe/Berlin", "2026-10-25 02:59:55"),
    ("America/New_York", "2026-11-01 01:59:55"),
    ("Pacific/Kiritimati", "2026-12-31 23:59:55"),
)


@pytest.mark.skipif(LIBRARY is None, reason="libfaketime is not installed (Debian: faketime)")
@pytest.mark.parametrize(("zone", "moment"), MOMENTS)
def test_the_unit_ring_passes_at_any_moment(zone: str, moment: str) -> None:
    """Each hour of a day, over its end; ends of months and years, leap days, clock changes."""
    shifted = (f"LD_PRELOAD={LIBRARY}", f"FAKETIME=@{moment}", f"TZ={zone}")
    ring = ("-m", "pytest", "tests/unit", "-q", "-p", "no:cacheprovider")
    done = subprocess.run(  # noqa: S603 - our own ring
        ["/usr/bin/env", *shifted, sys.executable, *ring],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:]
