"""Turn Airflow connections into the addresses and credentials that the inner rings take."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from include.chimera.settings import get_object_store, get_settings

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


def reach_store() -> None:
    """Set this process's `AWS_…` variables from the setting `store_connection`, if it is set.

    The lake, DuckDB and dbt read these variables. The provider's hook handles every kind of AWS
    connection: keys, profiles, and assumed roles, whose temporary keys are new for each task.

    Raises:
        AirflowNotFoundException: The connection does not exist.
    """
    name = get_settings().store_connection
    if not name:
        return
    from airflow.providers.amazon.aws.hooks.base_aws import (  # noqa: PLC0415 - heavy
        AwsGenericHook,
    )

    hook: AwsGenericHook[Any] = AwsGenericHook(aws_conn_id=name, client_type="s3")
    keys, region = hook.get_credentials(), hook.region_name
    endpoint = hook.conn_config.get_service_endpoint_url("s3") or ""
    variables = {
        "AWS_ACCESS_KEY_ID": keys.access_key,
        "AWS_SECRET_ACCESS_KEY": keys.secret_key,
        "AWS_SESSION_TOKEN": keys.token,
        "AWS_REGION": region,
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ALLOW_HTTP": "true" if endpoint.startswith("http://") else None,
    }
    os.environ |= {name: text for name, text in variables.items() if text}  # noqa: TID251 - handed down
    get_object_store.cache_clear()
