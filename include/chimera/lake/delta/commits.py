"""Commit to a Delta table: the only way that data becomes part of one."""

from __future__ import annotations

import logging
import re
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING
from uuid import uuid4

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
_TOKEN = "commit_token"  # noqa: S105 - names the commit in the history, no secret
# delta-rs raises CommitFailedError for these refusals too, though no other writer is involved.
_REFUSED = re.compile(r"Unsupported|Table features must be|append-only")


@dataclass(frozen=True)
class Signature:
    """How a commit knows itself in its table's history.

    Args:
        token: What its metadata names it by.
        base: The version after which it may stand, -1 for a table that was not there.
    """

    token: str
    base: int

    def stands_in(self, table: DeltaTable) -> bool:
        """Does the table's history have the commit?"""
        newer = table.version() - self.base
        entries = table.history(newer) if newer > 0 else []
        return any(entry.get(_TOKEN) == self.token for entry in entries)


@dataclass(frozen=True)
class Change:
    """What a commit changes in its table.

    Args:
        files: Files to add.
        replace: Which existing files to remove.
        marks: App transactions to set, by app id.
        metadata: Commit metadata, as `history()` shows it.
        schema: The table's new schema, None to keep it.
        fences: Expiring app transactions with fencing tokens (`fencing_tokens`), by app id.
        details: Only with `Whole`: new partitioning, properties and so on; None to keep them.
        description: The table's comment, None to keep it.
    """

    files: Sequence[DataFile] = ()
    replace: Replaced = field(default_factory=Append)
    marks: dict[str, int] = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=dict)
    schema: Schema | None = None
    fences: dict[str, int] = field(default_factory=dict)
    details: Details | None = None
    description: str | None = None


def run_metadata(run: Run | None) -> dict[str, str]:
    """Return the commit metadata that identifies a DAG run."""
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
    signature: Signature | None = None,
) -> tuple[DeltaTable, Change | None]:
    """Load the table, commit the change that `decide` returns, and retry both on a conflict.

    Optimistic concurrency: each commit sets one shared app transaction, so of two commits made
    from the same version one conflicts, even where Delta would let both append. The commit
    therefore always applies to the version that `decide` saw. Returns the table after the commit,
    without its list of files (see `tables.open_table`), and the change (None: nothing to do).

    An object store may tell us that another writer was first, though it was our own put, whose
    answer was lost. To make the same change again would add files that the table has, or delete
    them as left over: so each commit bears a token, by which a further attempt finds it.

    Args:
        name: The table.
        load: Opens the table; returns None if it does not exist.
        decide: Returns the change to make, None for nothing.
        create: Creates an empty table in a scratch folder if `load` returns None. The change is
            then required and becomes, with its rows, version 0.
        signature: Given where an earlier process may have made this very commit; then the change
            that is returned is an empty one.

    Raises:
        CommitConflictError: All eight attempts lost to another writer.
        ProtocolUnsupportedError: The table requires a writer feature that delta-rs lacks.
        DeltaRefusedError: The table's properties forbid the change.
    """
    signed = [signature] if signature else []
    tried: list[Change] = []

    def attempt() -> tuple[DeltaTable, Change | None]:
        with scratch("draft") as place:
            found = load()
            if found and signed and signed[0].stands_in(found):
                return found, tried[-1] if tried else Change()
            if not signed:
                signed.append(Signature(uuid4().hex, found.version() if found else -1))
            table = found or create(place)
            change = decide(table)
            if change is not None:
                tried.append(replace(change, metadata={**change.metadata, _TOKEN: signed[0].token}))
                _apply(folder_of(name), found, tried[-1], place)
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
    if change is None:
        # An attempt that died before it did so may have committed what there is nothing to add to.
        sync_log(table.table_uri, table.version(), table.version())
        return table, None
    return _committed(name, signed[0].base, change), change


def is_conflict(error: BaseException) -> bool:
    """Did a commit fail because of another writer?"""
    return isinstance(error, CommitFailedError) and not _REFUSED.search(str(error))


def _committed(name: str, base: int, change: Change) -> DeltaTable:
    """Make a commit durable and return the table at its version."""
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
    """Commit a change as one version, through a draft if delta-rs needs several commits for it."""
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
        or change.description not in (None, table.metadata().description or "")
        or (change.schema is not None and needs_plain_timestamps(table, change.schema))
    )


def _prepare(draft: DeltaTable, change: Change, *, is_new: bool) -> None:
    """Change in a draft what delta-rs can't change in the same commit as files."""
    details = change.details
    if details is not None and not is_new:
        # Empty it first, so that no old row violates new constraints or sits in old partitions.
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
    if change.description is not None:
        draft.alter.set_table_description(change.description)


def _write(table: DeltaTable, change: Change, version: int) -> None:
    replaced: list[tuple[str, str, list[str]]] | None = None
    if isinstance(change.replace, Partitions):
        replaced = [(change.replace.column, "in", list(change.replace.values))]
    elif isinstance(change.replace, Append) and change.schema is not None:
        # delta-rs accepts a new schema only with an overwrite; this one replaces nothing.
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
