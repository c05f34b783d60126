"""The API's JSON-lines logs: `<root>/dt=YYYY-MM-DD/hour=HH/*.jsonl[.gz]`.

A file stands in the hour in which it was written; a line may be late, so an event hour is made
again from all files that may hold lines of it.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import logging
from dataclasses import dataclass, field
from datetime import datetime  # noqa: TC003 - msgspec resolves it at run time
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO, cast

import msgspec
import pyarrow as pa

from include.chimera.contracts import API_LOGS, PARTITION
from include.chimera.lake.stage import Batch
from include.chimera.lake.staging import REFUSED_SCHEMA, stage_rows
from include.chimera.settings import get_settings
from include.chimera.window import Window, hour_label

if TYPE_CHECKING:
    from collections.abc import Iterator

    from include.chimera.window import Run

logger = logging.getLogger(__name__)
_BATCH_ROWS = 20_000
MALFORMED, OUT_OF_REACH = "malformed_line", "timestamp_outside_lookback"


# What the lake's column can hold: a longer number is a malformed line, not a failed extraction.
Int64 = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]


class LogLine(msgspec.Struct):
    """One line as the API writes it; only the time is required."""

    timestamp: datetime
    level: str | None = None
    request_id: str | None = None
    method: str | None = None
    path: str | None = None
    status_code: Int64 | None = None
    duration_ms: float | None = None
    user_id: str | None = None
    response_bytes: Int64 | None = None
    message: str | None = None


@dataclass
class _Reader:
    """Reads the files of a run once: rows as they come, refusals kept for the end."""

    root: Path
    window: Window
    lookback: int
    refused: list[dict[str, object]] = field(default_factory=list)

    def rows(self) -> Iterator[dict[str, object]]:
        """Yield the rows of the event hours [window start - lookback, window end)."""
        wanted = set(self.window.widened(hours_before=self.lookback).labels())
        own = set(self.window.labels())
        # A file may hold lines of the hours on both sides, also of the first hour wanted.
        reach = self.window.widened(2 * self.lookback, self.lookback)
        for hour in reach.hours():
            label = hour_label(hour.start)
            folder = self.root / f"dt={hour.start:%Y-%m-%d}" / f"hour={hour.start:%H}"
            near = set(hour.widened(self.lookback, self.lookback).labels())
            for path in sorted((*folder.glob("*.jsonl"), *folder.glob("*.jsonl.gz"))):
                for offset, line in _lines(path):
                    row = self._parse(path, offset, line)
                    found = row[PARTITION] if row else None
                    if row and found in wanted and found in near:
                        yield row
                    elif label in own and found not in near:
                        reason = OUT_OF_REACH if row else MALFORMED
                        self._refuse(reason, path, offset, line, label)

    def _parse(self, path: Path, offset: int, line: bytes) -> dict[str, object] | None:
        try:
            parsed = _DECODER.decode(line)
            if parsed.timestamp.tzinfo is None:
                return None
            label = hour_label(parsed.timestamp)
        except (msgspec.MsgspecError, UnicodeDecodeError, OverflowError):
            return None  # OverflowError: a time whose UTC lies outside the years 1 to 9999
        return {
            **msgspec.structs.asdict(parsed),
            "_file": str(path.relative_to(self.root)),
            "_offset": offset,
            "_line_hash": hashlib.md5(line, usedforsecurity=False).hexdigest(),
            PARTITION: label,
        }

    def _refuse(self, reason: str, path: Path, offset: int, line: bytes, label: str) -> None:
        where = {"file": str(path.relative_to(self.root)), "offset": offset}
        self.refused.append(
            {
                "reason": reason,
                "coordinates": json.dumps(where),
                "payload": line,
                PARTITION: label,
            }
        )

    def refusals(self) -> Iterator[pa.RecordBatch]:
        """Yield the records that no hour can take; call it once `rows` is used up."""
        if self.refused:
            yield pa.RecordBatch.from_pylist(self.refused, schema=REFUSED_SCHEMA)


_DECODER = msgspec.json.Decoder(LogLine)


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield each line that is not blank with its byte offset (of the unpacked file)."""
    offset = 0
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        for line in cast("BinaryIO", file):
            stripped = line.rstrip(b"\r\n")
            if stripped:
                yield offset, stripped
            offset += len(line)


def _batches(rows: Iterator[dict[str, object]]) -> Iterator[pa.RecordBatch]:
    while chunk := list(islice(rows, _BATCH_ROWS)):
        yield pa.RecordBatch.from_pylist(chunk, schema=API_LOGS.schema)


def extract_api_logs(root: str, run: Run) -> Batch:
    """Stage the event hours that the run's window and the lookback before it cover.

    A line that is no JSON of the known types, or whose time lies further from its file's hour than
    the lookback, is refused by the run whose window holds the file.
    """
    lookback = get_settings().lookback_hours
    reader = _Reader(Path(root), run.window, lookback)
    rows = pa.RecordBatchReader.from_batches(API_LOGS.schema, _batches(reader.rows()))
    hours = run.window.widened(hours_before=lookback).labels()
    staged = stage_rows(
        run, Batch(API_LOGS.name, 0, [], hours=hours), rows, refused=reader.refusals()
    )
    logger.info("staged %s lines, refused %s", staged.rows_read, staged.rows_unparsed)
    return staged
