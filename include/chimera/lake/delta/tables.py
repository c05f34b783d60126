"""Open, create, list and drop the lake's tables."""

from __future__ import annotations

import logging
import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, unquote_to_bytes

import pyarrow as pa
from deltalake import DeltaTable, Schema
from deltalake.exceptions import DeltaError, TableNotFoundError

from include.chimera.contracts import CONTRACTS
from include.chimera.errors import (
    ChimeraError,
    ControlRefusedError,
    LakeError,
    LogDamagedError,
    NotDeltaError,
    PathUndecodableError,
    StorageRefusedError,
)
from include.chimera.lake.delta.columns import newer_schema, with_comments
from include.chimera.lake.delta.commits import Change, commit
from include.chimera.lake.delta.lineage import metadata_of
from include.chimera.lake.store import places, storage
from include.chimera.lake.store.places import folder_of
from include.chimera.lake.store.storage_errors import classify, storage_errors
from include.chimera.settings import get_settings

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from include.chimera.contracts import Contract
    from include.chimera.relation import Relation

# Only app transactions with a time expire: the fences (see `fencing_tokens`), long after any
# attempt has ended. Watermarks and consumed versions carry no time.
_PROPERTIES: dict[str, str | None] = {"delta.setTransactionRetentionDuration": "interval 7 days"}

logger = logging.getLogger(__name__)
_LOG = "_delta_log"
_SMALLEST = len('{"txn":{}}')  # bytes of an entry with one action
_BROKEN_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
# Marks a folder from before a first build writes files until its commit (docs/adr/0020).
NO_TABLE = "_no_table"
# What builds write: DuckDB's files, and the folder of an attempt on Spark.
_OURS = re.compile(r"(^|/)part-[0-9a-f-]{36}\.parquet$|^spark-[0-9a-f]{32}/")
_HALF_WRITTEN = re.compile(r"#\d+$|\.tmp$")


def open_table(
    name: Relation | str, version: int | None = None, *, has_files: bool = True
) -> DeltaTable | None:
    """Open a table at a version; return None if the table or the version does not exist yet.

    Args:
        name: The table.
        version: The version, None for the newest.
        has_files: Whether to load the list of files too. Without it a table of 1,000 files opens as
            fast as one of ten, and has version, columns, properties and history; but its files and
            partitions can't be listed, and it can't be written.

    Raises:
        LakeError: The table's folder can't be read as a table; the class says why.
    """
    where = f"{name}, opening it"
    with storage_errors(where):
        _require_whole_log(name, where)
        try:
            table = _opened(name, version, has_files=has_files)
            if table is None and (remains := _what_remains(name, where)):
                # Another writer's first commit may have come between the look-up and the listing.
                table = _opened(name, version, has_files=has_files)
                if table is None:
                    raise remains
        except DeltaError:
            newest = None if version is None else open_table(name, has_files=False)
            if version is None or newest is None or newest.version() >= version:
                raise
            return None
        return table


def open_kept(name: Relation | str, version: int) -> DeltaTable:
    """Open a table at a version whose log and files must all be there.

    Raises:
        ControlRefusedError: There is no such table or version, or the vacuum removed of it.
        LakeError: The lake can't be read.
    """
    newest = open_table(name, has_files=False)
    if newest is None or not 0 <= version <= newest.version():
        raise no_such_version(name, version, newest.version() if newest else -1)
    folder = folder_of(name)
    with storage_errors(f"opening version {version} of {name}"):
        try:
            table = DeltaTable(folder, version=version)
        except DeltaError as error:
            if classify(error)[0] is StorageRefusedError:
                raise
            raise vacuumed(name, version, "a log that begins later") from None
        held = {file.place for file in storage.walk(folder)}
    paths = pa.table(table.get_add_actions())["path"].to_pylist()
    if lost := sum(f"{folder}/{unquote(path)}" not in held for path in paths):
        raise vacuumed(name, version, f"{lost} of {len(paths)} files that are gone")
    return table


def no_such_version(name: Relation | str, version: int, newest: int) -> ControlRefusedError:
    """Return the error about a version that a table never had; `newest` is -1 without a table."""
    return ControlRefusedError(
        expected=f"a version from 0 to {newest - 1}" if newest > 0 else "a table of versions",
        came=str(version),
        where=f"table {name}, now at version {newest}",
        remedy="pick a version: the alerts and `trace` name them, so does the table's history",
    )


def vacuumed(name: Relation | str, version: int, came: str) -> ControlRefusedError:
    """Return the error about a version that can't be read any more."""
    return ControlRefusedError(
        expected="a version whose log and files are kept",
        came=came,
        where=f"table {name}, version {version}",
        remedy="take a newer one, or a newer run: the vacuum removes older ones' files",
    )


def _opened(name: Relation | str, version: int | None, *, has_files: bool) -> DeltaTable | None:
    try:
        return DeltaTable(folder_of(name), version=version, without_files=not has_files)
    except TableNotFoundError as error:
        if classify(error)[0] is StorageRefusedError:
            raise
        places.forget_table(name)
        return None


def _what_remains(name: Relation | str, where: str) -> ChimeraError | None:
    """Return an error if a folder without a table holds more than a first build leaves."""
    folder = folder_of(name)
    found = [file.place[len(folder) + 1 :] for file in storage.walk(folder)]
    whole = [place for place in found if place != NO_TABLE and not _HALF_WRITTEN.search(place)]
    others = [place for place in whole if not _OURS.search(place)]
    if any(place.startswith(f"{_LOG}/") for place in others):
        return LogDamagedError(came="a damaged log: no version is left of it", where=where)
    if others:
        return NotDeltaError(came=f"{len(others)} files without a Delta log", where=where)
    if whole and NO_TABLE not in found:
        came = f"a damaged log: nothing is left of it beside {len(whole)} data files"
        return LogDamagedError(came=came, where=where)
    return None


def begin_table(name: Relation | str) -> None:
    """Mark a missing table's folder before its first build writes files.

    Raises:
        LakeError: The folder holds remains of a table, or something else.
    """
    if open_table(name, has_files=False) is None:
        _note_absence(folder_of(name))


def _note_absence(folder: str) -> None:
    storage.create_text(f"{folder}/{NO_TABLE}", "Files without a log here are no table's.\n")


def end_beginning(name: Relation | str) -> None:
    """Remove the mark of `begin_table` after the table's first commit."""
    storage.delete_files([f"{folder_of(name)}/{NO_TABLE}"])


def require_decodable(name: Relation | str, table: DeltaTable) -> None:
    """Refuse a log with a file path that can't be unescaped to UTF-8 text.

    Raises:
        PathUndecodableError: There is such a path.
    """
    for path in pa.table(table.get_add_actions())["path"].to_pylist():
        try:
            is_text = bool(unquote_to_bytes(path).decode())
        except UnicodeDecodeError:
            is_text = False
        if not is_text or _BROKEN_ESCAPE.search(path):
            came = "one that is no text in UTF-8, or has a % without its two digits"
            raise PathUndecodableError(came=came, where=f"{name}, a path in its log")


def _require_whole_log(name: Relation | str, where: str) -> None:
    """Refuse a log with a hollow entry, which readers would skip.

    A power cut may leave one; a folder with an entry's name counts as one. An object store shows
    only whole objects, and listing them would cost a round trip each time a table is opened.

    Raises:
        LogDamagedError: There is one.
    """
    if storage.is_remote(folder_of(name)):
        return
    hollow = [
        entry.place
        for entry in storage.walk(f"{folder_of(name)}/{_LOG}", has_folders=True)
        if entry.size_bytes < _SMALLEST and _is_entry(entry.place)
    ]
    if hollow:
        came = f"a damaged log: {min(hollow).rpartition('/')[2]} holds no action"
        raise LogDamagedError(came=came, where=where)


def _is_entry(place: str) -> bool:
    return place.endswith((".json", ".parquet"))


def open_tables(names: Iterable[str]) -> dict[str, DeltaTable]:
    """Open tables at once, by name; one that does not exist or can't be read is left out."""
    found: dict[str, DeltaTable] = {}

    def open_it(name: str) -> None:
        with leaving_out(name):
            table = open_table(name)
            if table is not None:
                found[name] = table

    storage.at_once(open_it, names := list(names))
    return {name: found[name] for name in names if name in found}


@contextmanager
def leaving_out(name: Relation | str) -> Iterator[None]:
    """Log an unreadable table and carry on with the others."""
    try:
        with storage_errors(f"reading {name}"):
            yield
    except LakeError as error:
        logger.error("%s is left out: %s", name, error)  # noqa: TRY400 - the text says it all


def create_table(
    name: Relation | str,
    schema: pa.Schema | Schema,
    partition_by: list[str],
    properties: Mapping[str, str] | None = None,
    description: str | None = None,
) -> DeltaTable:
    """Return the table, created with this schema if it does not exist yet.

    Args:
        name: The table.
        schema: Its columns.
        partition_by: Its partition columns.
        properties: Delta table properties, added to our defaults.
        description: Its comment.
    """
    folder = folder_of(name)
    storage.make_folder(folder)
    table = create_at(folder, schema, partition_by, properties, description)
    end_beginning(name)
    return table


def create_at(
    place: str,
    schema: pa.Schema | Schema,
    partition_by: list[str],
    properties: Mapping[str, str] | None = None,
    description: str | None = None,
) -> DeltaTable:
    """Return the table in the folder `place`, otherwise like `create_table`."""
    return DeltaTable.create(
        place,
        schema if isinstance(schema, Schema) else Schema.from_arrow(schema),
        mode="ignore",
        partition_by=partition_by,
        configuration={**_PROPERTIES, **(properties or {})},
        description=description,
    )


def contract_table(name: str) -> DeltaTable:
    """Return a bronze or ops table as its contract says.

    It is created if it does not exist yet. One that an older release made gets the columns that the
    contract has gained since and the comments that it has now, in one version that rewrites no row.

    Raises:
        CommitConflictError: Every attempt lost to another writer.
    """
    table, contract = open_table(name), CONTRACTS[name]
    if table is None:
        schema = with_comments(Schema.from_arrow(contract.schema), contract.comments)
        partition_by = list(contract.partition_by)
        return create_table(name, schema, partition_by, description=contract.description)
    if _renewal(table, contract) is None:
        return table
    commit(name, lambda: open_table(name), lambda found: _renewal(found, contract))
    return open_table(name) or table


def _renewal(table: DeltaTable, contract: Contract) -> Change | None:
    """Return what makes a table what its contract says, None if it is."""
    lacking = missing_columns(table, contract)
    fields = [*table.schema().fields, *Schema.from_arrow(pa.schema(lacking)).fields]
    wanted = with_comments(Schema(fields), contract.comments)
    schema = newer_schema(wanted, table.schema())
    if schema is None and table.metadata().description == contract.description:
        return None
    # Readers of a column that is new may have to compute all hours again; a comment touches none.
    metadata = {} if lacking else metadata_of((), ())
    return Change(schema=schema, description=contract.description, metadata=metadata)


def missing_columns(table: DeltaTable, contract: Contract) -> list[pa.Field]:
    """Return the contract's columns that a table lacks; those of an older release may be null."""
    held = {column.name for column in table.schema().fields}
    return [column for column in contract.schema if column.nullable and column.name not in held]


def table_names() -> list[str]:
    """Return the names of the lake's tables, sorted."""
    return [str(relation) for relation in lake_tables()]


def lake_tables() -> list[Relation]:
    """Return the lake's tables, sorted (see `lake_relations`)."""
    return lake_relations()[0]


def lake_relations() -> tuple[list[Relation], list[Relation]]:
    """Return the lake's tables, sorted, and its views.

    A table is a folder with a log, intact or damaged. No log is read, so even many tables are
    listed fast.
    """
    folders, views = places.relation_places()
    has_log = storage.existing([f"{folder}/{_LOG}" for folder in folders.values()])
    return [name for name, is_there in zip(folders, has_log, strict=True) if is_there], views


def drop_table(name: Relation | str) -> None:
    """Delete a table and its files, if it exists."""
    folder = folder_of(name)
    _note_absence(folder)  # dying halfway may leave files without a log
    storage.delete_folder(folder)
    places.forget()


def vacuum(
    table: DeltaTable, pinned: int | None, *, dry_run: bool, is_full: bool = False
) -> list[str]:
    """Remove files that no version younger than `vacuum_hours` (a setting) needs; return which.

    Args:
        table: The table, freshly loaded.
        pinned: A version that keeps its files however old it is; None: there is none.
        dry_run: Only return what would be removed.
        is_full: Whether to remove files that no log ever named, too.
    """
    kept = [] if pinned is None or pinned > table.version() else [pinned]
    hours = get_settings().vacuum_hours
    return table.vacuum(hours, dry_run=dry_run, full=is_full, keep_versions=kept or None)


def row_count(table: DeltaTable) -> int:
    """Count rows from the log's statistics, or from the files if one has no statistics."""
    counts: list[Any] = pa.table(table.get_add_actions(flatten=True))["num_records"].to_pylist()
    if None in counts:
        return int(table.to_pyarrow_dataset().count_rows())
    return sum(counts)
