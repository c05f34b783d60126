"""One Delta commit: the only way by which data becomes part of a table."""

from __future__ import annotations

import logging
import re
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake
from deltalake.exceptions import CommitFailedError
from tenacity import (
    RetryError,
    Retrying,
    retry_if_exception,
    stop_after_attempt,
    wait_random_exponential,
)

from include.chimera.errors import CommitConflictError
from include.chimera.lake.delta.details import (
    allow_plain_timestamps,
    describe_table,
    needs_plain_timestamps,
)
from include.chimera.lake.delta.draft_commits import copy_log, publish_draft
from include.chimera.lake.delta.partitions import Append, Partitions, Replaced
from include.chimera.lake.store.durability import sync_files, sync_log
from include.chimera.lake.store.places import folder_of
from include.chimera.lake.store.scratch import scratch
from include.chimera.lake.store.storage_errors import translate

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from deltalake import Schema

    from include.chimera.lake.delta.details import Details
    from include.chimera.lake.delta.parquet_files import DataFile
    from include.chimera.window import Run

logger = logging.getLogger(__name__)
_ATTEMPTS = 8
_MANY_FILES = 100  # delta-rs itself writes a checkpoint at each hundredth commit
_WRITER = "writer"
# What delta-rs refuses as a commit that failed too, though no other writer has a part in it.
_REFUSED = re.compile(r"Unsupported|Table features must be|append-only")


@dataclass(frozen=True)
class Change:
    """What a commit does to its table.

    Args:
        files: Files to add.
        replace: Which old files are removed.
        marks: App transactions to set, by app id.
        metadata: What `history()` will show beside the operation.
        schema: The table's new schema, None to keep it.
        fences: App transactions that expire (see `fences`), by app id.
        details: With `Whole`: partitioning, properties and the like; None to keep them.
    """

    files: Sequence[DataFile] = ()
    replace: Replaced = field(default_factory=Append)
    marks: dict[str, int] = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=dict)
    schema: Schema | None = None
    fences: dict[str, int] = field(default_factory=dict)
    details: Details | None = None


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
    load: Callable[[], DeltaTable | None],
    decide: Callable[[DeltaTable], Change | None],
    create: Callable[[str], DeltaTable] = DeltaTable,
) -> tuple[DeltaTable, Change | None]:
    """Commit what `decide` says of the freshly loaded table; redo both when another writer won.

    Each commit sets one shared app transaction, so that of two commits made from the same version
    one conflicts, even where Delta itself would let both append: what `decide` saw is what the
    commit changes. Returns the table after the commit, without its list of files (see
    `tables.open_table`), and the change (None: nothing to do).

    Args:
        name: The table.
        load: Opens it; None where there is none.
        decide: Tells what to change, None for nothing.
        create: Makes an empty table in a folder, to which a first commit is made that is version 0
            of the table with its rows. A change is then a must.

    Raises:
        CommitConflictError: Other writers won eight times in a row.
        ProtocolUnsupportedError: The table asks its writers for what delta-rs does not know.
        DeltaRefusedError: Its properties forbid the change.
    """

    def attempt() -> tuple[DeltaTable, Change | None]:
        with scratch("draft") as place:
            found = load()
            table = found or create(place)
            change = decide(table)
            if change is not None:
                _apply(folder_of(name), found, change, place)
            return table, change

    retrying = Retrying(
        retry=retry_if_exception(is_conflict),
        stop=stop_after_attempt(_ATTEMPTS),
        wait=wait_random_exponential(multiplier=0.05, max=5),
    )
    try:
        table, change = retrying(attempt)
    except CommitFailedError as error:
        raise translate(error, f"committing to {name}") or error from None
    except RetryError:
        raise CommitConflictError(
            expected=f"a commit within {_ATTEMPTS} attempts",
            came="another writer's commit first, each time",
            where=f"table {name}",
        ) from None
    return (table if change is None else _committed(name, table.version(), change)), change


def is_conflict(error: BaseException) -> bool:
    """Tell whether another writer is why a commit failed."""
    return isinstance(error, CommitFailedError) and not _REFUSED.search(str(error))


def _committed(name: str, base: int, change: Change) -> DeltaTable:
    """Make a commit durable and return the table with it."""
    folder = folder_of(name)
    if len(change.files) >= _MANY_FILES:
        # A list of this length is read twice as fast from Parquet as from JSON.
        DeltaTable(folder).create_checkpoint()
    table = DeltaTable(folder, without_files=True)
    sync_log(table.table_uri, base, table.version())
    logger.info(
        "committed %s files, %s rows to %s, version %s",
        len(change.files),
        sum(file.rows for file in change.files),
        name,
        table.version(),
    )
    return table


def _apply(folder: str, table: DeltaTable | None, change: Change, place: str) -> None:
    """Make a change one version of the table, by way of a draft where delta-rs needs several."""
    sync_files(folder, [file.path for file in change.files])
    if table is not None and not _needs_draft(table, change):
        _write(table, change, table.version() + 1)
        return
    version = 0 if table is None else table.version() + 1
    draft = DeltaTable(place) if table is None else copy_log(table, folder, place)
    _prepare(draft, change, is_new=table is None)
    _write(DeltaTable(place), change, version)
    publish_draft(place, folder, version)


def _needs_draft(table: DeltaTable, change: Change) -> bool:
    details = change.details
    return bool(
        (details is not None and not details.are_met_by(table))
        or (change.schema is not None and needs_plain_timestamps(table, change.schema))
    )


def _prepare(draft: DeltaTable, change: Change, *, is_new: bool) -> None:
    """Give a draft what delta-rs can't change together with a table's files."""
    details = change.details
    if details is not None and not is_new:
        # Emptied first: no row has to meet its new constraints, nor stands in other partitions.
        columns = pa.schema((change.schema or draft.schema()).to_arrow())
        write_deltalake(
            draft,
            columns.empty_table(),
            mode="overwrite",
            schema_mode="overwrite",
            partition_by=list(details.partition_by),
        )
    if change.schema is not None and needs_plain_timestamps(draft, change.schema):
        allow_plain_timestamps(draft)
    if details is not None:
        describe_table(draft, details)


def _write(table: DeltaTable, change: Change, version: int) -> None:
    replaced: list[tuple[str, str, list[str]]] | None = None
    if isinstance(change.replace, Partitions):
        replaced = [(change.replace.column, "in", list(change.replace.values))]
    elif isinstance(change.replace, Append) and change.schema is not None:
        # delta-rs takes a new schema only with an overwrite; this one replaces nothing.
        replaced = [(table.schema().fields[0].name, "in", [])]
    marks = {**change.marks, _WRITER: version}
    now = int(time.time() * 1000)
    table.create_write_transaction(
        [file.add_action() for file in change.files],
        mode="append" if isinstance(change.replace, Append) and not replaced else "overwrite",
        schema=change.schema or table.schema(),
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
