"""One Delta commit: the only way by which data becomes part of a table."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from deltalake import CommitProperties, DeltaTable, Schema, Transaction, write_deltalake
from deltalake.exceptions import CommitFailedError
from tenacity import (
    RetryError,
    Retrying,
    retry_if_exception_type,
    stop_after_attempt,
    wait_random_exponential,
)

from include.chimera.errors import CommitConflictError
from include.chimera.lake.details import allow_plain_timestamps
from include.chimera.lake.durability import sync_files, sync_log

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import pyarrow as pa

    from include.chimera.lake.files import DataFile
    from include.chimera.window import Run

logger = logging.getLogger(__name__)
_ATTEMPTS = 8
_MANY_FILES = 100  # delta-rs itself writes a checkpoint at each hundredth commit
_WRITER = "writer"


@dataclass(frozen=True)
class Change:
    """What a commit does to its table.

    Args:
        files: Files to add.
        replace: Partition column and the values whose old files are removed; `"all"` removes
            every old file; None only adds.
        marks: App transactions to set, by app id.
        metadata: What `history()` will show beside the operation.
        schema: The table's new schema, None to keep it.
        fences: App transactions that expire (see `fences`), by app id.
    """

    files: Sequence[DataFile] = ()
    replace: tuple[str, Sequence[str]] | str | None = None
    marks: dict[str, int] = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=dict)
    schema: Schema | None = None
    fences: dict[str, int] = field(default_factory=dict)


def run_metadata(run: Run | None) -> dict[str, str]:
    """Return the commit metadata that leads back to a DAG run."""
    if run is None:
        return {"run_id": "standalone", "correlation_id": ""}
    return {
        "run_id": run.run_id,
        "correlation_id": run.correlation_id,
        "window": "/".join((run.window.start.isoformat(), run.window.end.isoformat())),
    }


def commit(
    name: str,
    load: Callable[[], DeltaTable],
    decide: Callable[[DeltaTable], Change | None],
) -> tuple[DeltaTable, Change | None]:
    """Commit what `decide` says of the freshly loaded table; redo both when another writer won.

    Each commit sets one shared app transaction, so that of two commits made from the same version
    one conflicts, even where Delta itself would let both append: what `decide` saw is what the
    commit changes. Returns the table after the commit, without its list of files (see
    `tables.open_table`), and the change (None: nothing to do).

    Raises:
        CommitConflictError: Other writers won eight times in a row.
    """

    def attempt() -> tuple[DeltaTable, Change | None]:
        table = load()
        change = decide(table)
        if change is not None:
            _apply(table, change)
        return table, change

    retrying = Retrying(
        retry=retry_if_exception_type(CommitFailedError),
        stop=stop_after_attempt(_ATTEMPTS),
        wait=wait_random_exponential(multiplier=0.05, max=5),
    )
    try:
        table, change = retrying(attempt)
    except RetryError as error:
        raise CommitConflictError(
            expected=f"a commit within {_ATTEMPTS} attempts",
            came="another writer's commit first, each time",
            where=f"table {name}",
            remedy="run the task again; if it persists, look for two runs that write this table",
        ) from error
    if change is not None:
        base = table.version()
        if len(change.files) >= _MANY_FILES:
            # A list of this length is read twice as fast from Parquet as from JSON.
            DeltaTable(table.table_uri).create_checkpoint()
        table = DeltaTable(table.table_uri, without_files=True)
        sync_log(table.table_uri, base, table.version())
        logger.info(
            "committed %s files, %s rows to %s, version %s",
            len(change.files),
            sum(file.rows for file in change.files),
            name,
            table.version(),
        )
    return table, change


def begin_anew(table: DeltaTable, columns: pa.Schema, partition_by: Sequence[str]) -> None:
    """Empty a table and give it other partitions, in a commit that loses against any other one.

    delta-rs can't change a table's partitioning together with the files that are its new rows.

    Raises:
        CommitFailedError: Another writer won: `commit` decides again.
    """
    mark = Transaction(_WRITER, table.version() + 1)
    write_deltalake(
        table,
        columns.empty_table(),
        mode="overwrite",
        schema_mode="overwrite",
        partition_by=list(partition_by),
        commit_properties=CommitProperties(app_transactions=[mark]),
    )


def _apply(table: DeltaTable, change: Change) -> None:
    replaced: list[tuple[str, str, list[str]]] | None = None
    schema = change.schema or table.schema()
    if isinstance(change.replace, tuple):
        column, values = change.replace
        replaced = [(column, "in", list(values))]
    elif change.replace is None and change.schema is not None:
        # delta-rs takes a new schema only with an overwrite; this one replaces nothing.
        replaced = [(table.schema().fields[0].name, "in", [])]
    if "timestamp_ntz" in Schema.to_json(schema):
        allow_plain_timestamps(table)
    marks = {**change.marks, _WRITER: table.version() + 1}
    now = int(time.time() * 1000)
    folder = table.table_uri
    sync_files(folder, [file.path for file in change.files])
    table.create_write_transaction(
        [file.add_action() for file in change.files],
        mode="append" if change.replace is None and replaced is None else "overwrite",
        schema=schema,
        partition_by=table.metadata().partition_columns,
        partition_filters=replaced,
        commit_properties=CommitProperties(
            custom_metadata=change.metadata,
            app_transactions=[
                *(Transaction(app, version) for app, version in marks.items()),
                *(Transaction(app, token, now) for app, token in change.fences.items()),
            ],
        ),
    )
