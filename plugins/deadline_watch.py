"""Notes runs that begin without the deadline that their DAG promises (ADR 16).

Airflow makes a deadline with the run, and says nothing where it makes none: such a run may hang
and nobody is told. The scheduler asks this listener when it starts a run.
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
        """Count and log a run that has no deadline; of a cleared one Airflow forgets it."""
        promised = dag_run.dag is not None and dag_run.dag.deadline
        if promised and not dag_run.deadlines and not dag_run.clear_number:
            # The scheduler's own metrics: those of tasks are off in its process.
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
