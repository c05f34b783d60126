"""Fixtures that more than one ring shares."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from include.chimera.settings import get_settings

TRACES = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def traces_folder() -> Path:
    """Return the folder of real traces beside the repository; skip where there is none."""
    if not (TRACES / "README.md").is_file():
        pytest.skip(f"no real traces in {TRACES}")
    return TRACES


@pytest.fixture
def lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Point the settings at an empty lake, and return its root."""
    monkeypatch.setenv("CHIMERA_STATE_DIR", str(tmp_path))
    get_settings.cache_clear()
    yield tmp_path / "lake"
    get_settings.cache_clear()
