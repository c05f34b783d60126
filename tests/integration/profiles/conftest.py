"""A database as each platform's own migrations make it, and a lake of its own for each test."""

import pytest

from include.chimera.profiles import chosen
from include.chimera.settings import get_settings
from tests.integration.ingest.servers import PostgresServer
from tests.integration.profiles.litellm import Database


@pytest.fixture(scope="session")
def postgres():
    """Run one server for the session."""
    server = PostgresServer()
    server.start()
    yield server
    server.remove()


@pytest.fixture
def choose(monkeypatch, lake):
    """Return a function that chooses profiles, beside an empty lake."""
    del lake

    def change(profiles):
        monkeypatch.setenv("CHIMERA_PROFILE", profiles)
        get_settings.cache_clear()

    yield change
    monkeypatch.undo()
    get_settings.cache_clear()
    chosen._together.cache_clear()


@pytest.fixture
def litellm(postgres, choose):
    """Return the database of a new installation of LiteLLM, whose profile is chosen."""
    choose("litellm")
    database = Database(postgres)
    yield database
    database.drop()
