"""Airflow's four components as a production deployment runs them, and its pools."""

from __future__ import annotations

import importlib.metadata
import sys
from typing import TYPE_CHECKING

import yaml

from include.chimera.errors import ConfigurationError
from include.chimera.local.supervision.keeper import Program
from include.chimera.paths import PROJECT

if TYPE_CHECKING:
    from include.chimera.local.servers.airflow_api import Pool
    from include.chimera.settings import Settings


def airflow_version() -> str:
    """Return Airflow's version, which decides the metadata database's schema."""
    return importlib.metadata.version("apache-airflow-core")


def migrate_program(env: dict[str, str]) -> Program:
    """Return the program that creates or updates the metadata database's schema."""
    return Program("migrate", [sys.executable, "-m", "airflow", "db", "migrate"], env)


def airflow_programs(env: dict[str, str]) -> list[Program]:
    """Return the programs of Airflow's four components."""
    airflow = [sys.executable, "-m", "airflow"]
    return [
        Program("api-server", [*airflow, "api-server"], env),
        Program("scheduler", [*airflow, "scheduler", "--skip-serve-logs"], env),
        Program("dag-processor", [*airflow, "dag-processor"], env),
        Program("triggerer", [*airflow, "triggerer", "--skip-serve-logs"], env),
    ]


def read_pools(settings: Settings) -> list[Pool]:
    """Return the pools of airflow_settings.yaml, which Astro reads as well, in the settings' sizes.

    Raises:
        ConfigurationError: The file is missing or has another shape.
    """
    path = PROJECT / "airflow_settings.yaml"
    try:
        pools: list[Pool] = yaml.safe_load(path.read_text())["airflow"]["pools"]
    except (OSError, KeyError, TypeError, yaml.YAMLError) as error:
        raise ConfigurationError(
            expected="a list at airflow.pools",
            came=type(error).__name__,
            where=str(path),
            remedy="restore the file from git",
        ) from error
    for pool in pools:
        pool["pool_slot"] = settings.pools.get(pool["pool_name"], pool["pool_slot"])
    return pools
