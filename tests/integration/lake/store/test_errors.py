"""What a dbt developer reads when the lake can't do what was asked."""

from __future__ import annotations

import importlib
import logging
from pathlib import Path

import duckdb
import pytest
from dbt_common.exceptions import CompilationError, DbtRuntimeError

from include.chimera.errors import ConfigurationError, ContractError
from include.chimera.lake.dbt_plugin.plugin import _reported
from include.chimera.lake.dbt_plugin.views import View
from include.chimera.lake.delta.tables import open_table
from include.chimera.lake.store import storage
from include.chimera.lake.store.duckdb_sessions import load_extension
from include.chimera.relation import Relation

pytestmark = pytest.mark.integration

FOOTER = 512  # bytes at an extension's end: metadata and signature


def test_lake_that_is_no_folder_is_told_in_four_parts(process, lake):
    one = process()
    lake.write_text("a file where the lake's folder should be")
    message = r"Expected .* came .* Where: dev.model.* Next: "
    with pytest.raises(DbtRuntimeError, match=message), _reported("dev.model"):
        one.build("select 1 as id")


def test_contract_faults_are_compilation_errors_to_dbt():
    fault = ContractError(expected="one thing", came="another", where="here", remedy="that")
    message = "Expected one thing; came another"
    with pytest.raises(CompilationError, match=message), _reported("dev.model"):
        raise fault


def test_extension_for_another_duckdb_is_told_in_four_parts(monkeypatch, tmp_path):
    """The extension is the real one, but says that it was built for an older DuckDB."""
    module = importlib.import_module("duckdb_extension_delta")
    (binary,) = Path(module.__file__).parent.glob("extensions/*/delta.duckdb_extension")
    content, footer = binary.read_bytes()[:-FOOTER], binary.read_bytes()[-FOOTER:]
    version = f"v{duckdb.__version__}".encode()
    assert version in footer
    folder = tmp_path / "extensions" / "v0.0.1"
    folder.mkdir(parents=True)
    older = footer.replace(version, b"v1.0.0")
    (folder / "delta.duckdb_extension").write_bytes(content + older)
    monkeypatch.setattr(module, "__file__", str(tmp_path / "__init__.py"))
    message = (
        rf"Expected .* delta for DuckDB {duckdb.__version__}; came .*'v1\.0\.0' and can only .*"
        r"Where: Python package duckdb_extension_delta\. Next: install"
    )
    with duckdb.connect() as connection, pytest.raises(ConfigurationError, match=message):
        load_extension(connection, "delta")


@pytest.mark.parametrize(("strategy", "how"), [("append", {}), ("merge", {"keys": ("id",)})])
@pytest.mark.parametrize(
    ("rows", "mode", "came"),
    [
        ("select 2 as id, 'b' as v, 3 as more", "fail", "new: more"),
        ("select 2 as id", "ignore", "missing: v"),
        ("select 'two' as id, 'b' as v", "ignore", r"1 values of id \(VARCHAR -> INTEGER\)"),
    ],
)
def test_other_columns_are_told_in_four_parts_and_leave_the_last_version(  # noqa: PLR0913, PLR0917
    process, lake, strategy, how, rows, mode, came
):
    one = process()
    one.build("select 1 as id, 'a' as v")
    version, files = open_table("dev.model").version(), set((lake / "dev" / "model").iterdir())
    message = rf"Expected .*came.*{came}.*Where: model dev.model.*Next: "
    with pytest.raises(CompilationError, match=message), _reported("dev.model"):
        one.build(rows, strategy, how=how, on_schema_change=mode)
    assert (open_table("dev.model").version(), process().rows()) == (version, [(1, "a")])
    assert set((lake / "dev" / "model").iterdir()) == files


def test_other_stores_are_refused_with_the_setting_to_change():
    with pytest.raises(ConfigurationError, match="CHIMERA_LAKE_ROOT"):
        storage.folders("gs://bucket/lake")


def test_view_whose_table_is_gone_stops_nothing_else(process, caplog):
    one = process()
    one.build("select 1 as id")
    one.build("select 2 as id", table="dev.other")
    one.session.save_view(Relation("dev", "seen"), View("select * from dev.model"))
    one.session.drop(Relation("dev", "model"))
    with caplog.at_level(logging.WARNING):
        assert process().rows("from dev.other") == [(2,)]
        with pytest.raises(duckdb.CatalogException):
            process().rows("from dev.seen")
    assert "view dev.seen can't be shown" in caplog.text


def test_views_over_views_are_shown_whatever_their_order(process):
    one = process()
    one.build("select 1 as id")
    one.session.save_view(Relation("dev", "zz"), View("select id + 1 as id from dev.model"))
    one.session.save_view(
        Relation("dev", "aa"), View("select id + 1 as id from dev.zz", "two more")
    )
    assert process().rows("from dev.aa") == [(3,)]
