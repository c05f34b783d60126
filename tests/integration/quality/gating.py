"""Run a gate on rows in memory: stage them like a task, judge them like the DAG."""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from deltalake import Schema

from include.chimera.lake.delta.lineage import Plan
from include.chimera.lake.delta.parquet_files import write_files
from include.chimera.lake.delta.partitions import Whole
from include.chimera.lake.delta.tables import begin_table
from include.chimera.lake.staged.fencing_tokens import draw_token
from include.chimera.lake.staged.manifests import Batch, Build, attempt_folder, save
from include.chimera.lake.staged.verdicts import RATIO_RULE
from include.chimera.lake.store.duckdb_sessions import connect
from include.chimera.lake.store.places import folder_of
from include.chimera.paths import INCLUDE
from include.chimera.quality.gate import open_gate
from include.chimera.quality.gx import checkpoint as gates
from include.chimera.quality.rules import book, good_and_bad_rows, suites
from include.chimera.quality.rules.good_and_bad_rows import broken_predicate, suite_expectations
from include.chimera.window import Run, Window

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import pyarrow as pa
    import pytest

    from include.chimera.lake.staged.verdicts import Verdict
    from include.chimera.quality.gate import Gate

START = datetime(2026, 1, 5, 10, tzinfo=UTC)
RUN = Run("scheduled__2026-01-05T11:00:00+00:00", Window.of_hour(START))


def stage(run: Run, table: str, rows: pa.Table, *, allow_shrink: bool = True) -> None:
    """Stage rows as they are, whatever their columns: in bronze as a batch, else as a build."""
    is_bronze = table.startswith("bronze.")
    batch = Batch(table, draw_token(table), hours=run.window.labels(), allow_shrink=allow_shrink)
    folder = attempt_folder(run, batch) if is_bronze else folder_of(table)
    if not is_bronze:
        begin_table(table)
    with connect(has_delta=False) as connection:
        connection.register("rows", rows)
        files = write_files(connection, "from rows", folder, rows.schema)
    if is_bronze:
        save(run, replace(batch, rows_read=rows.num_rows, files=files))
        return
    schema = Schema.from_arrow(rows.schema).to_json()
    save(run, Build(table, files, schema, [], Whole(), Plan(None, {}, None), "test"))


@contextmanager
def gated(run: Run, table: str) -> Iterator[tuple[Gate, Verdict]]:
    """Open a table's gate and judge, as the operator does, without publishing."""
    with open_gate(table, run) as gate:
        yield gate, gate.checkpoint(gate.context()).run()


def judge(table: str, rows: pa.Table, run: Run = RUN) -> Verdict:
    """Stage rows and return the gate's verdict on them."""
    stage(run, table, rows)
    with gated(run, table) as (_, verdict):
        return verdict


def alarms(verdict: Verdict) -> set[str]:
    """Return the ids of rules that failed or that rows broke, except the pass ratio."""
    noticed = {result.rule_id for result in verdict.results if result.is_alarm}
    return noticed - {RATIO_RULE}


def assert_split_agrees(gate: Gate, verdict: Verdict) -> None:
    """Check, rule by rule, that the split's predicate counts the rows that GX counts."""
    counted = {
        item["meta"]["rule_id"]: predicate
        for item in suite_expectations(gate.table)
        if (predicate := broken_predicate(item))
    }
    judged = {rule.rule_id: rule for rule in verdict.results if rule.rule_id in counted}
    assert set(judged) == set(counted)
    if any(rule.error for rule in judged.values()):
        return
    columns = ", ".join(f"count(*) filter (where {text})" for text in counted.values())
    found = gate.connection.execute(f"select {columns} from ({gate.rows})").fetchone()
    assert dict(zip(counted, found, strict=True)) == {
        rule_id: rule.unexpected_count or 0 for rule_id, rule in judged.items()
    }


def configure(
    monkeypatch: pytest.MonkeyPatch, folder: Path, table: str, old: str, new: str
) -> None:
    """Change a line of a table's rules, in the test's own GX project."""
    folder /= "project"
    project = folder / "gx"
    shutil.copytree(INCLUDE / "gx", project)
    path = project / "rules" / f"{table}.yml"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    monkeypatch.setattr(book, "RULES", project / "rules")
    monkeypatch.setattr(good_and_bad_rows, "GX_PROJECT", project)
    monkeypatch.setattr(gates, "INCLUDE", folder)
    for changed, text in suites.drift(project).items():
        changed.write_text(text)
