"""Open DuckDB sessions: extensions from their wheels, limits from the settings, UTC.

Every session of the package comes from here. Nothing is ever downloaded: what a statement needs is
loaded by path, or it fails.
"""

from __future__ import annotations

import importlib
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import duckdb
import pyarrow as pa

from include.chimera.errors import ConfigurationError
from include.chimera.lake.store import storage
from include.chimera.settings import get_object_store, get_settings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from include.chimera.settings import ObjectStore


_OFFLINE: dict[str, Any] = {
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
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


def _extensions(*, has_delta: bool) -> Sequence[str]:
    needed = {"delta": has_delta, "httpfs": _is_remote()}
    return [name for name, is_needed in needed.items() if is_needed]


def _is_remote() -> bool:
    return any(map(storage.is_remote, get_settings().read_roots))


def prepare(connection: duckdb.DuckDBPyConnection, *, has_delta: bool = True) -> None:
    """Prepare a fresh database for the lake: extensions, credentials, UTC."""
    if has_delta:
        load_extension(connection, "delta")
    if _is_remote():
        reach_object_store(connection)
    connection.execute("set TimeZone = 'UTC'")
    connection.execute("set allow_unsigned_extensions = false")


def reach_object_store(connection: duckdb.DuckDBPyConnection) -> None:
    """Give a session access to the object store that the `AWS_…` variables describe."""
    load_extension(connection, "httpfs")
    connection.execute(_secret(get_object_store()))
    # A session asks once for the size of a file: what it reads again, nobody changes.
    connection.execute("set enable_http_metadata_cache = true")


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


def check_signatures(*, has_delta: bool = True) -> None:
    """Make DuckDB check the extensions' signatures, which takes 0.4 s for delta's 80 MB.

    Once is enough for a process and its forks.
    """
    for name in _extensions(has_delta=has_delta):
        check_signature(name)


@cache
def check_signature(name: str) -> None:
    """Make DuckDB check an extension, with only one thread, so that a fork loses none."""
    with duckdb.connect(config={**_OFFLINE, "threads": "1"}) as connection:
        load_extension(connection, name)


def lake_config(*, has_delta: bool = True) -> Mapping[str, str]:
    """Return the configuration for a session that `prepare` then sets up for the lake.

    It allows unsigned extensions, so that those already checked load without another check, until
    `prepare` forbids them, which DuckDB does not let anyone undo.
    """
    check_signatures(has_delta=has_delta)
    settings = get_settings()
    return {
        **_OFFLINE,
        "memory_limit": settings.duckdb_memory_limit,
        "threads": str(settings.duckdb_threads),
        "temp_directory": str(settings.state_dir / "spill"),
        "preserve_insertion_order": "false",
        "allow_unsigned_extensions": "true",
    }


def connect(
    database: str = ":memory:", *, has_delta: bool = True, is_read_only: bool = False
) -> duckdb.DuckDBPyConnection:
    """Open a DuckDB session that can read the lake's tables and files.

    Args:
        database: The database's file.
        has_delta: Whether it reads tables with `delta_scan`; loading that takes 0.3 s. Without it,
            a session reads only files, such as staged ones.
        is_read_only: Whether it only reads the database.
    """
    config: dict[str, Any] = dict(lake_config(has_delta=has_delta))
    connection = duckdb.connect(database, read_only=is_read_only, config=config)
    prepare(connection, has_delta=has_delta)
    return connection


@cache
def duckdb_type(kind: pa.DataType) -> str:
    """Return DuckDB's name for an Arrow type."""
    ((_, name),) = described(pa.schema([("value", kind)]))
    return name


def described(schema: pa.Schema) -> list[tuple[str, str]]:
    """Return DuckDB's names of columns and types for an Arrow schema."""
    no_rows = schema.empty_table()  # noqa: F841 - DuckDB finds it by its name
    with duckdb.connect(config=_OFFLINE) as connection:
        rows = connection.execute("describe from no_rows").fetchall()
        return [(str(name), str(kind)) for name, kind, *_ in rows]


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
