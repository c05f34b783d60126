"""Spans in files of an OpenTelemetry Collector: calls of models, and judgements of their answers.

No order is guaranteed: a span's parent may stand in another line or file, or come an hour later. So
a run reads whole files, of its window's hours and of the lookback before them, and publishes what
bronze does not hold yet (docs/adr/0031).
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from include.chimera.contracts import EVALUATIONS, GENERATIONS, IS_DELETED, PARTITION, ROW_HASH
from include.chimera.fault_points import fault_point
from include.chimera.lake.delta.scans import empty, live_rows
from include.chimera.lake.delta.tables import open_table
from include.chimera.lake.staged.fencing_tokens import draw_token
from include.chimera.lake.staged.manifests import Batch
from include.chimera.lake.staged.stage_rows import Prepared, row_batches, stage_rows
from include.chimera.lake.store.duckdb_sessions import quote
from include.chimera.settings import get_settings
from include.chimera.sources.otel.span_files import MALFORMED_LINE, BadLine, read_spans
from include.chimera.sources.refused_records import RefusedRecords
from include.chimera.sources.row_versions import completed, typed
from include.chimera.sources.stored.local_copies import CopyFaultError, local_copy
from include.chimera.sources.stored.stored_files import ANEW, PACKED, Purpose, all_listed
from include.chimera.window import HOUR, hour_label

if TYPE_CHECKING:
    from collections.abc import Iterator

    import duckdb

    from include.chimera.contracts import Contract
    from include.chimera.sources.stored.stored_files import SourceFile, SourceRoot
    from include.chimera.window import Run

logger = logging.getLogger(__name__)
PURPOSE = Purpose("the Collector's spans", "CHIMERA_SPANS_ROOT", "CHIMERA_LOGS_CONNECTION")
_ENDINGS = (".json", ".jsonl")
_GONE = "is_gone"
_LETTERS = 10_000  # fetched at once
# A span's or a log record's JSON: Python finds where it stands, and DuckDB's threads what it says.
# Read in Python, a million spans took 4.4 times as long as lines of a log (docs/performance.md).
_RECORDS = pa.schema(
    [
        pa.field("file", pa.string()),
        pa.field("index", pa.int64()),
        pa.field("is_log", pa.bool_()),
        pa.field("content", pa.binary()),
    ]
)
_QUERIES = {GENERATIONS.name: "calls.sql", EVALUATIONS.name: "judgements.sql"}


def is_span_file(name: str) -> bool:
    """Is it a file of spans, by its name?"""
    return name.removesuffix(PACKED).endswith(_ENDINGS) and name[0] not in "._"


def extract_spans(contract: Contract, root: SourceRoot, run: Run) -> Batch:
    """Stage the calls of models, or the judgements of their answers, in the files that are due.

    Of the spans around one call that all bear its tokens, the innermost is the call. One that was
    published before its inner span came gets a tombstone.

    Args:
        contract: bronze.generations or bronze.evaluations.
        root: Where the Collector writes, in folders of any depth.
        run: The run; what happened after its window is left to later runs.

    Raises:
        ConfigurationError: An object store refuses the key, or has no such bucket.
        SourceUnavailableError: A folder can't be listed, or a file can't be read.
    """
    fault_point("extract.start")
    staged = ANEW(_stage, contract, root, run)
    logger.info("staged %s rows of spans, refused %s", staged.rows_read, staged.rows_unparsed)
    return staged


def _stage(contract: Contract, root: SourceRoot, run: Run) -> Batch:
    is_calls = contract is GENERATIONS
    with RefusedRecords() as refused:
        reader = _Reader(root, run, refused)
        rows = pa.RecordBatchReader.from_batches(_RECORDS, row_batches(_RECORDS, reader.records()))
        return stage_rows(
            run,
            Batch(contract.name, draw_token(contract.name)),
            rows,
            prepared=_prepared(contract, run),
            query=_calls_query() if is_calls else _judgements_query(),
            refused=reader.refusals,
            omitted=refused.omitted,
            is_met_again=True,
        )


def _prepared(contract: Contract, run: Run) -> Prepared:
    query, macros = (
        Path(__file__).with_name(name).read_text()
        for name in (_QUERIES[contract.name], "spans.sql")
    )
    end = f"set variable window_end = timestamptz {quote(run.window.end.isoformat())}"
    return Prepared(query, f"{macros}\n{end}")


@dataclass
class _Reader:
    """Reads the files of one run."""

    root: SourceRoot
    run: Run
    refused: RefusedRecords

    def refusals(self, session: duckdb.DuckDBPyConnection) -> Iterator[pa.RecordBatch]:
        """Return what is refused: lines and files, and spans that `source` has a reason for."""
        found = session.execute('select reason, file, "index" from source where reason is not null')
        while some := found.fetchmany(_LETTERS):
            for reason, file, index in some:
                self._refuse(reason, {"file": file, "index": index}, b"{}")
        return self.refused.batches()

    def records(self) -> Iterator[tuple[str, int, bool, bytes]]:
        """Yield the `_RECORDS` of the files that may hold some of the window."""
        lower = self.run.window.start - get_settings().lookback_hours * HOUR
        for listing in all_listed(self.root, is_span_file):
            for file in listing.files:
                if file.fault:
                    self._refuse_file(file.name, file.fault)
                elif datetime.fromtimestamp(file.written_at(), UTC) >= lower:
                    yield from self._file(file)

    def _file(self, file: SourceFile) -> Iterator[tuple[str, int, bool, bytes]]:
        is_new = datetime.now(UTC) - datetime.fromtimestamp(file.written_at(), UTC) < HOUR
        try:
            with local_copy(file) as copy:
                for index, found in enumerate(read_spans(copy.file, may_grow=is_new)):
                    if isinstance(found, BadLine):
                        where = {"file": file.name, "offset": found.offset, "bytes": found.length}
                        self._refuse(MALFORMED_LINE, where, f'{{"bytes": {found.length}}}'.encode())
                    else:
                        yield file.name, index, found.is_log, found.content
        except CopyFaultError as fault:
            self._refuse_file(file.name, fault.reason)

    def _refuse_file(self, name: str, reason: str) -> None:
        logger.warning("%s is not read: %s", name, reason)
        self._refuse(reason, {"file": name}, b"")

    def _refuse(self, reason: str, where: dict[str, object], payload: bytes) -> None:
        self.refused.add(reason, where, payload, hour_label(self.run.window.start))


def _judgements_query() -> str:
    told = completed(EVALUATIONS, "from source where reason is null")
    return typed(EVALUATIONS, rows=f"({told})")


def _calls_query() -> str:
    """Return the query that keeps one span of each call, and buries what was published too early.

    Of nested spans that tell of a call, one with tokens is the call unless one inside it has tokens
    too. One without tokens (a failed call) is a call if nothing inside it is one, and nothing
    around it is that has tokens.
    """
    columns = ", ".join(GENERATIONS.source_columns)
    table = open_table(GENERATIONS.name)
    live = empty(GENERATIONS.schema) if table is None else live_rows(table, GENERATIONS)
    rows = f"""
        with recursive older as materialized ( -- of a span that stands there again
            select file, "index" from source
            where is_call and hash(generation_id) in (
                select hash(generation_id) from source
                where is_call group by all having count(*) > 1
            )
            qualify row_number() over (partition by generation_id order by updated_at desc) > 1
        ),
        calls as not materialized (
            from source anti join older using (file, "index") where is_call
        ),
        places as materialized ( -- of the traces in which a call may be told twice
            select trace, span, parent, has_usage, generation_id,
                is_call and (file, "index") not in (from older) as is_call
            from source
            where hash(trace) in (
                select hash(trace) from source
                where is_call and trace <> '' group by all having count(*) > 1
            )
        ),
        around as (
            select trace, span, parent, generation_id, has_usage from places where is_call
            union
            select places.trace, places.span, places.parent, around.generation_id, around.has_usage
            from around
            inner join places on places.trace = around.trace and places.span = around.parent
        ),
        pairs as materialized (
            select distinct
                outer_call.generation_id as outer_id,
                outer_call.has_usage as outer_has_usage,
                around.generation_id as inner_id,
                around.has_usage as inner_has_usage
            from around
            inner join places as outer_call
                on outer_call.is_call
                and outer_call.trace = around.trace and outer_call.span = around.span
            where outer_call.generation_id <> around.generation_id
        ),
        repeating as (select outer_id from pairs where inner_has_usage),
        dropped as materialized (
            select outer_id as generation_id from pairs where inner_has_usage or not outer_has_usage
            union
            select inner_id from pairs
            where not inner_has_usage and outer_has_usage and outer_id not in (from repeating)
        ),
        held as (
            select generation_id from (
                select generation_id, {IS_DELETED} from ({live})
                where {PARTITION} in (
                    select distinct strftime(updated_at at time zone 'UTC', '%Y%m%dT%H') from calls
                    where generation_id in (from dropped)
                )
                qualify row_number() over (
                    partition by generation_id order by updated_at desc, {ROW_HASH} desc
                ) = 1
            )
            where not {IS_DELETED}
        )
        select {columns}, false as {_GONE} from calls
        where generation_id not in (from dropped)
        union all
        select {columns.replace("updated_at", "updated_at + interval 1 microsecond as updated_at")},
            true as {_GONE}
        from calls
        where generation_id in (from dropped) and generation_id in (from held)
    """
    return typed(GENERATIONS, deleted=_GONE, rows=f"({rows})")
