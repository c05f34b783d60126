"""Hold a file's rows on disk until all of it is read: it is published whole or not at all."""

from __future__ import annotations

from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Any, Self

import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_BATCH_ROWS = 2_000


class SpooledRows:
    """Collects rows, and returns them afterwards as batches.

    Args:
        schema: The rows' columns.
    """

    def __init__(self, schema: pa.Schema) -> None:
        self._schema = schema
        self._file = TemporaryFile()  # noqa: SIM115 - closed by __exit__
        self._writer = pa.ipc.new_stream(self._file, schema)
        self._waiting: list[Mapping[str, Any]] = []

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Remove the rows."""
        self._writer.close()
        self._file.close()

    def add(self, row: Mapping[str, Any]) -> None:
        """Keep a row."""
        self._waiting.append(row)
        if len(self._waiting) >= _BATCH_ROWS:
            self._flush()

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yield all rows; add none after this."""
        self._flush()
        self._writer.close()
        self._file.seek(0)
        with pa.ipc.open_stream(self._file) as reader:
            yield from reader

    def _flush(self) -> None:
        if self._waiting:
            self._writer.write_batch(pa.RecordBatch.from_pylist(self._waiting, self._schema))
            self._waiting = []
