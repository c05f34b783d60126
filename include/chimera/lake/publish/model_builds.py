"""Commit a dbt model's result as a version of its Delta table."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from typing import TYPE_CHECKING

import pyarrow as pa
from deltalake import Schema

from include.chimera.contracts import PARTITION
from include.chimera.errors import CommitConflictError, ContractError
from include.chimera.lake.delta.columns import (
    comments_of,
    newer_schema,
    same_columns,
    with_comments,
)
from include.chimera.lake.delta.commits import Change, Signature, commit, run_metadata
from include.chimera.lake.delta.details import Details
from include.chimera.lake.delta.lineage import (
    READ,
    changes_since,
    consumed_mark,
    is_partial,
    marks_of,
    metadata_of,
    read_since,
)
from include.chimera.lake.delta.partitions import Partitions, Whole
from include.chimera.lake.delta.tables import create_at, end_beginning, open_table

if TYPE_CHECKING:
    from collections.abc import Mapping

    from deltalake import DeltaTable

    from include.chimera.lake.staged.manifests import Build
    from include.chimera.window import Run

logger = logging.getLogger(__name__)
DAY_PARTITION = "_window_day"


def partitions_of(hours: frozenset[str], partition_by: list[str]) -> Partitions:
    """Return the hourly or daily partitions that hold the event hours.

    Raises:
        ContractError: The table is partitioned by neither hour nor day.
    """
    lengths = {PARTITION: len("YYYYMMDDTHH"), DAY_PARTITION: len("YYYYMMDD")}
    if len(partition_by) != 1 or partition_by[0] not in lengths:
        raise ContractError(
            expected=f"partition_by='{PARTITION}' or '{DAY_PARTITION}' for replace_window",
            came=", ".join(partition_by) or "none",
            where="the model's config",
            remedy="partition by one of these, or take delete+insert or microbatch",
        )
    (column,) = partition_by
    return Partitions(column, tuple(sorted({hour[: lengths[column]] for hour in hours})))


def commit_build(
    build: Build,
    run: Run | None,
    notes: Mapping[str, str] | None = None,
    *,
    before: DeltaTable | None = None,
) -> DeltaTable:
    """Commit staged files to the model's table in one commit, and return the table.

    Leave out partitions that another writer has replaced since this build read the table, so that
    stale rows never overwrite newer ones. Then the marks of what was consumed do not advance, and
    the next run computes those partitions again from newer parents (docs/adr/0002).

    Args:
        build: The build.
        run: The DAG run; None: standalone.
        notes: More metadata of the commit.
        before: The table as the caller has just opened it, which spares the first attempt doing so.

    Raises:
        ContractError: The model's columns changed, but the table keeps other partitions.
        CommitConflictError: Every attempt lost to another writer.
    """
    schema = Schema.from_json(build.schema)
    opened = [] if before is None else [before]

    table, change = commit(
        build.table,
        lambda: _free(build, run, opened.pop() if opened else open_table(build.table)),
        lambda loaded: _noted(_decide(loaded, build, schema, run), notes),
        lambda place: create_at(place, schema, build.partition_by, build.properties),
        # A gate that died after its commit is tried again, with the same files.
        Signature(f"{build.invocation_id}/{build.table}", _base(build)) if run else None,
    )
    if build.plan.base_version is None:
        end_beginning(build.table)
    if change is None:
        logger.warning("newer commits superseded this build of %s", build.table)
    return table


def _free(build: Build, run: Run | None, table: DeltaTable | None) -> DeltaTable | None:
    """Return the table that a build may change; None: the build creates it.

    In a DAG run, a table that appeared since the build was planned is another run's first build;
    `_decide` then compares whose parents are newer.

    Raises:
        CommitConflictError: The table exists, and the build may not replace it; or its rows were
            changed on a copy, and another writer was first.
    """
    version = None if table is None else table.version()
    if build.is_rewrite and version != build.plan.base_version:
        raise CommitConflictError(
            expected=f"version {build.plan.base_version}, which a statement changed",
            came=f"version {version}",
            where=f"table {build.table}",
        )
    if run is None:
        require_free(build.table, table, may_replace=build.may_replace)
    return table


def require_free(name: str, table: DeltaTable | None, *, may_replace: bool) -> None:
    """Refuse to replace a table if its model was built as if there were none.

    Raises:
        CommitConflictError: It exists, and was not built from empty or sampled parents. Another run
            may have made it meanwhile: the next attempt adds to it.
    """
    if table is not None and not may_replace and not is_partial(table):
        raise CommitConflictError(
            expected="no table yet, as dbt found none to add to",
            came=f"one of version {table.version()}",
            where=f"model {name}",
            remedy="run the model again, which then adds to it; to replace it: --full-refresh",
        )


def _base(build: Build) -> int:
    """Return the table's version when the build was planned, -1 if there was no table."""
    return -1 if build.plan.base_version is None else build.plan.base_version


def _noted(change: Change | None, notes: Mapping[str, str] | None) -> Change | None:
    return replace(change, metadata={**change.metadata, **(notes or {})}) if change else None


def _decide(table: DeltaTable, build: Build, schema: Schema, run: Run | None) -> Change | None:
    base = _base(build)
    others = changes_since(table, base).touched
    metadata = {
        **run_metadata(run),
        "model": build.table,
        "invocation_id": build.invocation_id,
        READ: json.dumps({} if build.is_partial else build.plan.consumed),
    }
    marks = marks_of(build.plan, table, is_partial_build=build.is_partial)
    is_whole = isinstance(build.replaced, Whole)
    if is_whole and (others == frozenset() or not _is_stale(table, base, build)):
        return Change(
            build.files,
            Whole(),
            marks,
            {**metadata, **metadata_of(None, None)},
            schema,
            details=Details(build.partition_by, build.properties, build.checks),
            description=build.description,
        )
    if others is None or not build.partition_by:
        return None
    _require_same_columns(table, build, schema)
    replaced = _replaced_partitions(table, build)
    kept = tuple(value for value in replaced.values if value not in others)
    if len(kept) < len(replaced.values):
        logger.warning(
            "%s of %s partitions of %s were replaced by a newer build: left out",
            len(replaced.values) - len(kept),
            len(replaced.values),
            build.table,
        )
        marks = {}
    wanted = set(kept)
    files = [file for file in build.files if file.partition[replaced.column] in wanted]
    newest = {
        mark: max(value, table.transaction_version(mark) or value) for mark, value in marks.items()
    }
    metadata |= metadata_of(kept, kept)
    described = with_comments(table.schema(), comments_of(schema))
    return Change(
        files,
        Partitions(replaced.column, kept),
        newest,
        metadata,
        newer_schema(described, table.schema()),
        description=build.description,
    )


def _is_stale(table: DeltaTable, base: int, build: Build) -> bool:
    """Did another writer build the table meanwhile from newer parents than this build read?

    Any version is newer than that of a parent that was not there when this build was planned.
    """
    read = read_since(table, base)
    return not read.keys() <= build.plan.consumed.keys() or any(
        max(table.transaction_version(consumed_mark(name)) or 0, read.get(name, 0)) > version
        for name, version in build.plan.consumed.items()
    )


def _replaced_partitions(table: DeltaTable, build: Build) -> Partitions:
    """Return the partitions that a build replaces; a whole rebuild: the table's and its own."""
    if isinstance(build.replaced, Partitions):
        return build.replaced
    column = build.partition_by[0]
    own = {str(file.partition[column]) for file in build.files}
    held = {str(values[column]) for values in table.partitions()}
    return Partitions(column, tuple(sorted(own | held)))


def _require_same_columns(table: DeltaTable, build: Build, schema: Schema) -> None:
    """Refuse to mix columns or partitionings in one table.

    Raises:
        ContractError: The columns or partitions changed, but the build is not a whole rebuild.
        CommitConflictError: It is a whole rebuild, but another writer was faster.
    """
    if (
        same_columns(schema, table.schema())
        and table.metadata().partition_columns == build.partition_by
    ):
        return
    came, where = "other columns, types or partitions", f"model {build.table}"
    if isinstance(build.replaced, Whole):
        raise CommitConflictError(
            expected="no hour built from newer parents while the table is rebuilt whole",
            came=f"one, and {came}",
            where=where,
            remedy="run the rebuild again, or clear the model's task and its gate",
        )
    raise ContractError(
        expected="the columns and partitions of the table",
        came=came,
        where=where,
        remedy="rebuild it whole: dbt build --full-refresh --select <model>",
    )


def staged_columns(build: Build) -> pa.Schema:
    """Return the staged rows' schema in pyarrow's types."""
    return pa.schema(Schema.from_json(build.schema).to_arrow())
