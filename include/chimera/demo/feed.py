"""One hour of the sample application's data, whether generated or replayed from real traces."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import pyarrow as pa
import pyarrow.compute as pc

from include.chimera import contracts

if TYPE_CHECKING:
    from collections.abc import Iterable

    from include.chimera.demo.openmetrics import Family
    from include.chimera.window import Window

LOG_FIELDS = tuple(contracts.API_LOGS.source_columns)
NAMESPACE = uuid.uuid5(uuid.NAMESPACE_DNS, "chimera.demo")
_encode = json.JSONEncoder(separators=(",", ":")).encode


def _source_schema(contract: contracts.Contract) -> pa.Schema:
    return pa.schema([contract.schema.field(name) for name in contract.common_columns])


GENERATIONS = _source_schema(contracts.GENERATIONS)
EVALUATIONS = _source_schema(contracts.EVALUATIONS)
MODELS = _source_schema(contracts.MODELS)


@dataclass(frozen=True)
class HourData:
    """All data of the sample application from one hour.

    Args:
        tables: Rows created in the hour, as they are at its end, by table of the schema `app`;
            without models, which belong to no hour.
        log_lines: The hour's API log file, line by line, including malformed lines.
        families: The hour's metric samples.
    """

    tables: dict[str, pa.Table]
    log_lines: list[bytes]
    families: list[Family]


class Feed(Protocol):
    """Makes hours; each is the same whichever other hours are requested."""

    @property
    def fingerprint(self) -> str:
        """Identifies the source of the data: feeds with equal fingerprints make equal hours."""

    def models(self) -> pa.Table:
        """Return all rows of app.models."""

    def hour(self, window: Window) -> HourData:
        """Make the one hour that `window` spans."""

    def settlements(self, window: Window) -> pa.Table:
        """Return newer versions, updated after the hour's end, of generations created in it."""


def row_ids(prefix: str, numbers: Iterable[int]) -> list[str]:
    """Return one stable UUID per row number, as text."""
    return [str(uuid.uuid5(NAMESPACE, f"{prefix}/{number}")) for number in numbers]


def rows_within(table: pa.Table, column: str, window: Window) -> pa.Table:
    """Return the rows whose time is in the window."""
    moments = table[column]
    start, end = (pa.scalar(moment, moments.type) for moment in (window.start, window.end))
    return table.filter(pc.and_(pc.greater_equal(moments, start), pc.less(moments, end)))


def log_line(*values: object) -> bytes:
    """Encode one line of the API's log; `values` are in the order of `LOG_FIELDS`."""
    return _encode(dict(zip(LOG_FIELDS, values, strict=True))).encode()


def log_level(status_code: int) -> str:
    """Return the level at which the API logs a response with this HTTP status."""
    if status_code >= 500:  # noqa: PLR2004 -- RFC 9110: server errors
        return "error"
    return "warning" if status_code >= 400 else "info"  # noqa: PLR2004 -- RFC 9110: client errors
