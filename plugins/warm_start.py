"""Preloads what tasks need in the process that forks them.

LocalExecutor forks its workers from the scheduler, and each worker forks its tasks: what is
imported before the fork is paid for once and shared by all of them.
"""

from __future__ import annotations

import importlib
import logging

from airflow.listeners import hookimpl
from airflow.plugins_manager import AirflowPlugin

from include.chimera.settings import get_settings

logger = logging.getLogger(__name__)

MODULES = (
    "dbt.cli.main",
    "dbt.adapters.duckdb",
    "dbt.adapters.duckdb.plugins",
    "cosmos",
    "cosmos.operators.local",
    "cosmos.dbt.runner",
    "great_expectations",
    "great_expectations_provider.operators.validate_checkpoint",
    "include.chimera.quality.gates",
    "include.chimera.lake.plugin",
    "include.chimera.lake.ledger",
    "include.chimera.lake.upkeep",
    "include.chimera.sources.api_logs",
    "include.chimera.sources.postgres",
    "include.chimera.sources.provider_metrics",
    "include.chimera.flow.transform",
)


class WarmStart:
    """Listens for the scheduler's start."""

    @hookimpl
    def on_starting(self, component: object) -> None:
        """Import the heavy modules; a module that is missing is left to the task that wants it."""
        if getattr(component, "job_type", None) != "SchedulerJob":
            return
        for name in MODULES:
            try:
                importlib.import_module(name)
            except ImportError:
                logger.warning("could not preload %s", name)
        logger.info("preloaded %s modules", len(MODULES))


class WarmStartPlugin(AirflowPlugin):
    """Registers the listener unless the setting `warm_start` is off."""

    name = "chimera_warm_start"
    listeners = [WarmStart()] if get_settings().warm_start else []
