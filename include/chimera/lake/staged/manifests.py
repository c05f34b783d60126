"""Manifests of staged files, one folder per run and table.

A model's manifest is `stage.json`; its files are in the table's own folder, absent from the log
until the gate commits them. In bronze, each attempt of an extract task has its own folder, named by
its fencing token, with its files and its manifest (`batch.json`, written last). Attempts of one
task can overlap; this way the files of a late one never mix with a newer one's. The gate takes the
newest complete attempt. The folder also holds the verdict and the publication, for the report.

A cleared run keeps its folder. A table's verdict and publication are deleted when new files are
staged, or at the run's end if the table was not judged again, so that a report never shows an
earlier attempt's figures.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated

from pydantic import BeforeValidator, PlainSerializer, ValidationInfo

from include.chimera.errors import StageMissingError
from include.chimera.lake.delta.lineage import Plan
from include.chimera.lake.delta.parquet_files import DataFile
from include.chimera.lake.delta.partitions import Partitions, Whole
from include.chimera.lake.staged.held_back import HeldBack
from include.chimera.lake.staged.publications import Publication
from include.chimera.lake.staged.records import (
    WHOLE_RUN,
    Record,
    of_each_table,
    read_at,
    record_place,
    table_folder,
    tables_of,
    to_json,
)
from include.chimera.lake.staged.reports import RunReport
from include.chimera.lake.staged.verdicts import Verdict
from include.chimera.lake.store import storage
from include.chimera.lake.store.durability import sync_files
from include.chimera.lake.store.places import folder_of
from include.chimera.lake.store.storage_errors import storage_errors

if TYPE_CHECKING:
    from collections.abc import Collection

    from include.chimera.window import Run


@dataclass(frozen=True)
class Batch(Record):
    """A source's staged rows, to be published in bronze.

    Args:
        table: Bronze table.
        token: Fencing token of the attempt (see `fencing_tokens`), drawn before the source is read.
        rows_read: Rows read from the source, refused ones included.
        files: Staged Parquet files with rows of the contract's columns, relative to the attempt's
            folder.
        letters: Parquet files of records that could not be parsed (see `letters`), likewise.
        rows_unparsed: Records that could not be parsed, including those without their own letter.
        digests: SHA-256 of each of these files, by path.
        bounds: Smallest and largest event time of the rows in `files`, None if there are none.
        hours: Event hours that this batch holds completely, for tables that replace whole hours.
        is_addition: Whether the batch's rows are added to their hours instead of replacing them.
        watermark: Microseconds since the epoch, UTC, up to which (exclusive) a mutable table was
            read; None: there is no watermark.
        is_distinct: Whether the source guarantees that keys are unique.
        allow_shrink: Whether an hour may be replaced by fewer rows than it holds.
        held_back: Committed rows of the window that can't be read until open transactions end.
    """

    file_name = "batch.json"

    table: str
    token: int
    rows_read: int = 0
    files: list[DataFile] = field(default_factory=list)
    letters: list[DataFile] = field(default_factory=list)
    rows_unparsed: int = 0
    digests: dict[str, str] = field(default_factory=dict)
    bounds: list[str] | None = None
    hours: list[str] = field(default_factory=list)
    is_addition: bool = False
    watermark: int | None = None
    is_distinct: bool = False
    allow_shrink: bool = False
    held_back: HeldBack | None = None


def _replaced(values: list[str] | None, info: ValidationInfo) -> Whole | Partitions:
    return Whole() if values is None else Partitions(info.data["partition_by"][0], tuple(values))


BuildReplaces = Annotated[
    Whole | Partitions,
    BeforeValidator(_replaced),
    PlainSerializer(lambda replaced: getattr(replaced, "values", None)),
]
"""Serialized as the partitions' values, null for the whole table."""


@dataclass(frozen=True)
class Build(Record):
    """A dbt model's staged result.

    Args:
        table: The table, as text (see `relation`).
        files: Parquet files, relative to the table's folder.
        schema: Delta schema, as JSON text.
        partition_by: Partition columns, at most one.
        replaced: What the files replace.
        plan: The parents' versions that were read.
        invocation_id: dbt's id of the invocation.
        description: The table's comment; None: leave it unchanged.
        properties: Delta table properties.
        checks: Check constraints, name to condition.
        may_replace: Whether the build may replace a table that existed when it was planned.
        is_partial: Whether only a part of its parents was read (`dbt run --empty`, `--sample`).
        is_rewrite: Whether the rows are a changed copy of the table at the plan's version.
    """

    file_name = "stage.json"

    table: str
    files: list[DataFile]
    schema: str
    partition_by: list[str]
    replaced: BuildReplaces
    plan: Plan
    invocation_id: str
    description: str | None = None
    properties: dict[str, str] = field(default_factory=dict)
    checks: dict[str, str] = field(default_factory=dict)
    may_replace: bool = True
    is_partial: bool = False
    is_rewrite: bool = False

    rows_unparsed = 0  # a query's result needs no parsing


def attempt_folder(run: Run, batch: Batch) -> str:
    """Return the folder of one attempt's staged files and manifest."""
    return f"{table_folder(run, batch.table)}/{batch.token:020d}"


def manifest_place(run: Run, table: str) -> str:
    """Return the path of a table's manifest: the newest complete attempt's, if any."""
    ending = f"/{Batch.file_name}"
    files = (file.place for file in storage.walk(table_folder(run, table)))
    attempts = [place for place in files if place.endswith(ending)]
    return max(attempts, default=record_place(run, table, Build))


def save(run: Run, staged: Batch | Build) -> None:
    """Write the manifest, by which the gate finds the files; delete the verdict on earlier ones.

    A model's files are flushed to disk first: no digest would tell its gate that they are hollow.
    """
    place = record_place(run, staged.table, Build)
    if isinstance(staged, Build):
        sync_files(folder_of(staged.table), [file.path for file in staged.files])
    if isinstance(staged, Batch):
        place = f"{attempt_folder(run, staged)}/{Batch.file_name}"
    storage.write_text(place, to_json(staged))
    if manifest_place(run, staged.table) == place:  # a late attempt's files are never used
        forget(run, staged.table)


def find_manifest(run: Run, table: str) -> Batch | Build | None:
    """Read the manifest of a table's staged files, None if nothing was staged.

    In bronze, read that of the newest complete attempt of the run's extract task.

    Raises:
        StageDamagedError: The file is not a manifest.
        LakeError: The disk or store failed.
    """
    with storage_errors(f"looking for what was staged of {table}, run {run.run_id}"):
        place = manifest_place(run, table)
    return read_at(place, Batch) if place.endswith(Batch.file_name) else read_at(place, Build)


def find_manifests(run: Run) -> dict[str, Batch | Build]:
    """Read all the run's manifests, by table."""
    return of_each_table(run, lambda table: find_manifest(run, table))


def load_manifest(run: Run, table: str) -> Batch | Build:
    """Read the manifest of a table's staged files, as `find_manifest` does.

    Raises:
        StageMissingError: There is none.
    """
    found = find_manifest(run, table)
    if found is None:
        raise StageMissingError(
            expected="a manifest of staged files",
            came="none",
            where=f"table {table}, run {run.run_id}",
            remedy="clear the task that stages this table (extract, or the dbt model) and its gate",
        )
    return found


def forget(run: Run, table: str) -> None:
    """Delete a table's verdict and publication, and the run's report, which quotes them."""
    said = [record_place(run, table, kind) for kind in (Verdict, Publication)]
    storage.delete_files([*said, record_place(run, WHOLE_RUN, RunReport)])


def keep_only(run: Run, judged: Collection[str]) -> None:
    """Delete what earlier attempts of the run recorded for tables that this one did not judge.

    Args:
        run: The DAG run.
        judged: The tables whose gates have ended since the run was last cleared.
    """
    for table in tables_of(run):
        if table not in judged:
            forget(run, table)
