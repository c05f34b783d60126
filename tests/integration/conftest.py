"""Real servers for the integration ring."""

from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from include.chimera.local.layout import Layout
from include.chimera.local.servers.postgres_server import APP_DATABASE, Postgres
from include.chimera.local.supervision.processes import sweep
from include.chimera.local.supervision.supervisor import KeeperLine, StateLock
from include.chimera.profiles import chosen
from include.chimera.settings import get_settings
from tests.integration.log_places import Bucket, Folder


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    """Return a running PostgreSQL, which ends with the tests even if they are killed."""
    layout = Layout.of(tmp_path_factory.mktemp("postgres"))
    lock = StateLock(layout)
    layout.make_folders()
    line = KeeperLine(layout, lock)
    server = Postgres(layout)
    server.start(line)
    yield server
    line.close()
    sweep(layout)
    lock.release()


@pytest.fixture
def choose(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Return a function that chooses profiles."""

    def change(profiles: str) -> None:
        monkeypatch.setenv("CHIMERA_PROFILE", profiles)
        get_settings.cache_clear()

    yield change
    monkeypatch.undo()
    get_settings.cache_clear()
    chosen._together.cache_clear()


def empty(uri: str) -> None:
    """Drop the application's tables."""
    with psycopg.connect(uri, autocommit=True) as connection:
        for schema in ("app", "app_demo"):
            connection.execute(f"drop schema if exists {schema} cascade")


@pytest.fixture
def app_db(postgres: Postgres) -> str:
    """Return the libpq URI of an application database without tables."""
    uri = postgres.uri(APP_DATABASE)
    empty(uri)
    return uri


@pytest.fixture(params=["folder", "bucket"])
def logs(request: pytest.FixtureRequest, tmp_path: Path) -> Folder | Bucket:
    """Return a place for logs, first a folder, then one of an object store."""
    if request.param == "folder":
        return Folder(tmp_path / "logs")
    return Bucket(request.getfixturevalue("object_store"))
