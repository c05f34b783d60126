"""From Airflow's connections to the addresses that the rings below take."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode

if TYPE_CHECKING:
    from airflow.sdk import Connection

APP_DB, PROMETHEUS = "app_db", "prometheus"


def libpq_uri(connection: Connection) -> str:
    """Return the libpq URI of a PostgreSQL connection; a host that is a path is a socket folder."""
    login = quote(connection.login or "postgres", safe="")
    secret = f":{quote(connection.password, safe='')}" if connection.password else ""
    host, database = connection.host or "localhost", connection.schema or "postgres"
    options = {"host": host, **({"port": connection.port} if connection.port else {})}
    return f"postgresql://{login}{secret}@/{database}?{urlencode(options)}"


def http_url(connection: Connection) -> str:
    """Return the base URL of an HTTP connection."""
    host = connection.host or "localhost"
    base = host if "://" in host else f"{connection.conn_type}://{host}"
    return f"{base}:{connection.port}" if connection.port else base
