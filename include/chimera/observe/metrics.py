"""The pipeline's own metrics: their names and meanings.

Base units and names follow Prometheus' conventions: a counter ends in `_total`, all others are
gauges, and `_timestamp_seconds` is Unix time. A backend only adds a prefix, which
include/monitoring/statsd_mapping.yml removes again. `make docs` adds a dashboard panel for each
metric that has none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["counter", "gauge"]

PER_TABLE = {
    "chimera_rows_read_total": "Rows that the source gave",
    "chimera_rows_published_total": "Rows that are new or changed",
    "chimera_rows_refused_total": "Rows that went to the dead letters",
    "chimera_rows_duplicate_total": "Rows that were there already",
    "chimera_staged_bytes_total": "Bytes of the files that a gate judged",
    "chimera_gate_pass_ratio": "Share of the last batch's rows that passed",
    "chimera_gate_is_failed": "1 where the last verdict was negative, else 0",
    "chimera_gate_seconds": "How long the last verdict took",
    "chimera_table_rows": "Rows of the table",
    "chimera_table_bytes": "Size of the files of the newest version",
    "chimera_table_files": "Files of the newest version",
    "chimera_table_small_files": "Files that share a partition with others",
    "chimera_table_event_timestamp_seconds": "End of the newest event hour that has rows",
    "chimera_table_commit_timestamp_seconds": "Last data commit",
    "chimera_watermark_timestamp_seconds": "Up to when a mutable source was read",
    "chimera_dead_letters_waiting": "Dead letters neither published nor parked",
}
OF_ALL = {
    "chimera_messages_waiting": "Messages that a channel has not taken yet",
    "chimera_runs_late_total": "How often a run was late, backfills left out",
    "chimera_runs_without_deadline_total": "How often a run, not cleared, began without a deadline",
    "chimera_window_end_timestamp_seconds": "End of the last window",
    "chimera_disk_free_ratio": "Free share of the disk that holds the state",
}
CATALOGUE = PER_TABLE | OF_ALL


@dataclass(frozen=True)
class Sample:
    """One value of a metric.

    Args:
        name: A name of the catalogue.
        value: In the unit at the end of the name.
        table: `<layer>.<table>`; empty for a metric without that label.
    """

    name: str
    value: float
    table: str = ""

    @property
    def kind(self) -> Kind:
        """The kind: a counter's value is added, a gauge's is set."""
        return "counter" if self.name.endswith("_total") else "gauge"

    @property
    def tags(self) -> dict[str, str]:
        """The labels."""
        return {"table": self.table} if self.table else {}
