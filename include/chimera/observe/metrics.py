"""The pipeline's own metrics: their names, kinds and labels.

Base units, Prometheus' conventions. A backend adds nothing but a prefix, which
include/monitoring/statsd_mapping.yml takes off again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["counter", "gauge"]

CATALOGUE: dict[str, tuple[Kind, str, str]] = {
    "chimera_rows_read_total": ("counter", "table", "Rows that the source gave"),
    "chimera_rows_published_total": ("counter", "table", "Rows that are new or changed"),
    "chimera_rows_refused_total": ("counter", "table", "Rows that went to the dead letters"),
    "chimera_rows_duplicate_total": (
        "counter",
        "table",
        "Rows that were there already",
    ),
    "chimera_staged_bytes_total": ("counter", "table", "Bytes of the files that a gate judged"),
    "chimera_gate_pass_ratio": ("gauge", "table", "Share of the last batch's rows that passed"),
    "chimera_gate_is_failed": ("gauge", "table", "1 where the last verdict was negative, else 0"),
    "chimera_gate_seconds": ("gauge", "table", "How long the last verdict took"),
    "chimera_table_rows": ("gauge", "table", "Rows of the table"),
    "chimera_table_bytes": ("gauge", "table", "Size of the files of the newest version"),
    "chimera_table_files": ("gauge", "table", "Files of the newest version"),
    "chimera_table_small_files": ("gauge", "table", "Files that share a partition with others"),
    "chimera_table_event_timestamp_seconds": (
        "gauge",
        "table",
        "End of the newest event hour that has rows, Unix time",
    ),
    "chimera_table_commit_timestamp_seconds": ("gauge", "table", "Last data commit, Unix time"),
    "chimera_watermark_timestamp_seconds": (
        "gauge",
        "table",
        "Up to when a mutable source was read, Unix time",
    ),
    "chimera_dead_letters_waiting": ("gauge", "table", "Dead letters neither published nor parked"),
    "chimera_messages_waiting": ("gauge", "", "Messages that a channel has not taken yet"),
    "chimera_runs_late_total": ("counter", "", "How often a run was late, backfills left out"),
    "chimera_runs_without_deadline_total": (
        "counter",
        "",
        "How often a run began without its deadline, cleared runs left out",
    ),
    "chimera_window_end_timestamp_seconds": ("gauge", "", "End of the last window, Unix time"),
    "chimera_disk_free_ratio": ("gauge", "", "Free share of the disk that holds the state"),
}


@dataclass(frozen=True)
class Sample:
    """One value of a metric.

    Args:
        name: A name of the catalogue.
        value: In the unit that the name ends with.
        table: `<layer>.<table>`; empty for a metric without that label.
    """

    name: str
    value: float
    table: str = ""

    @property
    def kind(self) -> Kind:
        """A counter's value is what to add, a gauge's what to set."""
        return CATALOGUE[self.name][0]

    @property
    def tags(self) -> dict[str, str]:
        """The labels."""
        return {"table": self.table} if self.table else {}
