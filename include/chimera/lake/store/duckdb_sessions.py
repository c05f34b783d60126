"""Open DuckDB sessions: extensions from their wheels, limits from the settings, UTC."""

from __future__ import annotations

import importlib
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import duckdb
import pyarrow as pa

from include.chimera.errors import ConfigurationError
from include.chimera.lake.store import storage
from include.chimera.settings import get_object_store, get_settings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from include.chimera.settings import ObjectStore


def session_config() -> Mapping[str, str]:
    """Return DuckDB's configuration: limited memory and threads, no automatic installs."""
    settings = get_settings()
    spill = settings.state_dir / "spill"
    return {
        "memory_limit": settings.duckdb_memory_limit,
        "threads": str(settings.duckdb_threads),
        "temp_directory": str(spill),
        "preserve_insertion_order": "false",
        "autoinstall_known_extensions": "false",
    }


def _extension(name: str) -> Path:
    folder = Path(str(importlib.import_module(f"duckdb_extension_{name}").__file__)).parent
    return next((folder / "extensions").glob(f"*/{name}.duckdb_extension"))


def load_extension(connection: duckdb.DuckDBPyConnection, name: str) -> None:
    """Load the signed extension `name` from its wheel, by path, without a download.

    Raises:
        ConfigurationError: The wheel is missing or was built for another DuckDB.
    """
    package = f"duckdb_extension_{name}"
    try:
        connection.load_extension(str(_extension(name)))
    except (ImportError, StopIteration, duckdb.Error) as error:
        raise ConfigurationError(
            expected=f"the DuckDB extension {name} for DuckDB {duckdb.__version__}",
            came=str(error).partition("\n")[0] or "no binary of it",
            where=f"Python package {package}",
            remedy=f"install {package.replace('_', '-')}=={duckdb.__version__}",
        ) from error


def _extensions() -> Sequence[str]:
    return ("delta", "httpfs") if storage.is_remote(get_settings().lake) else ("delta",)


def prepare(connection: duckdb.DuckDBPyConnection) -> None:
    """Prepare a fresh database for the lake: extensions, credentials, UTC."""
    load_extension(connection, "delta")
    if storage.is_remote(get_settings().lake):
        reach_object_store(connection)
    connection.execute("set TimeZone = 'UTC'")
    connection.execute("set allow_unsigned_extensions = false")


def reach_object_store(connection: duckdb.DuckDBPyConnection) -> None:
    """Give a session access to the object store that the `AWS_…` variables describe."""
    load_extension(connection, "httpfs")
    connection.execute(_secret(get_object_store()))


def _secret(store: ObjectStore) -> str:
    """Return the statement that creates DuckDB's secret for the object store."""
    options = {
        "region": store.region,
        "key_id": store.access_key_id,
        "secret": store.secret_access_key.get_secret_value(),
        "session_token": store.session_token.get_secret_value(),
    }
    if store.endpoint_url:
        endpoint = urlsplit(store.endpoint_url)
        options |= {"endpoint": endpoint.netloc, "url_style": "path"}
    given = "".join(f", {name} {quote(value)}" for name, value in options.items() if value)
    encrypted = not store.endpoint_url.startswith("http://")
    return f"create or replace secret lake (type s3{given}, use_ssl {encrypted})"


@cache
def check_signatures() -> None:
    """Make DuckDB check the extensions' signatures, which takes 0.4 s for delta's 80 MB.

    Once is enough for a process and its forks. DuckDB uses only one thread here, so a fork loses
    none.
    """
    with duckdb.connect(config={"threads": "1"}) as connection:
        for name in _extensions():
            load_extension(connection, name)


def lake_config() -> Mapping[str, str]:
    """Return the configuration for a session that `prepare` then sets up for the lake.

    It allows unsigned extensions, so that those already checked load without another check, until
    `prepare` forbids them, which DuckDB does not let anyone undo.
    """
    check_signatures()
    return {**session_config(), "allow_unsigned_extensions": "true"}


def connect() -> duckdb.DuckDBPyConnection:
    """Open a DuckDB session that can read the lake's tables with `delta_scan`."""
    connection = duckdb.connect(config=dict(lake_config()))
    prepare(connection)
    return connection


@cache
def duckdb_type(kind: pa.DataType) -> str:
    """Return DuckDB's name for an Arrow type."""
    no_rows = pa.schema([("value", kind)]).empty_table()  # noqa: F841 - DuckDB finds it by its name
    with duckdb.connect() as connection:
        return str(connection.execute("describe from no_rows").fetchall()[0][1])


def quote(text: str) -> str:
    """Return `text` as an SQL string literal."""
    return "'" + text.replace("'", "''") + "'"


def identifier(name: str) -> str:
    """Return `name` as a quoted SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def among(column: str, values: Sequence[str]) -> str:
    """Return the predicate that a column has one of the values.

    Bounds are added to the list because `delta_scan` skips files by bounds, but not by a list of
    two or more values (measured on DuckDB 1.5.5).
    """
    if not values:
        return "false"
    listed = ", ".join(quote(value) for value in values)
    bounds = f"{quote(min(values))} and {quote(max(values))}"
    name = identifier(column)
    return f"({name} between {bounds} and {name} in ({listed}))"
