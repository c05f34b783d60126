"""Run the hours of `make run` and follow their progress."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from include.chimera.errors import TerminalError
from include.chimera.local.runs.timing import NEVER_RAN, STAGES, stage_of
from include.chimera.observe.logs import describe_error

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime
    from pathlib import Path

    from include.chimera.local.servers.airflow_api import AirflowApi, DagRunState, TaskState
    from include.chimera.window import Window

_POLL_SECONDS = 1.5
_DONE = {"success", "failed"}


@dataclass(frozen=True)
class HourResult:
    """How the run of one hour ended.

    Args:
        hour: The window.
        run: The DAG run.
        tasks: Its tasks.
        begun_at: When the run was queued and the run before it had ended.
    """

    hour: Window
    run: DagRunState
    tasks: list[TaskState]
    begun_at: datetime | None

    @property
    def seconds(self) -> float:
        """Seconds from `begun_at` to the run's end."""
        if self.begun_at is None or self.run.end_at is None:
            return 0.0
        return (self.run.end_at - self.begun_at).total_seconds()


@dataclass(frozen=True)
class TaskFault:
    """The first failed task of a run.

    Args:
        task_id: Its id.
        error: The error's type and message from the log; "" if the log is missing.
        log: Path of the whole log.
    """

    task_id: str
    error: str
    log: Path


class HourFollower:
    """Runs the hours one after the other.

    Args:
        api: Airflow's API.
        dag_id: The DAG, paused when `prepare` is called.
        check: Raises if a server has died; called at every poll.
        show: Shows how far a run is.
        deadline: When to give up, on the monotonic clock.
    """

    def __init__(
        self,
        api: AirflowApi,
        dag_id: str,
        *,
        check: Callable[[], None],
        show: Callable[[Window, list[TaskState]], None],
        deadline: float,
    ) -> None:
        self._api, self._dag_id = api, dag_id
        self._check, self._show, self._deadline = check, show, deadline

    def prepare(self, window: Window) -> None:
        """Clear the hours that have run before, and unpause the DAG.

        The DAG is paused until then, so the cleared runs are queued before the scheduler can create
        new ones, and it takes the oldest first.

        Raises:
            TerminalError: The schedule has already passed an hour that never ran.
        """
        runs = self._api.runs(self._dag_id)
        for run in runs:
            if not run.is_over:  # interrupted; no process works on it any more
                self._api.fail(self._dag_id, run.run_id)
        known = {run.window_start: run for run in runs if _is_hourly(run)}
        self._refuse_gaps(window, known)
        for hour in window.hours():
            if hour.start in known:
                self._api.clear(self._dag_id, known[hour.start].run_id)
        self._api.set_paused(self._dag_id, is_paused=False)

    def _refuse_gaps(self, window: Window, known: dict[datetime | None, DagRunState]) -> None:
        last = max((start for start in known if start), default=None)
        gaps = [h for h in window.hours() if h.start not in known and last and h.start < last]
        labels = [label for gap in gaps[:3] for label in gap.labels()]
        if gaps:
            raise TerminalError(
                expected="hours that the schedule still has before it, or has run",
                came=f"{len(gaps)} that it went past: {', '.join(labels)}",
                where=f"{self._dag_id}, whose last scheduled hour is {last:%Y-%m-%d %H:%M} UTC",
                remedy="backfill them in the UI (`make up`), ask for fewer HOURS, or `make clean`",
            )

    def follow(self, hour: Window, previous: HourResult | None) -> HourResult:
        """Wait until the hour's run has ended, with success or not.

        Raises:
            TerminalError: It took too long.
        """
        run: DagRunState | None = None
        while True:
            self._check()
            run = self._api.run(self._dag_id, run.run_id) if run else self._find(hour)
            if run:
                tasks = self._api.tasks(self._dag_id, run.run_id)
                self._show(hour, tasks)
                if run.is_over:
                    return HourResult(hour, run, tasks, _turn(run, previous))
            if time.monotonic() > self._deadline:
                raise TerminalError(
                    expected="an end of the run in time",
                    came=f"the state {run.state if run else 'not created'}",
                    where=f"the hour {hour.labels()[0]}",
                    remedy="look at the logs; --timeout-minutes allows more",
                )
            time.sleep(_POLL_SECONDS)

    def _find(self, hour: Window) -> DagRunState | None:
        for run in self._api.runs(self._dag_id):
            if run.window_start == hour.start and _is_hourly(run):
                return run
        return None


def _is_hourly(run: DagRunState) -> bool:
    return run.run_type == "scheduled"


def _turn(run: DagRunState, previous: HourResult | None) -> datetime | None:
    moments = [run.queued_at, previous.run.end_at if previous else None]
    return max((moment for moment in moments if moment), default=run.start_at)


class Counts(NamedTuple):
    """Progress of a stage's tasks; tasks that never run do not count as done."""

    done: int = 0
    running: int = 0
    not_run: int = 0
    total: int = 0


def count_tasks(tasks: list[TaskState]) -> dict[str, Counts]:
    """Return the progress by stage, in DAG order."""
    counts = dict.fromkeys(STAGES, Counts())
    for task in tasks:
        done, running, not_run, total = counts.get(stage_of(task.task_id), Counts())
        counts[stage_of(task.task_id)] = Counts(
            done + (task.state in _DONE),
            running + (task.state == "running"),
            not_run + (task.state in NEVER_RAN),
            total + 1,
        )
    return {name: count for name, count in counts.items() if count.total}


def find_fault(result: HourResult, task_logs: Path, dag_id: str) -> TaskFault | None:
    """Return the task that failed first, with the last error in its log; None: none failed."""
    failed = [task for task in result.tasks if task.state == "failed"]
    if not failed:
        return None
    first = min(failed, key=lambda task: (task.end_at is None, task.end_at))
    folder = task_logs / f"dag_id={dag_id}" / f"run_id={result.run.run_id}"
    folder /= f"task_id={first.task_id}"
    if first.map_index >= 0:
        folder /= f"map_index={first.map_index}"
    log = folder / f"attempt={first.try_number}.log"
    return TaskFault(first.task_id, _last_error(log), log)


def _last_error(log: Path) -> str:
    """Return the last exception in a task log (JSON lines), and the errors logged after it.

    Those explain the exception in our own words. If there is no exception, return only the last
    error. A foreign exception is named by its class alone.
    """
    if not log.exists():
        return ""
    found: list[str] = []
    is_raised = False
    for line in log.read_text(errors="replace").splitlines():
        try:
            entry: Any = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict) and entry.get("level") in {"error", "critical"}:
            raised = describe_error(entry, "the log")
            text = raised or str(entry.get("event", ""))
            found = [*found, text] if is_raised and not raised else [text]
            is_raised = is_raised or bool(raised)
    return "\n".join(found)
