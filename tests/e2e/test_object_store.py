"""One generated hour whose lake is in an object store, by configuration alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.e2e.conftest import run_command

if TYPE_CHECKING:
    from pathlib import Path

    from tests.integration.object_store import Store

pytestmark = [pytest.mark.e2e, pytest.mark.long]


def test_an_hour_on_an_object_store_ends_as_one_on_a_disk(
    tmp_path: Path, object_store: Store
) -> None:
    """All gates pass, each row is accounted for, and what people read is in the store."""
    lake = object_store.new_lake()
    result = run_command(tmp_path / "state", hours=1, **lake)
    assert result.code == 0, result.output
    (hour,) = result.hours
    gates = {gate["table"]: gate["verdict"] for gate in hour["pipeline"]["gates"]}
    tables = {table["table"]: table for table in hour["pipeline"]["tables"]}
    assert set(gates.values()) <= {"passed", "warned"}
    assert set(tables) == set(gates)
    for table in tables.values():
        parts = ("rows_published", "rows_refused", "rows_duplicate")
        assert table["rows_read"] == sum(table[part] for part in parts), table["table"]
        assert table["rows_total"]
    files, root = object_store.files(), lake["CHIMERA_LAKE_ROOT"].removeprefix("s3://")
    for name in (
        "_reports/insight.html",
        "_reports/quality.html",
        "views.sql",
    ):
        assert files.get_file_info(f"{root}/{name}").size, name
    state = tmp_path / "state"
    assert not (state / "lake").exists()
    assert not (state / "reports" / "quality.html").exists()
