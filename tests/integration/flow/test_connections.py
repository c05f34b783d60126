"""What an Airflow connection says reaches the real server, or is refused by its name."""

import json
import shutil
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer

import httpx
import pytest
from airflow.sdk import Connection

from include.chimera.errors import ConfigurationError, SourceUnavailableError
from include.chimera.flow import connections
from include.chimera.flow.connections import libpq_uri, prometheus_server
from include.chimera.local.servers.ports import choose_port
from include.chimera.sources.postgres.sessions import APPLICATION, clock, snapshot
from include.chimera.sources.prometheus.extract import reach
from tests.integration.certificates import Authority
from tests.integration.ingest.servers import PostgresServer, needs_tls, tls_programs
from tests.integration.prometheus import HASHED, PASSWORD, needs_prometheus, serve
from tests.serving import served

pytestmark = pytest.mark.integration

TOKEN = "t0ken"  # noqa: S105 # pragma: allowlist secret - of a test
ANSWER = b'{"status":"success","data":{"resultType":"vector","result":[]}}'


def connection(conn_id="app_db", **fields):
    """Return a connection as Airflow reads it from JSON."""
    fields = {"extra": json.dumps(fields.pop("extra", {})), **fields}
    return Connection(conn_id=conn_id, **fields)


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def database(authority):
    """Return a port at which PostgreSQL asks for TLS and a password, or for a certificate."""
    server, port = PostgresServer(tls_programs()), choose_port(0)
    try:
        files = {
            name: server.keep(file)
            for name, file in zip(
                ("ssl_cert_file", "ssl_key_file", "ssl_ca_file"),
                (*authority.sign("server", "localhost"), authority.file),
                strict=True,
            )
        }
        server.admit(
            "hostssl all with_card 127.0.0.1/32 cert", "hostssl all all 127.0.0.1/32 scram-sha-256"
        )
        server.start(listen_addresses="127.0.0.1", port=str(port), ssl="on", **files)
        secret = PASSWORD.replace("'", "''")
        server.execute(
            f"create role reader login password '{secret}'", "create role with_card login"
        )
        yield port
    finally:
        server.remove()


@pytest.fixture(scope="module")
def files(authority, tmp_path_factory):
    """Return the file of the CA that signed the server's certificate, and of another CA."""
    return {
        "own": authority.file,
        "other": Authority(tmp_path_factory.mktemp("other"), "other").file,
    }


def to(port, extra, **fields):
    """Return a connection to the database whose certificate is asked to be the host's."""
    given = {"login": "reader", "password": PASSWORD, "schema": "postgres", **fields}
    extra = {"sslmode": "verify-full", **extra}
    return connection(conn_type="postgres", host="localhost", port=port, extra=extra, **given)


@needs_tls
def test_a_checked_certificate_and_a_password_let_in(database, authority) -> None:
    extra = {"sslrootcert": str(authority.file), "channel_binding": "require", "keepalives": 1}
    uri = libpq_uri(to(database, extra))
    assert abs(clock(uri) - datetime.now(UTC)) < timedelta(seconds=60)
    assert PASSWORD not in f"{uri!r}"
    assert "p%20w" not in f"{[uri]}"


@needs_tls
def test_options_reach_the_session_and_leave_it_its_name(database, authority) -> None:
    options = "-c search_path=nowhere -c application_name=other"
    uri = libpq_uri(to(database, {"sslrootcert": str(authority.file), "options": options}))
    asked = "select current_setting('search_path'), current_setting('application_name')"
    with snapshot(uri) as source:
        source.cursor.execute(asked)
        assert source.cursor.fetchall() == [("nowhere", APPLICATION)]


@needs_tls
def test_a_certificate_logs_in(database, authority) -> None:
    card, key = map(str, authority.sign("with_card"))
    extra = {"sslrootcert": str(authority.file), "sslcert": card, "sslkey": key}
    assert clock(libpq_uri(to(database, extra, login="with_card", password=None)))


@needs_tls
@pytest.mark.parametrize(
    ("extra", "fields", "came"),
    [
        ({"sslrootcert": "other"}, {}, "certificate verify failed"),
        ({"sslrootcert": "/nowhere/ca.pem"}, {}, 'root certificate file "/nowhere/ca.pem"'),
        ({"sslmode": "verified"}, {}, 'invalid sslmode value: "verified"'),
        ({"sslmode": "disable"}, {}, "no pg_hba.conf entry"),
        ({"connect_timeout": "soon"}, {}, "connect_timeout"),
        ({"sslrootcert": "own", "options": "-c nonsense=1"}, {}, "unrecognized configuration"),
        ({"sslrootcert": "own"}, {"password": TOKEN}, "password authentication failed"),
        ({"sslrootcert": "own"}, {"password": None}, "no password supplied"),
        ({"sslrootcert": "own"}, {"login": "nobody"}, "password authentication failed"),
        ({"sslrootcert": "own"}, {"schema": "lost"}, 'database "lost" does not exist'),
    ],
)
def test_a_refusal_is_told_in_libpqs_words_and_not_retried(
    database, files, extra, fields, came
) -> None:
    if extra.get("sslrootcert") in files:
        extra = {**extra, "sslrootcert": str(files[extra["sslrootcert"]])}
    with pytest.raises(ConfigurationError) as refused:
        clock(libpq_uri(to(database, extra, **fields)))
    assert came in refused.value.came
    assert "p w+d" not in str(refused.value)


@needs_tls
def test_another_hosts_certificate_is_refused(database, authority) -> None:
    """It names localhost and no address."""
    extra = {"sslrootcert": str(authority.file)}
    wrong = to(database, extra)
    wrong.host = "127.0.0.1"
    with pytest.raises(ConfigurationError, match="server certificate for"):
        clock(libpq_uri(wrong))


def test_a_server_that_is_away_is_retried() -> None:
    away = connection(conn_type="postgres", host="127.0.0.1", port=choose_port(0), login="a")
    with pytest.raises(SourceUnavailableError, match="Connection refused"):
        clock(libpq_uri(away))


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"extra": {"application_name": "x"}}, "`application_name`"),
        ({"extra": {"sslmod": "require"}}, "`sslmod`"),
        ({"extra": {"iam": True}}, "`iam`"),
        ({"extra": {"keepalives": True}}, "bool"),
        ({"extra": ["sslmode"]}, "JSON object"),
        ({"conn_type": "mysql"}, "the type mysql"),
    ],
)
def test_what_postgresql_can_not_honour_is_named(fields, named) -> None:
    with pytest.raises(ConfigurationError, match=named):
        libpq_uri(connection(**{"conn_type": "postgres", "host": "db", **fields}))


def test_a_broken_extra_is_no_empty_one() -> None:
    broken = Connection(conn_id="app_db", conn_type="postgres", extra='{"sslmode": "verify-full"')
    with pytest.raises(ConfigurationError, match="a JSON object"):
        libpq_uri(broken)


def test_libpq_knows_each_extra_that_is_honoured() -> None:
    """It names a parameter that it does not know before it connects."""
    for name in connections._LIBPQ.split():
        uri = f"postgresql:///?host=/nowhere&{name}=x"
        with pytest.raises((ConfigurationError, SourceUnavailableError)) as failed:
            clock(uri)
        assert "URI query parameter" not in failed.value.came, name


@pytest.fixture
def seen():
    """Return a list of the paths and headers that a server at `seen.url` was asked with."""

    class Seen(list):
        url = ""

    found = Seen()

    class Peer(BaseHTTPRequestHandler):
        def do_GET(self):
            found.append((self.path, self.headers))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(ANSWER)

        def log_message(self, *_):
            pass

    with served(HTTPServer(("127.0.0.1", 0), Peer)) as found.url:
        yield found


def test_tokens_tenants_and_paths_reach_the_server(seen) -> None:
    host, port = seen.url.rsplit(":", 1)
    extra = {"X-Scope-OrgID": "research", "headers": {"X-Reader": "chimera"}}
    given = {"conn_type": "http", "host": f"{host}/prometheus/", "port": int(port)}
    server = prometheus_server(connection("prometheus", password=TOKEN, extra=extra, **given))
    assert reach(server) is None
    ((path, headers),) = seen
    assert path.startswith("/prometheus/api/v1/query?")
    found = {name: headers[name] for name in ("Authorization", "X-Scope-OrgID", "X-Reader")}
    wanted = {
        "Authorization": "Bearer " + TOKEN,
        "X-Scope-OrgID": "research",
        "X-Reader": "chimera",
    }
    assert found == wanted
    assert TOKEN not in repr(server)


@pytest.mark.parametrize(
    ("uri", "url"),
    [
        ("http://h:9090", "http://h:9090"),
        ("https://h/prometheus", "https://h/prometheus"),
        ("https://h/a%2Fb", "https://h/a/b"),
        ("http://h:1/https", "https://h:1"),
        ("http://https%3A%2F%2Fh%3A8443%2Fprometheus", "https://h:8443/prometheus"),
    ],
)
def test_each_way_to_write_an_address(uri, url) -> None:
    assert prometheus_server(Connection(conn_id="prometheus", uri=uri)).url == url


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"extra": {"timeout": 5}}, "`timeout`"),
        ({"extra": {"verfy": "/ca.pem"}}, "`verfy`"),
        ({"extra": {"verify": 1}}, "int"),
        ({"extra": {"X-Tenant": "a\r\nX-Other: b"}}, "`X-Tenant`"),
        ({"extra": {"X-Tenant": 5}}, "`X-Tenant`"),
        ({"extra": {"Accept-Encoding": "br"}}, "`Accept-Encoding`"),
        ({"password": f"{TOKEN}\n"}, "`Authorization`"),
        ({"login": "a", "extra": {"Authorization": "Bearer b"}}, "a login and a header"),
        ({"host": "https://a:b@h"}, "a login in the host"),
        ({"host": "https://h?x=1"}, "a query or fragment"),
        ({"host": "https://h:1", "port": 2}, "two ports"),
        ({"host": "https://h", "schema": "http"}, "two schemes"),
        ({"host": "ftp://h"}, "another scheme"),
        ({"conn_type": "prometheus"}, "another scheme"),
        ({"host": "https://h:port"}, "a port that is none"),
    ],
)
def test_what_prometheus_can_not_honour_is_named(fields, named) -> None:
    given = {"conn_type": "http", "host": "h", **fields}
    with pytest.raises(ConfigurationError, match=named) as refused:
        prometheus_server(connection("prometheus", **given))
    assert "Bearer b" not in str(refused.value)


@pytest.fixture(scope="module")
def guarded(authority, tmp_path_factory):
    """Return the port of a Prometheus with TLS, a client's certificate and a login."""
    folder, port = tmp_path_factory.mktemp("prometheus"), choose_port(0)
    for name, file in zip(("pem", "key"), authority.sign("guarded", "127.0.0.1"), strict=True):
        shutil.copy(file, folder / f"server.{name}")
    web = {
        "tls_server_config": {
            "cert_file": "server.pem",
            "key_file": "server.key",
            "client_auth_type": "RequireAndVerifyClientCert",
            "client_ca_file": str(authority.file),
        },
        "basic_auth_users": {"reader": HASHED},
    }
    (folder / "web.yml").write_text(json.dumps(web))
    (folder / "prometheus.yml").write_text("{}")
    context = httpx.create_ssl_context()
    context.load_verify_locations(authority.file)
    context.load_cert_chain(*authority.sign("asker"))
    url, login = f"https://127.0.0.1:{port}", ("reader", PASSWORD)
    client = httpx.Client(base_url=url, auth=login, verify=context)
    with serve(folder, port, f"--web.config.file={folder / 'web.yml'}", client=client):
        yield port


def guarded_by(port, authority, **changes):
    """Return a connection to the guarded Prometheus, as it should be but for the changes."""
    card = [str(file) for file in authority.sign("asker")]
    extra = {"verify": str(authority.file), "cert": card, **changes.pop("extra", {})}
    fields = {"conn_type": "http", "schema": "https", "host": "127.0.0.1", "port": port}
    fields |= {"login": "reader", "password": PASSWORD, **changes}
    return prometheus_server(connection("prometheus", extra=extra, **fields))


@needs_prometheus
def test_a_guarded_prometheus_lets_in(guarded, authority) -> None:
    assert reach(guarded_by(guarded, authority)) is None
    assert reach(guarded_by(guarded, authority, extra={"verify": False})) is None


@needs_prometheus
@pytest.mark.parametrize(
    ("changes", "came"),
    [
        ({"password": TOKEN}, "status 401"),
        ({"extra": {"verify": True}}, "CERTIFICATE_VERIFY_FAILED: unable to get local issuer"),
        ({"extra": {"verify": "/nowhere/ca.pem"}}, "FileNotFoundError"),
        ({"extra": {"cert": "/nowhere/card.pem"}}, "FileNotFoundError"),
        ({"extra": {"cert": None}}, "CERT"),
        ({"host": "localhost"}, "Hostname mismatch"),
    ],
)
def test_a_guarded_prometheus_says_why_not(guarded, authority, changes, came) -> None:
    with pytest.raises(ConfigurationError) as refused:
        reach(guarded_by(guarded, authority, **changes))
    assert came in refused.value.came
    assert PASSWORD not in str(refused.value)


def test_a_server_without_tls_is_named_at_once(seen) -> None:
    server = prometheus_server(Connection(conn_id="p", uri=seen.url.replace("http:", "https:")))
    with pytest.raises(ConfigurationError, match="WRONG_VERSION_NUMBER"):
        reach(server)
