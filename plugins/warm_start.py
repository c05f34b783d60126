"""Preloads what tasks need in the processes that fork them.

LocalExecutor forks its workers from the scheduler and each worker forks its tasks; the DAG
processor forks a process per DAG file. What is imported before the fork is paid for once and shared
by all of them.
"""

from __future__ import annotations

import importlib
import logging
import sys

from airflow.listeners import hookimpl
from airflow.plugins_manager import AirflowPlugin

from include.chimera.settings import get_settings

logger = logging.getLogger(__name__)

PARSING = (
    "cosmos",
    "cosmos.operators.local",
    "great_expectations_provider.operators.validate_checkpoint",
    "include.chimera.flow.tasks",
    "include.chimera.flow.transform",
)
WORKING = (
    "agate",
    "cosmos.dbt.runner",
    "dbt.adapters.duckdb.impl",
    "dbt.cli.main",
    "dbt.task.build",
    "great_expectations",
    "include.chimera.lake.ledger",
    "include.chimera.lake.plugin",
    "include.chimera.lake.upkeep",
    "include.chimera.quality.gates",
    "include.chimera.sources.api_logs",
    "include.chimera.sources.postgres",
    "include.chimera.sources.provider_metrics",
    "numpy",
)
BY_COMMAND = {"dag-processor": PARSING, "scheduler": PARSING + WORKING}


class WarmStart:
    """Listens for the start of Airflow's components."""

    @hookimpl
    def on_starting(self, component: object) -> None:
        """Import what this component's children will need; they report what can't be imported."""
        del component  # its job_type is not set yet when Airflow calls this
        for name in BY_COMMAND.get(next(iter(sys.argv[1:]), ""), ()):
            try:
                importlib.import_module(name)
            except ImportError:
                logger.warning("could not preload %s", name)


class WarmStartPlugin(AirflowPlugin):
    """Registers the listener unless the setting `warm_start` is off."""

    name = "chimera_warm_start"
    listeners = [WarmStart()] if get_settings().warm_start else []
