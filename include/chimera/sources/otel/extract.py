"""Spans in files of an OpenTelemetry Collector: calls of models, and judgements of their answers.

No order is guaranteed: a span's parent may stand in another line or file, or come an hour later. So
a run reads whole files, of its window's hours and of the lookback before them, and publishes what
bronze does not hold yet (docs/adr/0031).
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from msgspec.structs import asdict

from include.chimera.contracts import EVALUATIONS, GENERATIONS, IS_DELETED, PARTITION, ROW_HASH
from include.chimera.fault_points import fault_point
from include.chimera.lake.delta.scans import empty, live_rows
from include.chimera.lake.delta.tables import open_table
from include.chimera.lake.staged.fencing_tokens import draw_token
from include.chimera.lake.staged.manifests import Batch
from include.chimera.lake.staged.stage_rows import stage_rows
from include.chimera.settings import get_settings
from include.chimera.sources.otel.model_calls import ATTRIBUTES, RESULT, evaluation_of, model_call
from include.chimera.sources.otel.span_files import MALFORMED_LINE, BadLine, Span, read_spans
from include.chimera.sources.refused_records import RefusedRecords
from include.chimera.sources.reports.evaluations import identity
from include.chimera.sources.row_versions import typed
from include.chimera.sources.stored.local_copies import CopyFaultError, local_copy
from include.chimera.sources.stored.stored_files import ANEW, PACKED, Purpose, all_listed
from include.chimera.window import HOUR, hour_label

if TYPE_CHECKING:
    from collections.abc import Iterator

    from include.chimera.contracts import Contract
    from include.chimera.sources.stored.stored_files import SourceFile, SourceRoot
    from include.chimera.window import Run

logger = logging.getLogger(__name__)
PURPOSE = Purpose("the Collector's spans", "CHIMERA_SPANS_ROOT", "CHIMERA_LOGS_CONNECTION")
WITHOUT_TIME = "span_without_time"
_ENDINGS = (".json", ".jsonl")
_BATCH_ROWS = 2_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_GONE = "is_gone"
_PLACE = [pa.field(name, pa.string()) for name in ("trace", "span", "parent")]
_CALLS = pa.schema(
    [
        *_PLACE,
        pa.field("is_call", pa.bool_()),
        pa.field("has_usage", pa.bool_()),
        *(
            GENERATIONS.schema.field(name).with_nullable(True)
            for name in GENERATIONS.source_columns
        ),
    ]
)
_RESULTS = pa.schema([EVALUATIONS.schema.field(name) for name in EVALUATIONS.source_columns])


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
    batch = Batch(contract.name, draw_token(contract.name))
    is_calls = contract is GENERATIONS
    with RefusedRecords() as refused:
        reader = _Reader(root, run, refused)
        rows = reader.calls() if is_calls else reader.results()
        schema = _CALLS if is_calls else _RESULTS
        return stage_rows(
            run,
            batch,
            pa.RecordBatchReader.from_batches(schema, _batches(rows, schema)),
            query=_calls_query() if is_calls else typed(EVALUATIONS),
            refused=refused.batches,
            omitted=refused.omitted,
            is_met_again=True,
            is_rowwise=not is_calls,
            is_read_again=is_calls,
        )


def _batches(rows: Iterator[dict[str, Any]], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    chunk: list[dict[str, Any]] = []
    for row in rows:
        chunk.append(row)
        if len(chunk) == _BATCH_ROWS:
            yield pa.RecordBatch.from_pylist(chunk, schema)
            chunk = []
    if chunk:
        yield pa.RecordBatch.from_pylist(chunk, schema)


@dataclass
class _Reader:
    """Reads the files of one run."""

    root: SourceRoot
    run: Run
    refused: RefusedRecords

    def calls(self) -> Iterator[dict[str, Any]]:
        """Yield each span's place among the others, and the call that it tells of, if it does."""
        window_end = (self.run.window.end - _EPOCH) // _MICROSECOND
        for file, index, span in self._spans():
            if span.is_record:
                continue
            place = {"trace": span.trace, "span": span.span, "parent": span.parent}
            call = model_call(span)
            if call is None:
                if span.span:
                    yield {**place, "is_call": False}
                continue
            end = span.end or span.start
            if end is None:
                where = {"file": file, "index": index}
                self.refused.add(WITHOUT_TIME, where, b"{}", hour_label(self.run.window.start))
            elif end // 1000 < window_end:
                columns = asdict(call)
                start = min(span.start or end, end)
                yield {
                    **place,
                    **columns,
                    "is_call": True,
                    # An instrumentation without ids: the call's own facts have to do.
                    "generation_id": f"{span.trace}:{span.span}"
                    if span.trace and span.span
                    else identity("otel", start, end, *columns.values()),
                    # Microseconds, as Arrow has them: a datetime for each row would cost more.
                    "created_at": start // 1000,
                    "updated_at": end // 1000,
                    "latency_ms": (end - start) / 1e6 if span.start and span.end else None,
                }

    def results(self) -> Iterator[dict[str, Any]]:
        """Yield the judgements that stand in events of spans, and in log records."""
        for _, _, span in self._spans():
            for place, event in enumerate(span.events):
                nanoseconds = event.nanoseconds or span.end
                if event.name != RESULT or nanoseconds is None:
                    continue
                moment = _moment(nanoseconds)
                if moment < self.run.window.end:
                    yield {
                        **vars(evaluation_of(span, event, place, moment)),
                        "updated_at": moment,
                    }

    def _spans(self) -> Iterator[tuple[str, int, Span]]:
        """Yield the spans of the files that may hold some of the window, with file and number."""
        lower = self.run.window.start - get_settings().lookback_hours * HOUR
        for listing in all_listed(self.root, is_span_file):
            for file in listing.files:
                if file.fault:
                    self._refuse(file.name, file.fault)
                elif datetime.fromtimestamp(file.written_at(), UTC) >= lower:
                    yield from self._file(file)

    def _file(self, file: SourceFile) -> Iterator[tuple[str, int, Span]]:
        is_new = datetime.now(UTC) - datetime.fromtimestamp(file.written_at(), UTC) < HOUR
        try:
            with local_copy(file) as copy:
                for index, found in enumerate(read_spans(copy.file, ATTRIBUTES, may_grow=is_new)):
                    if isinstance(found, BadLine):
                        where = {"file": file.name, "offset": found.offset, "bytes": found.length}
                        payload = f'{{"bytes": {found.length}}}'.encode()
                        label = hour_label(self.run.window.start)
                        self.refused.add(MALFORMED_LINE, where, payload, label)
                    else:
                        yield file.name, index, found
        except CopyFaultError as fault:
            self._refuse(file.name, fault.reason)

    def _refuse(self, name: str, reason: str) -> None:
        logger.warning("%s is not read: %s", name, reason)
        self.refused.add(reason, {"file": name}, b"", hour_label(self.run.window.start))


def _moment(nanoseconds: int) -> datetime:
    return _EPOCH + timedelta(microseconds=nanoseconds // 1000)


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
            select rowid from source
            where is_call and generation_id in (
                select generation_id from source
                where is_call group by generation_id having count(*) > 1
            )
            qualify row_number() over (partition by generation_id order by updated_at desc) > 1
        ),
        calls as not materialized (
            from source where is_call and rowid not in (from older)
        ),
        places as materialized ( -- of the traces in which a call may be told twice
            select trace, span, parent, has_usage, generation_id,
                is_call and rowid not in (from older) as is_call
            from source
            where trace in (
                select trace from source
                where is_call and trace <> '' group by trace having count(*) > 1
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
    return typed(GENERATIONS, deleted=_GONE).replace("from source", f"from ({rows})", 1)
