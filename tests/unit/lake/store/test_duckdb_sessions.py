"""Only signed extensions are loaded, whichever session of a process loads them."""

import shutil

import duckdb
import pytest

from include.chimera.errors import ConfigurationError
from include.chimera.lake.store.duckdb_sessions import _extension, connect, load_extension


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
