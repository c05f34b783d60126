"""Report runs that start without the deadline that their DAG defines (ADR 16).

Airflow creates the deadline with the run, and is silent if it creates none: such a run could hang
unnoticed. The scheduler calls this listener when it starts a run.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from airflow.listeners import hookimpl
from airflow.observability.stats import incr
from airflow.plugins_manager import AirflowPlugin

if TYPE_CHECKING:
    from airflow.models import DagRun

logger = logging.getLogger(__name__)


class DeadlineWatch:
    """Listens for the start of runs."""

    @hookimpl
    def on_dag_run_running(self, dag_run: DagRun) -> None:
        """Count and log a run without a deadline, except a cleared one, whose deadline is gone."""
        promised = dag_run.dag is not None and dag_run.dag.deadline
        if promised and not dag_run.deadlines and not dag_run.clear_number:
            # Use the scheduler's own metrics: the tasks' metrics are off in its process.
            incr("chimera_runs_without_deadline_total")
            logger.error(
                "run %s of %s has no deadline: nobody will be told that it is late",
                dag_run.run_id,
                dag_run.dag_id,
            )


class DeadlineWatchPlugin(AirflowPlugin):
    """Registers the listener."""

    name = "chimera_deadline_watch"
    listeners = [DeadlineWatch()]  # noqa: RUF012 - Airflow's form
