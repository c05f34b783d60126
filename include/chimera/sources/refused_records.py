"""Collect refused records for the dead letters, on disk because there may be many."""

from __future__ import annotations

import json
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Any, Self

import pyarrow as pa

from include.chimera.lake.dead_letters.letters import PAYLOAD_BYTES
from include.chimera.lake.staged.stage_rows import REFUSED_SCHEMA

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

# Enough to see what is wrong and to replay rare records. Beyond that the whole place is bad: fix
# the cause and read the hour again.
LETTERS_A_PLACE = 1_000
MORE = "more_refused"
_BATCH_BYTES, _BATCH_ROWS = 4 * 1024 * 1024, 10_000


class RefusedRecords:
    """Collects records while a source is read, and returns them afterwards.

    For each place (a file, an answer) it keeps `LETTERS_A_PLACE` records, plus one that counts the
    rest.
    """

    def __init__(self) -> None:
        self._file = TemporaryFile()  # noqa: SIM115 - closed by __exit__
        self._writer = pa.ipc.new_stream(self._file, REFUSED_SCHEMA)
        self._waiting: list[tuple[str, str, bytes, str]] = []
        self._bytes = 0
        self._found: dict[tuple[str, object, str], int] = {}

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Remove the records."""
        self._writer.close()
        self._file.close()

    def add(self, reason: str, where: Mapping[str, Any], payload: bytes, label: str) -> None:
        """Keep a record, cutting its payload to one byte more than a letter holds.

        The extra byte shows that the payload was cut, and a huge payload is never held whole.

        Args:
            reason: Why the record is refused.
            where: Its coordinates, with its place first.
            payload: The raw record; if empty, the record is about the place itself and always kept.
            label: The hour that it belongs to.
        """
        if not payload:
            self._keep(reason, json.dumps(where), payload, label)
            return
        place = *next(iter(where.items())), label
        self._found[place] = found = self._found.get(place, 0) + 1
        if found <= LETTERS_A_PLACE:
            self._keep(reason, json.dumps(where), payload[: PAYLOAD_BYTES + 1], label)

    def omitted(self) -> int:
        """Return how many records have no letter, less one per place for the letter of the rest."""
        return sum(max(found - LETTERS_A_PLACE - 1, 0) for found in self._found.values())

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yield all records as batches of `REFUSED_SCHEMA`; add none after this."""
        for (key, place, label), found in self._found.items():
            if found > LETTERS_A_PLACE:
                where = {key: place, "offset": 0, "records": found - LETTERS_A_PLACE}
                self._keep(MORE, json.dumps(where), b"", label)
        self._flush()
        self._writer.close()
        self._file.seek(0)
        with pa.ipc.open_stream(self._file) as reader:
            yield from reader

    def _keep(self, reason: str, coordinates: str, payload: bytes, label: str) -> None:
        self._waiting.append((reason, coordinates, payload, label))
        self._bytes += len(payload)
        if self._bytes >= _BATCH_BYTES or len(self._waiting) >= _BATCH_ROWS:
            self._flush()

    def _flush(self) -> None:
        columns = list(zip(*self._waiting, strict=True)) or [()] * len(REFUSED_SCHEMA)
        arrays = [
            pa.array(column, type=kind.type)
            for column, kind in zip(columns, REFUSED_SCHEMA, strict=True)
        ]
        self._writer.write_batch(pa.record_batch(arrays, schema=REFUSED_SCHEMA))
        self._waiting, self._bytes = [], 0
