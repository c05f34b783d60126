"""The API's JSON-lines logs: `<root>/dt=YYYY-MM-DD/hour=HH/*.jsonl[.N][.gz]`.

A file stands in the hour in which it was written; a line may be late, so an event hour is made
again from all files that may hold lines of it.
"""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import pyarrow as pa

from include.chimera.contracts import API_LOGS, PARTITION
from include.chimera.faults import fault_point
from include.chimera.lake.fences import draw_token
from include.chimera.lake.stage import Batch
from include.chimera.lake.staging import stage_rows
from include.chimera.settings import get_settings
from include.chimera.sources.log_files import (
    Line,
    hour_folder,
    log_files,
    plain_name,
    read_lines,
)
from include.chimera.sources.refused import RefusedRecords
from include.chimera.window import HOUR, Window, hour_label

if TYPE_CHECKING:
    from collections.abc import Iterator

    from include.chimera.window import Run

logger = logging.getLogger(__name__)
_BATCH_ROWS = 20_000
MALFORMED, OUT_OF_REACH = "malformed_line", "timestamp_outside_lookback"

_Int64 = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]


class LogLine(msgspec.Struct):
    """One line as the API writes it; only the time is required."""

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


def parse_line(content: bytes) -> dict[str, object] | None:
    """Return a line's fields and its `_window_hour`, None where it is not the API's.

    Any bytes may come: no JSON, no UTF-8, no time zone, nested deeper than the parser goes, numbers
    or times that no column can hold.
    """
    try:
        parsed = _DECODER.decode(content)
        label = hour_label(parsed.timestamp) if parsed.timestamp.tzinfo else None
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, OverflowError):
        return None
    return {**msgspec.structs.asdict(parsed), PARTITION: label} if label else None


def lineage_of(file: str, offset: int, content: bytes) -> dict[str, object]:
    """Return the lineage columns of a line."""
    line_hash = hashlib.md5(content, usedforsecurity=False).hexdigest()
    return {"_file": file, "_offset": offset, "_line_hash": line_hash}


@dataclass
class _Reader:
    """Reads the files of a run once: rows as they come, refusals kept for the end."""

    root: Path
    window: Window
    lookback: int
    now: datetime
    refused: RefusedRecords = field(default_factory=RefusedRecords)

    def rows(self) -> Iterator[dict[str, object]]:
        """Yield the rows of the event hours [window start - lookback, window end)."""
        wanted = set(self.window.widened(hours_before=self.lookback).labels())
        # A file may hold lines of the hours on both sides, also of the first hour wanted.
        for hour in self.window.widened(2 * self.lookback, self.lookback).hours():
            label = hour_label(hour.start)
            near = set(hour.widened(self.lookback, self.lookback).labels())
            for name, line in self._lines(hour):
                row = parse_line(line.content) if line.fault is None else None
                found = row[PARTITION] if row else None
                if row and found in wanted and found in near:
                    yield {**row, **lineage_of(name, line.offset, line.content)}
                elif label in wanted and found not in near:
                    reason = line.fault or (OUT_OF_REACH if row else MALFORMED)
                    self._refuse(reason, name, line, label)

    def _lines(self, hour: Window) -> Iterator[tuple[str, Line]]:
        """Yield each line of the hour's files with its file's plain name below the root.

        A file may grow until the last run has looked at its hour through the lookback.
        """
        is_finished = self.now >= hour.end + self.lookback * HOUR
        for path in log_files(hour_folder(self.root, hour.start)):
            name = str(plain_name(path).relative_to(self.root))
            for line in read_lines(path, is_finished=is_finished):
                yield name, line

    def _refuse(self, reason: str, name: str, line: Line, label: str) -> None:
        where = {"file": name, "offset": line.offset, "bytes": line.length}
        self.refused.add(reason, json.dumps(where), line.content, label)


def _batches(rows: Iterator[dict[str, object]]) -> Iterator[pa.RecordBatch]:
    while chunk := list(islice(rows, _BATCH_ROWS)):
        yield pa.RecordBatch.from_pylist(chunk, schema=API_LOGS.schema)


def extract_api_logs(root: str, run: Run, *, allow_shrink: bool = False) -> Batch:
    """Stage the event hours that the run's window and the lookback before it cover.

    A line that is no JSON of the known types, is longer than a MiB, or whose time lies further from
    its file's hour than the lookback, is refused.

    Args:
        root: Folder of the logs.
        run: Its window bounds what is read.
        allow_shrink: Whether an hour may lose rows, because its files were rotated away.

    Raises:
        SourceUnavailableError: A file changed while it was read.
    """
    lookback = get_settings().lookback_hours
    hours = run.window.widened(hours_before=lookback).labels()
    token = draw_token(API_LOGS.name, hours)
    fault_point("extract.start")
    with RefusedRecords() as refused:
        reader = _Reader(Path(root), run.window, lookback, datetime.now(UTC), refused)
        rows = pa.RecordBatchReader.from_batches(API_LOGS.schema, _batches(reader.rows()))
        batch = Batch(API_LOGS.name, token, hours=hours, allow_shrink=allow_shrink)
        staged = stage_rows(run, batch, rows, refused=refused.batches)
    logger.info("staged %s lines, refused %s", staged.rows_read, staged.rows_unparsed)
    return staged
