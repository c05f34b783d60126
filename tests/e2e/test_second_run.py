"""The same hour once more; the last of this state folder's tests, for it adds logs and files."""

from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

from include.chimera.lake.store.duckdb_sessions import prepare
from tests.e2e.conftest import CommandResult

pytestmark = [pytest.mark.e2e, pytest.mark.long]

OPERATIONAL = {"ops.window_ledger", "ops.quality_results", "ops.published_versions"}


def rows_of(lake: Path) -> dict[str, tuple[int, int]]:
    """Return each table's row count and an order-free checksum of its rows."""
    with duckdb.connect() as connection:
        prepare(connection)
        found = {}
        for log in sorted(lake.glob("[!_]*/*/_delta_log")):
            name = f"{log.parent.parent.name}.{log.parent.name}"
            found[name] = connection.execute(
                f"select count(*), sum(cast(hash(t) as hugeint)) from delta_scan('{log.parent}') t"
            ).fetchone()
    return found


@pytest.fixture(scope="session")
def rows_before(generated_hour: CommandResult) -> Iterator[dict[str, tuple[int, int]]]:
    """Return what the first run left, read before the second starts."""
    return rows_of(generated_hour.lake)


def test_second_run_changes_no_row(
    rows_before: dict[str, tuple[int, int]], repeated_hour: CommandResult
) -> None:
    """The hours are anchored: running again reads the same and changes nothing."""
    after = rows_of(repeated_hour.lake)
    assert set(after) == set(rows_before)
    changed = {name for name, rows in after.items() if rows != rows_before[name]}
    assert changed == OPERATIONAL
    (hour,) = repeated_hour.hours
    published = {table["table"]: table["rows_published"] for table in hour["pipeline"]["tables"]}
    assert published == dict.fromkeys(published, 0), "rows that were rewritten are not new"
