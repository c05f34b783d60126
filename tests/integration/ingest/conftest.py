"""A PostgreSQL for all tests of ingestion, and a lake of its own for each."""

import pytest

from include.chimera.settings import get_settings
from tests.integration.ingest.pipeline import create_schema
from tests.integration.ingest.servers import PostgresServer


@pytest.fixture(scope="session")
def postgres():
    """Run one server for the session."""
    server = PostgresServer()
    server.start()
    yield server
    server.remove()


@pytest.fixture
def server(postgres):
    """Return the server with the application's schema, empty."""
    create_schema(postgres)
    return postgres


@pytest.fixture
def uri(server):
    """Return the application database's URI."""
    return server.uri()


@pytest.fixture
def configure(monkeypatch):
    """Return a function that changes settings by their environment variables."""

    def change(**settings):
        for name, value in settings.items():
            monkeypatch.setenv(f"CHIMERA_{name.upper()}", str(value))
        get_settings.cache_clear()

    yield change
    monkeypatch.undo()
    get_settings.cache_clear()


@pytest.fixture(autouse=True)
def lake(tmp_path, configure, versions):  # noqa: ARG001 - checks each version of that lake
    """Give each test a lake and logs of its own."""
    configure(state_dir=tmp_path)
    return tmp_path
