"""The report at the end of `make run`.

Collecting and showing it are separate, so that `--json` and the terminal show the same.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, is_dataclass
from datetime import datetime
from itertools import compress
from typing import TYPE_CHECKING

from rich.table import Table

from include.chimera.errors import CLI
from include.chimera.lake.staged.records import read_at
from include.chimera.lake.staged.reports import RunReport
from include.chimera.lake.store import storage
from include.chimera.local.runs.timing import most_at_once, stages
from include.chimera.observe.terminal import printable
from include.chimera.operations.insight.page import insight_place
from include.chimera.operations.quality_report import report_place
from include.chimera.window import Run, Window

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from include.chimera.lake.staged.reports import GateLine, Refusals, TableCounts
    from include.chimera.local.layout import Layout
    from include.chimera.local.runs.follow import HourResult, TaskFault
    from include.chimera.local.runs.timing import Stage
    from include.chimera.local.servers.airflow_api import TaskState

_MIB = 1 << 20


@dataclass(frozen=True)
class Costs:
    """Time and memory of the whole command.

    Args:
        wall_seconds: Time since the command started.
        phases: Seconds of each of its phases, in their order.
        peak_bytes: Peak memory of all processes together.
        memory_kind: How memory was counted.
        process_count: Number of processes at the peak.
    """

    wall_seconds: float
    phases: dict[str, float]
    peak_bytes: int
    memory_kind: str
    process_count: int


@dataclass(frozen=True)
class HourReport:
    """One hour's part of the report.

    Args:
        run_id: The DAG run.
        correlation_id: The correlation id in its log lines.
        window: The hour.
        state: The run's final state.
        seconds: Duration, without the wait for the run before it.
        most_at_once: The most tasks that ran at the same time.
        stages: Durations of its task groups.
        fault: The first failed task.
        tasks: Its tasks.
        pipeline: The report task's record; None: there is none.
    """

    run_id: str
    correlation_id: str
    window: Window
    state: str
    seconds: float
    most_at_once: int
    stages: list[Stage]
    fault: TaskFault | None
    tasks: list[TaskState]
    pipeline: RunReport | None


@dataclass(frozen=True)
class CommandReport:
    """The report of the whole command."""

    dag_id: str
    lake: str
    hours: list[HourReport]
    costs: Costs

    def to_json(self, indent: int | None = 2) -> str:
        """Return the report as JSON text; None: on one line."""
        return json.dumps(self, indent=indent, default=_plain)


def _plain(value: object) -> object:
    if isinstance(value, Window):
        return [value.start, value.end]
    if isinstance(value, datetime):
        return value.isoformat()
    return vars(value) if is_dataclass(value) else str(value)


def describe_hour(result: HourResult, lake: str, fault: TaskFault | None) -> HourReport:
    """Return one hour's part of the report.

    Args:
        result: The run's result.
        lake: The lake's root, where the pipeline's own report is read.
        fault: The first failed task.
    """
    run = Run(result.run.run_id, result.hour)
    return HourReport(
        run_id=run.run_id,
        correlation_id=run.correlation_id,
        window=result.hour,
        state=result.run.state,
        seconds=round(result.seconds, 1),
        most_at_once=most_at_once(result.tasks),
        stages=stages(result.tasks),
        fault=fault,
        tasks=result.tasks,
        # A cleared run keeps its folder, so a report there may be from an earlier attempt.
        pipeline=read_pipeline_report(lake, run) if _is_reported(result) else None,
    )


def _is_reported(result: HourResult) -> bool:
    return any(task.task_id == "report_run" and task.state == "success" for task in result.tasks)


def read_pipeline_report(lake: str, run: Run) -> RunReport | None:
    """Read the report task's record, None if there is none.

    Raises:
        LakeError: The disk or store failed.
    """
    return read_at(f"{lake}/_runs/{run.folder}/{RunReport.file_name}", RunReport)


def show_hour(console: Console, hour: HourReport) -> None:
    """Show one hour's part of the report."""
    console.rule(f"{hour.window}: {hour.state}", align="left")
    console.print(f"run id          {hour.run_id}")
    console.print(f"correlation id  {hour.correlation_id}")
    if hour.pipeline:
        console.print(_tables(hour.pipeline.tables))
        console.print(_gates(hour.pipeline.gates))
        if hour.pipeline.refusals:
            console.print(_refusals(hour.pipeline.refusals))
        for waiting in hour.pipeline.held_back:
            console.print(f"HELD BACK  {waiting.table}: {waiting.text}", style="bold yellow")
    console.print(_stages(hour))
    if hour.fault:
        show_fault(console, hour.fault)


def show_fault(console: Console, fault: TaskFault) -> None:
    """Show the first failed task."""
    console.print(f"FAILED TASK  {fault.task_id}", style="bold red")
    console.print(f"  error      {printable(fault.error or 'see the log')}", soft_wrap=True)
    console.print(f"  log        {fault.log}", soft_wrap=True)


def _number(value: int | None) -> str:
    return "" if value is None else f"{value:,}"


def _table(title: str, *columns: str) -> Table:
    """Make a table whose first column is text and whose other columns are numbers."""
    table = Table(title=title, title_justify="left", title_style="bold")
    for index, column in enumerate(columns):
        table.add_column(column, justify="right" if index else "left", overflow="fold")
    return table


def _tables(rows: Sequence[TableCounts]) -> Table:
    names = ("read", "published", "refused", "duplicate", "total")
    title = "Rows (published: new or changed; duplicate: there already, rewritten or not)"
    table = _table(title, "table", *names, "version")
    for row in rows:
        counts = (getattr(row, f"rows_{name}") for name in names)
        table.add_row(row.table, *map(_number, counts), _number(row.version))
    return table


def _gates(gates: Sequence[GateLine]) -> Table:
    table = Table(title="Gates", title_justify="left", title_style="bold")
    for name in ("table", "verdict", "rules", "failed rules: rows"):
        table.add_column(name, overflow="fold")
    for gate in gates:
        failed = [
            f"{rule.rule_id} ({rule.severity}): {_number(rule.unexpected_count) or '?'}"
            for rule in gate.failed_rules
        ]
        table.add_row(gate.table, gate.verdict, str(gate.rule_count), "\n".join(failed))
    return table


def _refusals(refusals: Sequence[Refusals]) -> Table:
    table = Table(title="Dead letters", title_justify="left", title_style="bold")
    for name in ("source", "reason", "rows"):
        table.add_column(name, justify="right" if name == "rows" else "left", overflow="fold")
    for refusal in refusals:
        table.add_row(refusal.source, refusal.reason, _number(refusal.count))
    return table


def _stages(hour: HourReport) -> Table:
    table = _table("Time", "stage", "tasks", "not run", "seconds")
    for stage in hour.stages:
        counts = _number(stage.task_count), _number(stage.not_run_count or None)
        table.add_row(stage.name, *counts, f"{stage.seconds:.1f}")
    table.add_section()
    tasks = sum(stage.task_count for stage in hour.stages)
    not_run = sum(stage.not_run_count for stage in hour.stages)
    table.add_row("queued to end", _number(tasks), _number(not_run or None), f"{hour.seconds:.1f}")
    table.add_row("tasks at once, at most", _number(hour.most_at_once), "", "")
    return table


def show_costs(console: Console, costs: Costs) -> None:
    """Show time and memory of the whole command."""
    console.rule("The whole command", align="left")
    parts = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in costs.phases.items())
    console.print(f"time         {costs.wall_seconds:.0f} s: {parts}", soft_wrap=True)
    console.print(
        f"peak memory  {costs.peak_bytes / _MIB:,.0f} MiB of all {costs.process_count} processes "
        f"together ({costs.memory_kind})",
        soft_wrap=True,
    )


def _pages() -> dict[str, str]:
    """Return the places of the pages for people that have been written."""
    pages = {"cost and safety": insight_place(), "quality report": report_place()}
    is_there = storage.existing(list(pages.values()))
    return dict(compress(pages.items(), is_there))


def show_places(console: Console, layout: Layout, lake: str) -> None:
    """Show where things are and what to try next."""
    console.rule("Where to look, and what to try next", align="left")
    lines = {
        "the lake": lake,
        **_pages(),
        "logs of tasks": str(layout.task_logs),
        "logs of servers": str(layout.logs),
        "Airflow with its UI": "make up",
        "the models by hand": "cd include/dbt && ../../.venv/bin/dbt build",
        "what is running": f"{CLI} status",
        "start over": "make clean",
    }
    for name, text in lines.items():
        console.print(f"{name:<20} {text}", soft_wrap=True)
