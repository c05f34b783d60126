"""Only signed extensions are loaded, whichever session of a process loads them."""

import re
import shutil
from http.server import BaseHTTPRequestHandler, HTTPServer

import duckdb
import pytest

from include.chimera.errors import ConfigurationError
from include.chimera.lake.store import duckdb_sessions
from include.chimera.lake.store.duckdb_sessions import (
    _extension,
    connect,
    lake_config,
    load_extension,
    prepare,
)
from include.chimera.paths import INCLUDE
from tests.serving import served


def test_no_session_allows_unsigned_extensions():
    """The second one loads what the first has checked, and is as strict as that afterwards."""
    for _ in range(2):
        with connect() as connection:
            found = connection.execute("select current_setting('allow_unsigned_extensions')")
            assert found.fetchone() == (False,)
            with pytest.raises(duckdb.InvalidInputException, match="while database is running"):
                connection.execute("set allow_unsigned_extensions = true")


def test_a_changed_extension_is_refused(tmp_path, monkeypatch):
    """It is in a wheel of its own name, one byte different from the signed one."""
    original = _extension("httpfs")
    folder = tmp_path / "duckdb_extension_changed" / "extensions" / "any"
    folder.mkdir(parents=True)
    (tmp_path / "duckdb_extension_changed" / "__init__.py").touch()
    changed = folder / "changed.duckdb_extension"
    shutil.copy(original, changed)
    with changed.open("r+b") as file:
        file.seek(4096)
        byte = file.read(1)
        file.seek(4096)
        file.write(bytes([byte[0] ^ 1]))
    monkeypatch.syspath_prepend(tmp_path)
    with duckdb.connect() as connection, pytest.raises(ConfigurationError) as refused:
        load_extension(connection, "changed")
    assert "signature" in str(refused.value.__cause__)


def _plain():
    return duckdb.connect()


def _of_dbt():
    connection = duckdb.connect(config=dict(lake_config()))
    prepare(connection)
    return connection


def _of_gx():
    connect("gate.duckdb").close()
    return connect("gate.duckdb", has_delta=False, is_read_only=True)


@pytest.mark.parametrize("opened", [_plain, connect, _of_dbt, _of_gx])
def test_no_session_of_ours_downloads_an_extension(opened, tmp_path, monkeypatch):
    """A statement that needs one fails; a plain session of DuckDB asks a server for it."""
    asked = []

    class Repository(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_error(404)

        def log_message(self, *_):
            pass

    monkeypatch.chdir(tmp_path)
    with served(HTTPServer(("127.0.0.1", 0), Repository)) as url, opened() as connection:
        connection.execute(f"set extension_directory = '{tmp_path}'")
        connection.execute(f"set custom_extension_repository = '{url}'")
        for statement in (
            "from read_csv('s3://no-such-bucket/file.csv')",
            "from 'file.xlsx'",
            "attach 'host=127.0.0.1' as app (type postgres)",
        ):
            with pytest.raises(duckdb.Error):
                connection.execute(statement)
    assert bool(asked) is (opened is _plain)


def test_each_session_of_the_package_comes_from_one_place():
    """GX' included: its dialect calls `connect`, not duckdb-engine's own."""
    opens = re.compile(
        r"duckdb\.(connect|sql|query|execute|default_connection)\(|super\(\)\.connect"
    )
    found = {path for path in (INCLUDE / "chimera").rglob("*.py") if opens.search(path.read_text())}
    assert [str(path) for path in found] == [duckdb_sessions.__file__]
