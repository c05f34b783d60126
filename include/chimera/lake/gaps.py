"""Hours that the ledger does not account for, and what backfills them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from include.chimera.contracts import BRONZE, WINDOW_LEDGER
from include.chimera.lake.engine import connect
from include.chimera.lake.relations import scan
from include.chimera.lake.tables import open_table
from include.chimera.window import Window

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass(frozen=True)
class Gap:
    """Consecutive hours that a table's ledger lacks."""

    table: str
    window: Window

    @property
    def command(self) -> str:
        """The command that fills the gap; Airflow's dates are inclusive."""
        *_, last = self.window.hours()
        return (
            "airflow backfill create --dag-id chimera_etl_hourly "
            f"--from-date {self.window.start.isoformat()} --to-date {last.start.isoformat()} "
            "--reprocess-behavior completed --max-active-runs 2"
        )


def find_gaps(expected: Window) -> list[Gap]:
    """Compare the hours that should be there with the ledger, table by table.

    Args:
        expected: The hours that the schedule should have covered.
    """
    known = _known_hours()
    return [
        Gap(contract.name, window)
        for contract in BRONZE
        for window in _merged(
            hour
            for hour in expected.hours()
            if not any(
                window.start <= hour.start and hour.end <= window.end
                for window in known.get(contract.name, ())
            )
        )
    ]


def _known_hours() -> dict[str, list[Window]]:
    table = open_table(WINDOW_LEDGER.name)
    if table is None:
        return {}
    with connect() as connection:
        rows = connection.execute(
            "select table_name, window_start, window_end "
            f"from ({scan(table, WINDOW_LEDGER.name)}) group by all"
        ).fetchall()
    known: dict[str, list[Window]] = {}
    for name, start, end in rows:
        known.setdefault(name, []).append(Window(start, end))
    return known


def _merged(hours: Iterable[Window]) -> list[Window]:
    merged: list[Window] = []
    for hour in hours:
        if merged and merged[-1].end == hour.start:
            merged[-1] = Window(merged[-1].start, hour.end)
        else:
            merged.append(hour)
    return merged
