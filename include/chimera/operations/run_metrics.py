"""Metrics of a run and of the lake's tables, as samples of the metrics' catalogue."""

from __future__ import annotations

import shutil
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

import pyarrow as pa

from include.chimera.alerts.outbox import waiting
from include.chimera.contracts import PARTITION
from include.chimera.lake.dead_letters.letters import letter_states
from include.chimera.lake.delta.lineage import NO_ROWS
from include.chimera.lake.delta.tables import leaving_out, open_tables, row_count, table_names
from include.chimera.lake.publish.bronze_publisher import WATERMARK
from include.chimera.lake.publish.verification import COUNTS
from include.chimera.lake.staged.manifests import find_manifests
from include.chimera.lake.staged.publications import Publication
from include.chimera.lake.staged.records import read_records, write_record
from include.chimera.lake.staged.verdicts import Verdict
from include.chimera.lake.store import storage
from include.chimera.lake.store.duckdb_sessions import connect
from include.chimera.observe.metrics import Sample
from include.chimera.settings import get_settings
from include.chimera.window import HOUR, parse_hour

if TYPE_CHECKING:
    from collections.abc import Iterator

    from deltalake import DeltaTable

    from include.chimera.window import Run

_COMMITS = 20


def run_facts(run: Run) -> list[Sample]:
    """Return all metrics known at a run's end, whether its gates passed or not."""
    samples = [Sample("chimera_window_end_timestamp_seconds", run.window.end.timestamp())]
    samples += _of_records(run)
    for name, table in open_tables(table_names()).items():
        with leaving_out(name):
            samples += _of_table(name, table)
    samples += _of_letters()
    samples.append(Sample("chimera_messages_waiting", waiting()))
    disk = shutil.disk_usage(get_settings().state_dir)
    return [*samples, Sample("chimera_disk_free_ratio", disk.free / disk.total)]


def note_counted(run: Run) -> None:
    """Mark the run's verdicts as counted; only a table that is judged again counts again."""
    verdicts = read_records(run, Verdict).values()
    storage.at_once(
        lambda verdict: write_record(run, verdict.table, replace(verdict, is_counted=True)),
        verdicts,
    )


def _of_records(run: Run) -> Iterator[Sample]:
    verdicts = read_records(run, Verdict)
    fresh = {table for table, verdict in verdicts.items() if not verdict.is_counted}
    for table, publication in read_records(run, Publication).items():
        for count in COUNTS if table in fresh else ():
            value = getattr(publication, count)
            if value is not None:
                yield Sample(f"chimera_{count}_total", value, table)
    for table, staged in find_manifests(run).items():
        if table in fresh:
            size = sum(file.size_bytes for file in staged.files)
            yield Sample("chimera_staged_bytes_total", size, table)
    for table, verdict in verdicts.items():
        yield Sample("chimera_gate_pass_ratio", verdict.pass_ratio, table)
        yield Sample("chimera_gate_is_failed", not verdict.success, table)
        yield Sample("chimera_gate_seconds", verdict.seconds, table)


def _of_table(name: str, table: DeltaTable) -> Iterator[Sample]:
    actions = pa.table(table.get_add_actions(flatten=True))
    yield Sample("chimera_table_rows", row_count(table), name)
    yield Sample("chimera_table_bytes", sum(actions["size_bytes"].to_pylist()), name)
    yield Sample("chimera_table_files", actions.num_rows, name)
    column = f"partition.{PARTITION}"
    hours = actions[column].to_pylist() if column in actions.column_names else []
    shared = sum(count for count in Counter(hours).values() if count > 1)
    yield Sample("chimera_table_small_files", shared, name)
    if hours:
        end = parse_hour(max(hours)) + HOUR
        yield Sample("chimera_table_event_timestamp_seconds", end.timestamp(), name)
    commits = table.history(_COMMITS)
    times = [int(c["timestamp"]) for c in commits if c["operation"] not in NO_ROWS]
    if times:
        yield Sample("chimera_table_commit_timestamp_seconds", max(times) / 1e3, name)
    mark = table.transaction_version(WATERMARK)
    if mark is not None:
        yield Sample("chimera_watermark_timestamp_seconds", mark / 1e6, name)


def _of_letters() -> Iterator[Sample]:
    """Count waiting letters by their table; zero if all its letters are done."""
    with connect() as connection:
        found = connection.execute(
            f"select source, count(*) filter (where state = 'waiting') from ({letter_states()}) "
            "group by source"
        ).fetchall()
    for source, count in found:
        yield Sample("chimera_dead_letters_waiting", count, source)
