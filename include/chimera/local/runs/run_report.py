"""The report at the end of `make run`: gathered as plain data, then shown.

Gathering and showing are apart, so that `--json` and the terminal tell the same.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table

from include.chimera.local.runs.timing import most_at_once, stages
from include.chimera.observe.terminal import printable
from include.chimera.window import Run, Window

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from include.chimera.local.layout import Layout
    from include.chimera.local.runs.follow import HourResult, TaskFault

_MIB = 1 << 20


@dataclass(frozen=True)
class Costs:
    """What the whole command took.

    Args:
        wall_seconds: Since the command began.
        peak_bytes: Peak memory of all processes together.
        memory_kind: How it was counted.
        process_count: How many processes there were at the peak.
    """

    wall_seconds: float
    peak_bytes: int
    memory_kind: str
    process_count: int


def describe_hour(result: HourResult, lake: str, fault: TaskFault | None) -> dict[str, Any]:
    """Return one hour's part of the report as plain data.

    Args:
        result: How the run ended.
        lake: The lake's root; the pipeline's own report is read there if it is local.
        fault: What failed.
    """
    run = Run(result.run.run_id, result.hour)
    return {
        "run_id": run.run_id,
        "correlation_id": run.correlation_id,
        "window": [result.hour.start.isoformat(), result.hour.end.isoformat()],
        "state": result.run.state,
        "seconds": round(result.seconds, 1),
        "most_at_once": most_at_once(result.tasks),
        "stages": [
            {
                "name": stage.name,
                "task_count": stage.task_count,
                "not_run_count": stage.not_run_count,
                "seconds": round(stage.seconds, 1),
            }
            for stage in stages(result.tasks)
        ],
        "fault": _plain({**asdict(fault), "log": str(fault.log)}) if fault else None,
        "tasks": [_plain(asdict(task)) for task in result.tasks],
        # A run that was cleared keeps its folder: what lies there may be a former attempt's.
        "pipeline": read_pipeline_report(lake, run) if _is_reported(result) else None,
    }


def _is_reported(result: HourResult) -> bool:
    return any(task.task_id == "report_run" and task.state == "success" for task in result.tasks)


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    return {
        name: value.isoformat() if hasattr(value, "isoformat") else value
        for name, value in values.items()
    }


def read_pipeline_report(lake: str, run: Run) -> dict[str, Any] | None:
    """Return what the run's report task wrote; None: nothing, or the lake is not on this disk."""
    if "://" in lake:
        return None
    path = Path(lake) / "_runs" / run.folder / "report.json"
    if not path.exists():
        return None
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def show_hour(console: Console, hour: dict[str, Any]) -> None:
    """Show one hour's part of the report."""
    console.rule(f"{Window.parse(*hour['window'])}: {hour['state']}", align="left")
    console.print(f"run id          {hour['run_id']}")
    console.print(f"correlation id  {hour['correlation_id']}")
    pipeline = hour["pipeline"]
    if pipeline:
        console.print(_tables(pipeline["tables"]))
        console.print(_gates(pipeline["gates"]))
        if pipeline["refusals"]:
            console.print(_refusals(pipeline["refusals"]))
        for held in pipeline.get("held_back", ()):
            console.print(f"HELD BACK  {held['table']}: {held['text']}", style="bold yellow")
    console.print(_stages(hour))
    if hour["fault"]:
        show_fault(console, hour["fault"])


def show_fault(console: Console, fault: dict[str, Any]) -> None:
    """Name what failed."""
    console.print(f"FAILED TASK  {fault['task_id']}", style="bold red")
    console.print(f"  error      {printable(fault['error'] or 'see the log')}", soft_wrap=True)
    console.print(f"  log        {fault['log']}", soft_wrap=True)


def _number(value: int | None) -> str:
    return "" if value is None else f"{value:,}"


def _table(title: str, *columns: str) -> Table:
    """Make a table whose first column is text and whose other columns are numbers."""
    table = Table(title=title, title_justify="left", title_style="bold")
    for index, column in enumerate(columns):
        table.add_column(column, justify="right" if index else "left", overflow="fold")
    return table


def _tables(rows: Sequence[dict[str, Any]]) -> Table:
    names = ("read", "published", "refused", "duplicate", "total")
    title = "Rows (published: new or changed; duplicate: there already, rewritten or not)"
    table = _table(title, "table", *names, "version")
    for row in rows:
        table.add_row(
            row["table"],
            *(_number(row.get(f"rows_{name}")) for name in names),
            _number(row["version"]),
        )
    return table


def _gates(gates: Sequence[dict[str, Any]]) -> Table:
    table = Table(title="Gates", title_justify="left", title_style="bold")
    for name in ("table", "verdict", "rules", "failed rules: rows"):
        table.add_column(name, overflow="fold")
    for gate in gates:
        failed = [
            f"{rule['rule_id']} ({rule['severity']}): {_number(rule['unexpected_count']) or '?'}"
            for rule in gate["failed_rules"]
        ]
        table.add_row(gate["table"], gate["verdict"], str(gate["rule_count"]), "\n".join(failed))
    return table


def _refusals(refusals: Sequence[dict[str, Any]]) -> Table:
    table = Table(title="Dead letters", title_justify="left", title_style="bold")
    for name in ("source", "reason", "rows"):
        table.add_column(name, justify="right" if name == "rows" else "left", overflow="fold")
    for refusal in refusals:
        table.add_row(refusal["source"], refusal["reason"], _number(refusal["count"]))
    return table


def _stages(hour: dict[str, Any]) -> Table:
    table = _table("Time", "stage", "tasks", "not run", "seconds")
    for stage in hour["stages"]:
        counts = _number(stage["task_count"]), _number(stage["not_run_count"] or None)
        table.add_row(stage["name"], *counts, f"{stage['seconds']:.1f}")
    table.add_section()
    tasks, not_run = (
        sum(stage[count] for stage in hour["stages"]) for count in ("task_count", "not_run_count")
    )
    table.add_row(
        "queued to end", _number(tasks), _number(not_run or None), f"{hour['seconds']:.1f}"
    )
    table.add_row("tasks at once, at most", _number(hour["most_at_once"]), "", "")
    return table


def show_costs(console: Console, costs: Costs) -> None:
    """Show time and memory of the whole command."""
    console.rule("The whole command", align="left")
    console.print(f"time         {costs.wall_seconds:.0f} s since the start of the command")
    console.print(
        f"peak memory  {costs.peak_bytes / _MIB:,.0f} MiB of all {costs.process_count} processes "
        f"together ({costs.memory_kind})",
        soft_wrap=True,
    )


def show_places(console: Console, layout: Layout, lake: str) -> None:
    """Show where things are and what to try next."""
    console.rule("Where to look, and what to try next", align="left")
    lines = {
        "the lake": lake,
        "logs of tasks": str(layout.task_logs),
        "logs of servers": str(layout.logs),
        "Airflow with its UI": "make up",
        "the models by hand": "cd include/dbt && ../../.venv/bin/dbt build",
        "what is running": ".venv/bin/python -m include.chimera status",
        "start over": "make clean",
    }
    for name, text in lines.items():
        console.print(f"{name:<20} {text}", soft_wrap=True)
