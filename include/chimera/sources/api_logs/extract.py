"""The API's JSON-lines logs: `<root>/dt=YYYY-MM-DD/hour=HH/*.jsonl[.N][.gz]`.

A file is in the folder of the hour in which it was written. A line may be late, so an event hour is
rebuilt from all files that may hold its lines.
"""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import msgspec
import pyarrow as pa

from include.chimera.contracts import API_LOGS, PARTITION
from include.chimera.fault_points import fault_point
from include.chimera.lake.staged.fencing_tokens import draw_token
from include.chimera.lake.staged.manifests import Batch
from include.chimera.lake.staged.stage_rows import row_batches, rows_of, stage_rows
from include.chimera.lake.store.duckdb_sessions import connect
from include.chimera.settings import get_settings
from include.chimera.sources.api_logs.log_files import (
    BOM,
    Line,
    read_lines,
    without_copies,
)
from include.chimera.sources.refused_records import RefusedRecords
from include.chimera.sources.stored.stored_files import ANEW, changed
from include.chimera.window import HOUR, Window, hour_label

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator

    from include.chimera.sources.api_logs.log_files import LogRoot
    from include.chimera.window import Run

logger = logging.getLogger(__name__)
_EPOCH, _MICROSECOND = datetime(1970, 1, 1, tzinfo=UTC), timedelta(microseconds=1)
# Lines are compared by hash. If there are many, only those with the lowest hashes: this samples the
# same lines of each file, so the share is unbiased and memory is bounded.
_COMPARED = 500_000

MALFORMED, OUT_OF_REACH = "malformed_line", "timestamp_outside_lookback"

_Int64 = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]


class LogLine(msgspec.Struct):
    """One line as the API writes it; only `timestamp` is required."""

    timestamp: datetime
    level: str | None = None
    request_id: str | None = None
    method: str | None = None
    path: str | None = None
    status_code: _Int64 | None = None
    duration_ms: float | None = None
    user_id: str | None = None
    response_bytes: _Int64 | None = None
    message: str | None = None


_DECODER = msgspec.json.Decoder(LogLine)
# The columns that Python passes on: a line's fields, its time in microseconds since 1970 (UTC), and
# its content, from which DuckDB's threads derive the rest while Python reads the next lines.
_READ = pa.schema(
    [
        pa.field("micros", pa.int64()),
        *(API_LOGS.schema.field(name) for name in LogLine.__struct_fields__[1:]),
        *(API_LOGS.schema.field(name) for name in ("_file", "_offset")),
        pa.field("content", pa.binary()),
    ]
)
_QUERY = f"""
    select
        make_timestamptz(micros) as "timestamp",
        * exclude (micros, content),
        md5(content) as _line_hash,
        strftime("timestamp", '%Y%m%dT%H') as {PARTITION}
    from source
"""


def parse_line(content: bytes) -> LogLine | None:
    """Return a line's fields, or None if it is not a valid line of the API.

    Accepts any bytes: not JSON, not UTF-8, no time zone, nested too deeply for the parser, numbers
    or times that no column can hold. A byte order mark, which some editors and shippers write, is
    ignored.
    """
    try:
        parsed = _DECODER.decode(content.removeprefix(BOM))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    return parsed if parsed.timestamp.tzinfo else None


def row_of(file: str, offset: int, content: bytes) -> dict[str, object] | None:
    """Return the bronze row of a line, or None if it is not a valid line of the API."""
    parsed = parse_line(content)
    if parsed is None:
        return None
    try:
        label = hour_label(parsed.timestamp)
    except OverflowError:  # a time at the calendar's edge that overflows in UTC
        return None
    return {
        **msgspec.structs.asdict(parsed),
        "_file": file,
        "_offset": offset,
        "_line_hash": hashlib.md5(content, usedforsecurity=False).hexdigest(),
        PARTITION: label,
    }


@dataclass
class _Reader:
    """Reads a run's files once, yielding rows and collecting refused lines."""

    root: LogRoot
    window: Window
    lookback: int
    now: datetime
    refused: RefusedRecords = field(default_factory=RefusedRecords)
    names: dict[Hashable, str] = field(default_factory=dict)

    def rows(self) -> Iterator[tuple[object, ...]]:
        """Yield the `_READ` values of each line in the event hours [start - lookback, end)."""
        wanted = self.window.widened(hours_before=self.lookback)
        # A file may hold lines of hours on both sides, including the first wanted hour.
        for hour in self.window.widened(2 * self.lookback, self.lookback).hours():
            near = hour.widened(self.lookback, self.lookback)
            start, end = max(wanted.start, near.start), min(wanted.end, near.end)
            is_wanted = wanted.start <= hour.start < wanted.end
            for name, line in self._lines(hour):
                parsed = parse_line(line.content) if line.fault is None else None
                if parsed and start <= parsed.timestamp < end:
                    micros = (parsed.timestamp - _EPOCH) // _MICROSECOND  # datetimes slow Arrow
                    _, *others = msgspec.structs.astuple(parsed)
                    yield (micros, *others, name, line.offset, line.content)
                elif is_wanted and not (parsed and near.start <= parsed.timestamp < near.end):
                    reason = line.fault or (OUT_OF_REACH if parsed else MALFORMED)
                    self._refuse(reason, name, line, hour_label(hour.start))

    def _lines(self, hour: Window) -> Iterator[tuple[str, Line]]:
        """Yield each line of the hour's files with its file's plain name below the root.

        A file may grow as long as a later run's lookback still reaches its hour; that run reads
        what comes after this one's listing. No run reads a finished hour again, so its files must
        no longer change.
        """
        is_finished = self.now >= hour.end + self.lookback * HOUR
        folder = self.root.hour(hour.start)
        if unread := folder.unread():
            logger.warning(
                "%s: %s names are not read, they end neither in .jsonl nor in .jsonl.gz: %s",
                folder.place,
                len(unread),
                unread[0],
            )
        for file in without_copies(folder.files):
            # A hard link in another hour's folder is the same file.
            name = self.names.setdefault(file.identity, file.name) if file.links > 1 else file.name
            for line in read_lines(file, is_finished=is_finished):
                yield name, line
        if is_finished and self.root.hour(hour.start).files != folder.files:
            raise changed(folder.place, "added, removed, renamed or replaced")

    def _refuse(self, reason: str, name: str, line: Line, label: str) -> None:
        where = {"file": name, "offset": line.offset, "bytes": line.length}
        self.refused.add(reason, where, line.content, label)


def extract_api_logs(root: LogRoot, run: Run, *, allow_shrink: bool = False) -> Batch:
    """Stage the event hours of the run's window and of the lookback before it.

    Refuse a line that is not JSON with the known types, is longer than 1 MiB, or whose time is
    further from its file's hour than the lookback.

    Args:
        root: Where the logs lie.
        run: The run, whose window limits what is read.
        allow_shrink: Whether an hour may lose rows because its files were rotated away.

    Raises:
        ConfigurationError: An object store refuses the key, or has no such bucket.
        SourceUnavailableError: A folder can't be listed, a file can't be read, or files change
            faster than they are read.
    """
    fault_point("extract.start")
    staged = ANEW(_stage, root, run, allow_shrink=allow_shrink)
    _warn_of_overlaps(run, staged)
    logger.info("staged %s lines, refused %s", staged.rows_read, staged.rows_unparsed)
    return staged


def _stage(root: LogRoot, run: Run, *, allow_shrink: bool) -> Batch:
    lookback = get_settings().lookback_hours
    hours = run.window.widened(hours_before=lookback).labels()
    token = draw_token(API_LOGS.name, hours)
    with RefusedRecords() as refused:
        reader = _Reader(root, run.window, lookback, datetime.now(UTC), refused)
        rows = pa.RecordBatchReader.from_batches(_READ, row_batches(_READ, reader.rows()))
        batch = Batch(API_LOGS.name, token, hours=hours, allow_shrink=allow_shrink)
        return stage_rows(
            run,
            batch,
            rows,
            query=_QUERY,
            refused=lambda _: refused.batches(),
            omitted=refused.omitted,
            is_rowwise=True,
        )


def _warn_of_overlaps(run: Run, batch: Batch) -> None:
    """Warn, by hour and file, of the share of lines that are in other files too.

    They stay rows: two requests may log the same line, and we don't know which file is the copy.
    """
    if not batch.files:
        return
    share = min(_COMPARED / max(sum(file.rows for file in batch.files), 1), 1.0)
    below = f"{min(int(share * 16**8), 16**8 - 1):08x}g"  # at share 1, larger than any hash
    lines = f"select {PARTITION}, _file, _line_hash from ({rows_of(run, batch)})"
    with connect() as connection:
        found = connection.execute(
            f"select {PARTITION}, _file, avg(is_shared::int) as part from ("
            f"select *, min(_file) over same <> max(_file) over same as is_shared from ({lines}) "
            f"where _line_hash < '{below}' window same as (partition by {PARTITION}, _line_hash)"
            ") group by all having part > 0 order by all"
        ).fetchall()
    for hour, file, part in found:
        logger.warning(
            "%.1f %% of the lines of %s in hour %s stand in another file, too: each is a row; "
            "if it is a copy, move it out of the logs' folder and run the hour again",
            100 * part,
            file,
            hour,
        )
