"""Fixtures that more than one ring shares."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from duckdb import DuckDBPyConnection

from include.chimera.lake.store.duckdb_sessions import connect
from include.chimera.paths import STATE
from include.chimera.settings import get_settings
from tests.integration.object_store import Store, store_server
from tests.versions import Versions

# Before Cosmos is imported: its default is one folder in /tmp for all users of the machine.
os.environ.setdefault("AIRFLOW__COSMOS__CACHE_DIR", str(STATE / "cosmos"))  # noqa: TID251  # ours

TRACES = Path(__file__).resolve().parents[2] / "shared" / "data"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option of `make pictures`."""
    parser.addoption("--pictures", type=Path, help="folder that tests take pictures into")


@pytest.fixture
def pictures(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Return the folder that pictures are taken into; one of the test's own unless it is named."""
    named: Path | None = request.config.getoption("--pictures")
    return named or tmp_path


@pytest.fixture(scope="session")
def traces_folder() -> Path:
    """Return the folder of real traces beside the repository; skip where there is none."""
    if not (TRACES / "README.md").is_file():
        pytest.skip(f"no real traces in {TRACES}")
    return TRACES


@pytest.fixture
def versions(tmp_path: Path) -> Iterator[Versions]:
    """Look at every version of every table of the test's lake, once it has ended."""
    written = Versions()
    written.add(tmp_path / "lake")
    yield written
    written.check()


@pytest.fixture
def damaged(versions: Versions) -> None:
    """Say that the test spoils a log, so that not every version can be read."""
    versions.are_checked = False


@pytest.fixture
def lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, versions: Versions) -> Iterator[Path]:
    """Point the settings at an empty lake, each of whose versions is checked; return its root."""
    del versions
    monkeypatch.setenv("CHIMERA_STATE_DIR", str(tmp_path))
    get_settings.cache_clear()
    yield tmp_path / "lake"
    get_settings.cache_clear()


@pytest.fixture(scope="session")
def object_store() -> Iterator[Store]:
    """Return a running S3 server."""
    with store_server() as store:
        yield store


@pytest.fixture(scope="session")
def session() -> Iterator[DuckDBPyConnection]:
    """Return a session of the whole ring: loading its extension takes longer than most tests."""
    with connect() as opened:
        yield opened


@pytest.fixture
def connection(lake: Path, session: DuckDBPyConnection) -> DuckDBPyConnection:
    """Return a session beside an empty lake."""
    del lake
    return session
