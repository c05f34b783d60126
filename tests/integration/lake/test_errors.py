"""What a dbt developer reads when the lake can't do what was asked."""

from __future__ import annotations

import importlib
import logging

import duckdb
import pytest
from dbt_common.exceptions import CompilationError, DbtRuntimeError

from include.chimera.errors import ConfigurationError, ContractError
from include.chimera.lake import storage
from include.chimera.lake.engine import load_extension
from include.chimera.lake.plugin import _reported
from include.chimera.lake.views import View

pytestmark = pytest.mark.integration


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
    module = importlib.import_module("duckdb_extension_delta")
    folder = tmp_path / "extensions" / "v0.0.1"
    folder.mkdir(parents=True)
    (folder / "delta.duckdb_extension").write_bytes(b"not for this DuckDB")
    monkeypatch.setattr(module, "__file__", str(tmp_path / "__init__.py"))
    with duckdb.connect() as connection, pytest.raises(ConfigurationError, match="Next: install"):
        load_extension(connection, "delta")


def test_other_stores_are_refused_with_the_setting_to_change():
    with pytest.raises(ConfigurationError, match="CHIMERA_LAKE_ROOT"):
        storage.folders("gs://bucket/lake")


def test_view_whose_table_is_gone_stops_nothing_else(process, caplog):
    one = process()
    one.build("select 1 as id")
    one.build("select 2 as id", table="dev.other")
    one.session.save_view("dev.seen", View("select * from dev.model"))
    one.session.drop("dev.model")
    with caplog.at_level(logging.WARNING):
        assert process().rows("from dev.other") == [(2,)]
        with pytest.raises(duckdb.CatalogException):
            process().rows("from dev.seen")
    assert "view dev.seen can't be shown" in caplog.text


def test_views_over_views_are_shown_whatever_their_order(process):
    one = process()
    one.build("select 1 as id")
    one.session.save_view("dev.zz", View("select id + 1 as id from dev.model"))
    one.session.save_view("dev.aa", View("select id + 1 as id from dev.zz", "two more"))
    assert process().rows("from dev.aa") == [(3,)]
