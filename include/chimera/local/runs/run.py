"""The command `run`: start everything, run the anchor's hours, report, stop everything."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

from include.chimera.local.layout import Layout
from include.chimera.local.runs import run_report
from include.chimera.local.runs.follow import HourFollower, find_fault
from include.chimera.local.runs.planning import choose_hours, hour_variables, plan_start
from include.chimera.local.runs.progress import Progress
from include.chimera.local.runs.timing import Phases
from include.chimera.local.servers.sample_application import demo_sample
from include.chimera.local.servers.stack import DAG_ID, Stack
from include.chimera.local.supervision.memory_sampler import MemorySampler
from include.chimera.local.supervision.processes import memory_kind, sweep
from include.chimera.local.supervision.supervisor import StateLock
from include.chimera.observe.terminal import echo, make_console

if TYPE_CHECKING:
    from include.chimera.local.runs.follow import HourResult
    from include.chimera.settings import Settings
    from include.chimera.window import Window

_REPARSE_SECONDS = 600  # DAG files don't change during a run, and parsing competes with tasks


def run(settings: Settings, hours: int, timeout_minutes: float, *, as_json: bool = False) -> bool:
    """Run the hours and report; return whether all of them succeeded.

    Args:
        settings: The settings of this run.
        hours: How many hours, starting at the anchor.
        timeout_minutes: When to give up.
        as_json: Print the report as one line of JSON, and progress on standard error.

    Raises:
        ChimeraError: The run could not be finished.
    """
    phases = Phases()
    layout = Layout.of(settings.state_dir)
    console = make_console(sys.stderr if as_json else None)
    settings = settings.model_copy(update={"state_dir": layout.root})
    lock = StateLock(layout)
    with Progress(console) as progress:
        sweep(layout)
        window = choose_hours(layout, settings, hours, progress.say)
        plan = plan_start(layout, settings, hour_variables(window), _REPARSE_SECONDS)
        with Stack(plan, lock, progress.say) as stack:
            stack.start(demo_sample(settings, [window], plan, progress.say), "run")
            phases.end("servers and sample data")
            with MemorySampler(stack.line.processes) as memory:
                results = _run_hours(
                    stack, window, progress, phases, phases.begun + timeout_minutes * 60
                )
            progress.say("stopping the servers")
    phases.end("stopping")
    costs = run_report.Costs(
        time.monotonic() - phases.begun,
        phases.seconds,
        memory.peak_bytes,
        memory_kind(),
        memory.peak_count,
    )
    told = _tell(results, layout, settings, costs)
    layout.reports.mkdir(parents=True, exist_ok=True)
    (layout.reports / "run.json").write_text(told.to_json() + "\n")
    if as_json:
        echo(told.to_json(indent=None))
    else:
        for hour in told.hours:
            run_report.show_hour(console, hour)
        run_report.show_costs(console, costs)
        run_report.show_places(console, layout, settings.lake)
    return all(result.run.state == "success" for result in results)


def _run_hours(
    stack: Stack, hours: Window, progress: Progress, phases: Phases, deadline: float
) -> list[HourResult]:
    """Run the hours in order, up to the first that fails."""
    progress.say("waiting for the DAG to be parsed")
    stack.wait_for_dag(DAG_ID)
    phases.end("parsing the DAGs")
    follower = HourFollower(
        stack.api, DAG_ID, check=stack.check, show=progress.show_tasks, deadline=deadline
    )
    follower.prepare(hours)
    results: list[HourResult] = []
    for hour in hours.hours():
        progress.say(f"running the hour {hour.start:%Y-%m-%d %H:%M} UTC")
        results.append(follower.follow(hour, results[-1] if results else None))
        progress.say(f"it ended with {results[-1].run.state} after {results[-1].seconds:.0f} s")
        if results[-1].run.state != "success":
            break
    phases.end("the hour" if len(results) == 1 else f"{len(results)} hours")
    return results


def _tell(
    results: list[HourResult], layout: Layout, settings: Settings, costs: run_report.Costs
) -> run_report.CommandReport:
    hours = [
        run_report.describe_hour(
            result, settings.lake, find_fault(result, layout.task_logs, DAG_ID)
        )
        for result in results
    ]
    return run_report.CommandReport(DAG_ID, settings.lake, hours, costs)
