"""Refused records on their way to the dead letters, kept on disk: there may be many."""

from __future__ import annotations

from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Self

import pyarrow as pa

from include.chimera.lake.letters import PAYLOAD_BYTES
from include.chimera.lake.staging import REFUSED_SCHEMA

if TYPE_CHECKING:
    from collections.abc import Iterator

_BATCH_BYTES = 4 * 1024 * 1024


class RefusedRecords:
    """Collects records while a source is read, and gives them back once it is read."""

    def __init__(self) -> None:
        self._file = TemporaryFile()  # noqa: SIM115 - closed by __exit__
        self._writer = pa.ipc.new_stream(self._file, REFUSED_SCHEMA)
        self._waiting: list[tuple[str, str, bytes, str]] = []
        self._bytes = 0

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Remove what was kept."""
        self._writer.close()
        self._file.close()

    def add(self, reason: str, coordinates: str, payload: bytes, label: str) -> None:
        """Keep a record; of a longer payload, one byte more than a letter holds.

        So a letter tells that its payload was cut, and a gigantic one is never held whole.
        """
        kept = payload[: PAYLOAD_BYTES + 1]
        self._waiting.append((reason, coordinates, kept, label))
        self._bytes += len(kept)
        if self._bytes >= _BATCH_BYTES:
            self._flush()

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yield all records, as batches of `REFUSED_SCHEMA`; nothing may be added afterwards."""
        self._flush()
        self._writer.close()
        self._file.seek(0)
        with pa.ipc.open_stream(self._file) as reader:
            yield from reader

    def _flush(self) -> None:
        columns = list(zip(*self._waiting, strict=True)) or [()] * len(REFUSED_SCHEMA)
        arrays = [
            pa.array(column, type=kind.type)
            for column, kind in zip(columns, REFUSED_SCHEMA, strict=True)
        ]
        self._writer.write_batch(pa.record_batch(arrays, schema=REFUSED_SCHEMA))
        self._waiting, self._bytes = [], 0
