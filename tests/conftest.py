"""Fixtures that more than one ring shares."""

from pathlib import Path

import pytest

TRACES = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def traces_folder() -> Path:
    """Return the folder of real traces beside the repository; skip where there is none."""
    if not (TRACES / "README.md").is_file():
        pytest.skip(f"no real traces in {TRACES}")
    return TRACES
