"""Warm up Airflow's own components before they fork.

LocalExecutor forks its workers from the scheduler and each worker forks its tasks; the DAG
processor forks a process per DAG file. With another executor the scheduler forks no tasks. A
Celery worker loads no plugin: see `include/chimera/flow/warm_start/celery_worker.py`.
"""

from __future__ import annotations

from airflow.configuration import conf
from airflow.listeners import hookimpl
from airflow.plugins_manager import AirflowPlugin

from include.chimera.flow.warm_start.warm_up import (
    PARSING,
    WORKING,
    starting_command,
    warm_up,
)
from include.chimera.settings import get_settings

BY_COMMAND = {"dag-processor": PARSING, "scheduler": PARSING + WORKING}


class WarmStart:
    """Listens for the start of Airflow's components."""

    @hookimpl
    def on_starting(self, component: object) -> None:
        """Load what this component's children will need."""
        command = starting_command(component)
        names = BY_COMMAND.get(command)
        is_forked = "LocalExecutor" in conf.get("core", "executor")
        if names and (is_forked or command != "scheduler"):
            warm_up(names)


class WarmStartPlugin(AirflowPlugin):
    """Registers the listener unless the setting `warm_start` is off."""

    name = "chimera_warm_start"
    listeners = [WarmStart()] if get_settings().warm_start else []
