"""A database as each platform's own migrations make it, and a lake of its own for each test."""

import pytest

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
def choose(lake, choose):
    """Choose profiles beside an empty lake."""
    del lake
    return choose


@pytest.fixture
def litellm(postgres, choose):
    """Return the database of a new installation of LiteLLM, whose profile is chosen."""
    choose("litellm")
    database = Database(postgres)
    yield database
    database.drop()
