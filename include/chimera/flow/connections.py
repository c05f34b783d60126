"""Turn Airflow connections into the addresses and credentials that the inner rings take.

Whatever a connection says is honoured, or refused by its name: a certificate's check that is left
out without a word is worse than none that was asked for.
"""

from __future__ import annotations

import json
import os
import re
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import quote, urlencode, urlsplit

from include.chimera.errors import ConfigurationError
from include.chimera.settings import get_object_store, get_settings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow.sdk import Connection

    from include.chimera.sources.api_logs.log_files import LogRoot
    from include.chimera.sources.postgres.sessions import LibpqUri
    from include.chimera.sources.prometheus.prometheus_api import PrometheusServer
    from include.chimera.sources.stored.stored_files import Purpose, SourceRoot

APP_DB, PROMETHEUS = "app_db", "prometheus"
SPARK = "spark"
API_LOGS, REPORTS, OTEL, JSON = FILES = ("api_logs", "reports", "otel", "json")
_CONNECT_SECONDS = 10  # libpq's default is to wait for ever
_LIBPQ = """
    channel_binding connect_timeout gssencmode hostaddr keepalives keepalives_count keepalives_idle
    keepalives_interval load_balance_hosts options passfile require_auth requirepeer service
    ssl_max_protocol_version ssl_min_protocol_version sslcert sslcertmode sslcrl sslcrldir sslkey
    sslmode sslnegotiation sslpassword sslrootcert sslsni target_session_attrs tcp_user_timeout
"""
"""The parameters of libpq that an extra may set.

Source: https://www.postgresql.org/docs/current/libpq-connect.html, section 32.1.2."""
_NO_EXTRA = {
    "application_name": "the safe bound knows our own sessions by their name",
    "client_encoding": "rows are read as UTF-8",
    "replication": "rows are read by queries",
}
_OWN_HEADERS = frozenset({"accept-encoding", "content-length", "transfer-encoding", "connection"})
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, 5.6.2
_PRINTABLE = re.compile(r"[\x20-\x7e\t]+")


def libpq_uri(connection: Connection) -> LibpqUri:
    """Return the libpq URI of a PostgreSQL connection; a host that is a path is a socket folder.

    What the connection leaves out is left to libpq: a service file, `PGHOST` and its like.

    Raises:
        ConfigurationError: The connection says something that can't be honoured.
    """
    from include.chimera.sources.postgres.sessions import LibpqUri  # noqa: PLC0415 - heavy

    if connection.conn_type not in {"postgres", "postgresql"}:
        _refuse(connection, "the type postgres", f"the type {connection.conn_type}", "correct it")
    parts: dict[str, object] = {
        "user": connection.login,
        "password": connection.password,
        "host": connection.host,
        "port": connection.port,
        "dbname": connection.schema,
    }
    parameters = {name: str(value) for name, value in parts.items() if value}
    parameters["connect_timeout"] = str(_CONNECT_SECONDS)
    for name, value in _extra(connection).items():
        if name not in _LIBPQ.split():
            why = _NO_EXTRA.get(name, f"these can be set: {', '.join(_LIBPQ.split())}")
            _refuse(connection, "extras that libpq knows", f"`{name}`", f"take it out; {why}")
        if isinstance(value, bool) or not isinstance(value, (str, int)):
            _refuse(connection, f"`{name}` as text or number", type(value).__name__, "correct it")
        parameters[name] = str(value)
    # libpq does not read + as a space.
    return LibpqUri(f"postgresql:///?{urlencode(parameters, quote_via=quote, safe='')}")


def prometheus_server(connection: Connection) -> PrometheusServer:
    """Return the address and the credentials of an HTTP connection, as Airflow's HttpHook reads it.

    The host may be a whole URL with a path; the field `schema` is `http`, `https` or the path. A
    login and password are basic authentication, a password without a login is a bearer token. Of
    the extra, `verify` is false or a CA file, `cert` a client's certificate (a file, or a list of
    certificate and key), `headers` more headers; a name with a hyphen, and `Authorization`, is a
    header too.

    Raises:
        ConfigurationError: The connection says something that can't be honoured.
    """
    from include.chimera.sources.prometheus.prometheus_api import (  # noqa: PLC0415 - heavy
        PrometheusServer,
    )

    headers: dict[str, str] = {}
    verify: bool | str = True
    cert: tuple[str, ...] = ()
    for name, value in _extra(connection).items():
        if name in {"verify", "verify_ssl"}:
            verify = _verify(connection, value)
        elif name == "cert":
            cert = tuple([value] if isinstance(value, str) else value or ())
        elif name == "headers" and isinstance(value, dict):
            headers |= _headers(connection, value)
        elif "-" in name or name.lower() == "authorization":
            headers |= _headers(connection, {name: value})
        else:
            remedy = "take it out; verify, cert and headers can be set, proxies by https_proxy"
            _refuse(connection, "extras that are honoured", f"`{name}`", remedy)
    if connection.password and not connection.login:
        bearer = {"Authorization": f"Bearer {connection.password}"}
        headers |= _headers(connection, bearer)
    elif connection.login and "authorization" in map(str.lower, headers):
        came = "a login and a header Authorization"
        _refuse(connection, "one way to log in", came, "take one of them out")
    login = (connection.login, connection.password or "") if connection.login else None
    return PrometheusServer(_base_url(connection), headers, login, verify, cert)


def spark_remote() -> str:
    """Return the address of the Spark server: the setting's, or the connection `spark`'s.

    The connection's password is a bearer token; of the extra, `use_ssl` is true or false.

    Raises:
        ConfigurationError: There is neither, or the connection says something that can't be
            honoured.
    """
    if address := get_settings().spark_remote:
        return address
    from airflow.sdk import BaseHook  # noqa: PLC0415 - heavy
    from airflow.sdk.exceptions import AirflowNotFoundException  # noqa: PLC0415 - as above

    try:
        connection = BaseHook.get_connection(SPARK)
    except AirflowNotFoundException:
        raise ConfigurationError(
            expected="the address of a Spark Connect server, as CHIMERA_ENGINE=spark asks for",
            came="none",
            where=f"CHIMERA_SPARK_REMOTE, Airflow connection {SPARK}",
            remedy="set one of them, or CHIMERA_ENGINE=duckdb",
        ) from None
    extra = _extra(connection)
    if unknown := set(extra) - {"use_ssl"}:
        _refuse(connection, "of the extra only use_ssl", ", ".join(unknown), "take it out")
    host = (connection.host or "").removeprefix("sc://")
    if not host or "/" in host:
        _refuse(connection, "a host's name", "none, or one with a path", "correct the host")
    parameters = {
        "use_ssl": "true" if str(extra.get("use_ssl", "")).lower() == "true" else "",
        "token": quote(connection.password or "", safe=""),
    }
    given = "".join(f";{name}={value}" for name, value in parameters.items() if value)
    return f"sc://{host}:{connection.port or 15002}/{given}"


def connection_of(source: str) -> str:
    """Return the id of a source's connection; "" if it needs none."""
    settings = get_settings()
    if source not in FILES:
        return source
    is_remote = "://" in settings.source_roots[source]
    return (settings.logs_connection or settings.store_connection) if is_remote else ""


def own_connection(source: str) -> Connection | None:
    """Look up the connection that a source needs; None: it needs none.

    Raises:
        AirflowNotFoundException: It does not exist.
    """
    from airflow.sdk import BaseHook  # noqa: PLC0415 - heavy

    name = connection_of(source)
    return BaseHook.get_connection(name) if name else None


def api_logs_root(connection: Connection | None) -> LogRoot:
    """Return the root of the API's logs.

    Args:
        connection: The object store's, which the provider's hook turns into a client; None: a local
            folder, or the store of the `AWS_…` variables.

    Raises:
        ConfigurationError: The setting is another URL, or the connection of another type.
    """
    from include.chimera.sources.api_logs.log_files import log_root  # noqa: PLC0415 - heavy

    client = _s3_client(connection) if connection else None
    return log_root(get_settings().api_logs, client)


def reports_root(connection: Connection | None) -> SourceRoot:
    """Return the root of the evaluation reports, for a connection as in `api_logs_root`.

    Raises:
        ConfigurationError: As `api_logs_root`.
    """
    from include.chimera.sources.reports.extract import PURPOSE  # noqa: PLC0415 - heavy

    return _stored_root(REPORTS, PURPOSE, connection)


def spans_root(connection: Connection | None) -> SourceRoot:
    """Return the root of the Collector's spans, for a connection as in `api_logs_root`.

    Raises:
        ConfigurationError: As `api_logs_root`.
    """
    from include.chimera.sources.otel.extract import PURPOSE  # noqa: PLC0415 - heavy

    return _stored_root(OTEL, PURPOSE, connection)


def records_root(connection: Connection | None) -> SourceRoot:
    """Return the root of the JSON records, for a connection as in `api_logs_root`.

    Raises:
        ConfigurationError: As `api_logs_root`.
    """
    from include.chimera.sources.json_records.extract import PURPOSE  # noqa: PLC0415 - heavy

    return _stored_root(JSON, PURPOSE, connection)


def _stored_root(source: str, purpose: Purpose, connection: Connection | None) -> SourceRoot:
    from include.chimera.sources.stored.stored_roots import stored_root  # noqa: PLC0415 - heavy

    client = _s3_client(connection) if connection else None
    return stored_root(get_settings().source_roots[source], purpose, client)


def _s3_client(connection: Connection) -> Any:  # noqa: ANN401 - boto3 has no types
    from airflow.providers.amazon.aws.hooks.base_aws import (  # noqa: PLC0415 - heavy
        AwsGenericHook,
    )
    from airflow.providers.amazon.aws.utils.connection_wrapper import (  # noqa: PLC0415 - heavy
        AwsConnectionWrapper,
    )
    from botocore.config import Config  # type: ignore[import-untyped]  # noqa: PLC0415 - heavy

    if connection.conn_type != "aws":
        _refuse(connection, "the type aws", f"the type {connection.conn_type}", "correct it")
    hook: AwsGenericHook[Any] = AwsGenericHook(aws_conn_id=connection.conn_id, client_type="s3")
    hook.conn_config = AwsConnectionWrapper(conn=connection)  # a triggerer can't look it up here
    config = hook.config
    if hook.conn_config.get_service_endpoint_url("s3") and not config.s3:
        config = config.merge(Config(s3={"addressing_style": "path"}))
    if get_settings().logs_connection:  # the variable AWS_ENDPOINT_URL leads to the lake's store
        config = config.merge(Config(ignore_configured_endpoint_urls=True))
    return hook.get_client_type(config=config)


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
    from airflow.sdk import BaseHook  # noqa: PLC0415 - as above

    BaseHook.get_connection(name)  # the hook itself goes on without one that does not exist
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


def _base_url(connection: Connection) -> str:
    host, schema = connection.host or "localhost", connection.schema or ""
    if "://" not in host:
        is_scheme = schema in {"http", "https"}
        host = f"{schema if is_scheme else connection.conn_type}://{host}"
        schema = "" if is_scheme else schema
    url = urlsplit(host)
    try:
        port = url.port
    except ValueError:
        port = -1
    faults = {
        "another scheme than http and https": url.scheme not in {"http", "https"},
        "a login in the host": "@" in url.netloc,
        "a query or fragment": bool(url.query or url.fragment),
        "no host, or a port that is none": not url.hostname or port == -1,
        "two ports": bool(port and connection.port and port != connection.port),
        "two schemes": schema in {"http", "https"} and schema != url.scheme,
    }
    for fault, is_there in faults.items():
        if is_there:
            _refuse(connection, "host, port and path of a Prometheus API", fault, "correct it")
    if connection.port and not port:
        url = url._replace(netloc=f"{url.netloc}:{connection.port}")
    path = "" if schema in {"http", "https"} else f"/{schema.strip('/')}"
    return f"{url.geturl().rstrip('/')}{path}".rstrip("/")


def _verify(connection: Connection, value: object) -> bool | str:
    known = {"true": True, "false": False, "": True}  # a connection's URI has text alone
    if isinstance(value, bool):
        return value
    if not isinstance(value, str):
        _refuse(
            connection, "`verify` as true, false or a CA file", type(value).__name__, "correct it"
        )
    return known.get(value.lower(), value)


def _headers(connection: Connection, found: Mapping[str, object]) -> dict[str, str]:
    """Check headers before the HTTP client, whose error would show their values."""
    for name, value in found.items():
        is_sound = isinstance(value, str) and _PRINTABLE.fullmatch(value)
        if not _TOKEN.fullmatch(name) or name.lower() in _OWN_HEADERS or not is_sound:
            remedy = "correct the name or the value: printable ASCII, no line end"
            _refuse(connection, "headers that can be sent", f"`{name}`", remedy)
    return {name: str(value) for name, value in found.items()}


def _extra(connection: Connection) -> dict[str, Any]:
    """Parse the extra; Airflow's own parser reads a broken one as empty."""
    try:
        extra = json.loads(connection.extra or "{}")
    except ValueError:
        extra = None
    if not isinstance(extra, dict):
        _refuse(connection, "an extra that is a JSON object", "another text", "correct the extra")
    return {name: value for name, value in extra.items() if value is not None}


def _refuse(connection: Connection, expected: str, came: str, remedy: str) -> NoReturn:
    where = f"Airflow connection {connection.conn_id}"
    raise ConfigurationError(expected=expected, came=came, where=where, remedy=remedy)
