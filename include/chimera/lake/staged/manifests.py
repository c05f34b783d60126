"""What waits for its gate: manifests of staged files, one folder per run.

`<lake>/_runs/<run>/<layer>.<table>/` belongs to a table. A model's manifest there is `stage.json`;
its files stand in the table's own folder, unknown to its log until the gate commits them. In bronze
each attempt of an extract task has a folder of its own, named by its fencing token, with its files
and its manifest (`batch.json`, written last): the attempts of one task can overlap, and what a
late one writes is never mixed with a newer one's. The gate takes the newest complete attempt. The
folder also keeps what became of the rows, for the report.

A run that is cleared keeps its folder. What was said of rows is forgotten as soon as there are
others to judge, and at the run's end of each table that was not judged again: a report never tells
a former attempt's figures.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from include.chimera.errors import StageMissingError
from include.chimera.lake.delta.lineage import Plan
from include.chimera.lake.delta.parquet_files import DataFile
from include.chimera.lake.staged.held_back import HeldBack
from include.chimera.lake.store import storage
from include.chimera.lake.store.places import decoded, encoded
from include.chimera.lake.store.storage_errors import storage_errors
from include.chimera.settings import get_settings

if TYPE_CHECKING:
    from collections.abc import Collection

    from include.chimera.window import Run

STAGE, PUBLICATION, VERDICT, REPORT = "stage", "publication", "verdict", "report"
_BATCH = "batch.json"
ACCEPTANCE = "acceptance"
_NO_PLAN = Plan(None, {}, None)
WHOLE_RUN = "."  # stands for a table where a record is about the run


def run_folder(run: Run) -> str:
    """Return the folder of everything that belongs to one run."""
    return f"{get_settings().lake}/_runs/{run.folder}"


def table_folder(run: Run, table: str) -> str:
    """Return the folder of one table's staged files and records in one run."""
    return run_folder(run) if table == WHOLE_RUN else f"{run_folder(run)}/{encoded(table)}"


def write_record(run: Run, table: str, kind: str, document: dict[str, Any]) -> None:
    """Write a record of a table's progress in a run, whole or not at all."""
    _write_whole(f"{table_folder(run, table)}/{kind}.json", document)


def _write_whole(place: str, document: dict[str, Any]) -> None:
    storage.write_text(place, json.dumps(document, indent=1, sort_keys=True))


def read_record(run: Run, table: str, kind: str) -> dict[str, Any] | None:
    """Read a record, None where it was not written."""
    place = f"{table_folder(run, table)}/{kind}.json"
    with storage_errors(f"reading {kind} of {table}, run {run.run_id}"):
        text = storage.read_text(manifest_place(run, table) if kind == STAGE else place)
    document: dict[str, Any] | None = None if text is None else json.loads(text)
    return document


def read_records(run: Run, kind: str) -> dict[str, dict[str, Any]]:
    """Read the records of one kind of all the run's tables, by table."""
    tables = [decoded(folder) for folder in storage.folders(run_folder(run))]
    found = {table: read_record(run, table, kind) for table in tables}
    return {table: record for table, record in found.items() if record is not None}


def forget(run: Run, table: str) -> None:
    """Take back what was said of a table's rows, and with it the run's report."""
    said = (f"{table_folder(run, table)}/{kind}.json" for kind in (VERDICT, PUBLICATION))
    storage.delete_files([*said, f"{run_folder(run)}/{REPORT}.json"])


def keep_only(run: Run, judged: Collection[str]) -> None:
    """Forget what former attempts said of tables that this one has not judged.

    Args:
        run: The DAG run.
        judged: The tables whose gates came to an end since the run was cleared last.
    """
    for table in map(decoded, storage.folders(run_folder(run))):
        if table not in judged:
            forget(run, table)


def manifest_place(run: Run, table: str) -> str:
    """Return where the manifest of a table's staged files stands: the newest attempt's, if any."""
    folder = table_folder(run, table)
    attempts = [f"{folder}/{attempt}" for attempt in reversed(storage.folders(folder))]
    whole = (attempt for attempt in attempts if _BATCH in storage.files(attempt))
    return next((f"{attempt}/{_BATCH}" for attempt in whole), f"{folder}/{STAGE}.json")


@dataclass(frozen=True)
class Batch:
    """Rows of a source that wait to be published in bronze.

    Args:
        table: Bronze table.
        token: Fencing token of the attempt (see `fences`), drawn before the source was read.
        rows_read: Rows that the source gave, refused ones included.
        files: Staged Parquet files with rows of the contract's columns, relative to the attempt's
            folder.
        letters: Parquet files of records that could not be parsed (see `letters`), likewise.
        rows_unparsed: Records that could not be parsed, also those without a letter of their own.
        digests: SHA-256 of each of these files, by path.
        bounds: Smallest and largest event time of the rows in `files`, None where there are none.
        hours: Event hours that this batch holds completely, for tables that replace whole hours.
        is_addition: Whether the batch's rows are added to their hours instead of replacing them.
        watermark: Microseconds since the epoch, UTC, up to which (exclusive) a mutable table was
            read; None where there is no watermark.
        is_distinct: Whether each key comes once, as the source itself guarantees.
        allow_shrink: Whether an hour may be replaced by fewer rows than it holds.
        held_back: Committed rows of the window that open transactions keep from being read.
    """

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


@dataclass(frozen=True)
class Build:
    """A dbt model's result that waits for its gate.

    Args:
        table: The table, as text (see `relation`).
        files: Parquet files, relative to the table's folder.
        schema: Delta schema, as JSON text.
        partition_by: Partition columns, at most one.
        replaced: Partition values that the files replace; None: the whole table.
        plan: What was read to build it.
        invocation_id: dbt's id of the invocation.
        description: The table's comment, None to leave it as it is.
        properties: Delta table properties.
        checks: Check constraints, name to condition.
        may_replace: Whether the build may replace a table that was there when it was planned.
        is_partial: Whether its parents were read in part only (`dbt run --empty`, `--sample`).
        is_rewrite: Whether the rows are those of the plan's version, changed on a copy.
    """

    table: str
    files: list[DataFile]
    schema: str
    partition_by: list[str]
    replaced: list[str] | None
    plan: Plan
    invocation_id: str
    description: str | None = None
    properties: dict[str, str] = field(default_factory=dict)
    checks: dict[str, str] = field(default_factory=dict)
    may_replace: bool = True
    is_partial: bool = False
    is_rewrite: bool = False


def attempt_folder(run: Run, batch: Batch) -> str:
    """Return the folder of one attempt's staged files and manifest."""
    return f"{table_folder(run, batch.table)}/{batch.token:020d}"


def save(run: Run, staged: Batch | Build) -> None:
    """Write the manifest: from now on the gate finds the staged files, and none was judged yet."""
    if isinstance(staged, Build):
        # `asdict` would make the relations that are keys of the plan dicts, which can't be keys.
        plan = {"base_version": staged.plan.base_version, "consumed": staged.plan.consumed}
        document = {**asdict(replace(staged, plan=_NO_PLAN)), "plan": plan}
        place = f"{table_folder(run, staged.table)}/{STAGE}.json"
    else:
        document = asdict(staged)
        place = f"{attempt_folder(run, staged)}/{_BATCH}"
    _write_whole(place, document)
    if manifest_place(run, staged.table) == place:  # a late attempt's files are nobody's
        forget(run, staged.table)


def load_batch(run: Run, table: str) -> Batch:
    """Read what the newest complete attempt of this run's extract task staged.

    Raises:
        StageMissingError: There is no manifest.
    """
    document = _load(run, table)
    for name in ("files", "letters"):
        document[name] = [DataFile.parse(file) for file in document[name]]
    held_back = document.pop("held_back", None)
    return Batch(**document, held_back=HeldBack(**held_back) if held_back else None)


def load_build(run: Run, table: str) -> Build:
    """Read what the dbt task of this run staged.

    Raises:
        StageMissingError: There is no manifest.
    """
    document = _load(run, table)
    document["files"] = [DataFile.parse(file) for file in document["files"]]
    document["plan"] = Plan(**document["plan"], touched=None)
    return Build(**document)


def _load(run: Run, table: str) -> dict[str, Any]:
    document = read_record(run, table, STAGE)
    if document is None:
        raise StageMissingError(
            expected="a manifest of staged files",
            came="none",
            where=f"table {table}, run {run.run_id}",
            remedy="clear the task that stages this table (extract, or the dbt model) and its gate",
        )
    return document
