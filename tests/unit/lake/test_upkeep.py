"""Upkeep changes files, never rows."""

import pytest
from deltalake.exceptions import CommitFailedError
from duckdb import DuckDBPyConnection

from include.chimera.lake.relations import scan
from include.chimera.lake.tables import open_table
from include.chimera.lake.upkeep import optimize_layer
from tests.builders import generations, publish, run_of

TABLE = "bronze.generations"


@pytest.fixture
def many_files(connection: DuckDBPyConnection) -> None:
    """Make a partition of ten small files."""
    for number in range(10):
        publish(connection, run_of(), TABLE, generations(3, status=f"'{number}'"))


def content(connection: DuckDBPyConnection) -> list[tuple]:
    """Return the row count and an order-free checksum."""
    rows = scan(open_table(TABLE), TABLE)
    return connection.execute(
        f"select count(*), sum(cast(hash(t) as hugeint)) from ({rows}) as t"
    ).fetchall()


@pytest.mark.usefixtures("many_files")
def test_compaction_keeps_every_row(connection: DuckDBPyConnection) -> None:
    """Ten files become one."""
    before = content(connection)
    (upkeep,) = optimize_layer("bronze")
    assert (upkeep.files_before, upkeep.files_after) == (10, 1)
    assert content(connection) == before
    assert optimize_layer("bronze") == []


@pytest.mark.usefixtures("many_files")
def test_overlapping_compactions_conflict() -> None:
    """The canary of the deltalake pin: 1.6.4 to 1.6.6 let both succeed and double every row."""
    one, two = open_table(TABLE), open_table(TABLE)
    one.optimize.compact()
    with pytest.raises(CommitFailedError):
        two.optimize.compact()
