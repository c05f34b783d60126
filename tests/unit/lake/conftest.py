"""A DuckDB session on an empty lake."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from duckdb import DuckDBPyConnection

from include.chimera.lake.engine import connect


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
