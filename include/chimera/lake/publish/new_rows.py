"""Count a commit's new rows: most rows that replace a partition were in it before."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import duckdb
import pyarrow as pa
from deltalake import Schema

from include.chimera.lake.delta.columns import same_columns
from include.chimera.lake.delta.partitions import Whole
from include.chimera.lake.delta.scans import read_files
from include.chimera.lake.delta.tables import open_table
from include.chimera.lake.store.duckdb_sessions import connect, identifier
from include.chimera.lake.store.places import folder_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from deltalake import DeltaTable

    from include.chimera.lake.staged.manifests import Build

logger = logging.getLogger(__name__)


def count_new(
    connection: duckdb.DuckDBPyConnection, rows: str, known: str, columns: Sequence[str]
) -> int:
    """Return how many rows are not among the known ones; repeated rows count each time.

    Args:
        connection: DuckDB session that sees both.
        rows: Query of the rows.
        known: Query of the known ones.
        columns: The columns to compare.
    """
    # Compare hashes, which take eight bytes of memory each.
    seen = f"select hash({', '.join(map(identifier, columns))}) from"
    query = f"select count(*) from ({seen} ({rows}) except all {seen} ({known}))"
    ((count,),) = connection.execute(query).fetchall()
    return int(count)


def rows_brought(build: Build, before: DeltaTable | None, version: int) -> int | None:
    """Return how many rows of a build's files are new or changed since an older version.

    Files that the commit left out count nothing.

    Args:
        build: The build.
        before: Its table before the commit; None: there was none.
        version: A version that holds the committed files.

    Returns:
        The count; None: the files can't be compared, which does not undo the commit.
    """
    after = open_table(build.table, version)
    committed = set(_paths(after, build)) if after else set()
    files = [file for file in build.files if file.path in committed]
    schema = Schema.from_json(build.schema)
    old = _paths(before, build) if before and same_columns(schema, before.schema()) else []
    if not old or not files:
        return sum(file.rows for file in files)
    arrow, folder = pa.schema(schema.to_arrow()), folder_of(build.table)
    new = read_files(folder, [file.path for file in files], arrow)
    try:
        with connect(has_delta=False) as connection:
            return count_new(connection, new, read_files(folder, old, arrow), arrow.names)
    except (duckdb.Error, OSError) as error:
        logger.warning("can't tell what is new in %s: %s", build.table, type(error).__name__)
        return None


def _paths(table: DeltaTable, build: Build) -> list[str]:
    """Return the table's files in the partitions that the build replaces."""
    actions = pa.table(table.get_add_actions(flatten=True))
    paths: list[str] = actions["path"].to_pylist()
    if isinstance(build.replaced, Whole):
        return paths
    values, replaced = build.replaced.values, build.replaced.column
    held = actions[f"partition.{replaced}"].to_pylist()
    return [path for path, value in zip(paths, held, strict=True) if str(value) in values]
