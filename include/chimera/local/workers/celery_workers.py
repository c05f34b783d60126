"""Celery workers that share nothing but what a deployment's workers share.

Each has a state folder and an Airflow home of its own, as on a machine of its own. Common are the
lake, the API's logs and, unless they go to an object store, the task logs.
"""

from __future__ import annotations

import socket
import sys
from typing import TYPE_CHECKING

from include.chimera.local.private_files import make_private
from include.chimera.local.supervision.keeper import Program

if TYPE_CHECKING:
    from collections.abc import Mapping

    from include.chimera.local.layout import Layout

_REMOTE_LOGS = "AIRFLOW__LOGGING__REMOTE_LOGGING"


def worker_program(layout: Layout, number: int, env: Mapping[str, str]) -> Program:
    """Return the program of one worker, counted from 1.

    Args:
        layout: The stack's places.
        number: The worker's number.
        env: The environment of the other components.
    """
    name, home = f"worker-{number}", layout.worker(number)
    make_private(home)
    command = [sys.executable, "-m", "airflow", "celery", "worker", "--skip-serve-logs"]
    # Celery refuses a second worker of the same name.
    command += ["--celery-hostname", f"{name}@{socket.gethostname()}"]
    return Program(name, command, worker_environment(layout, number, env))


def worker_environment(layout: Layout, number: int, env: Mapping[str, str]) -> dict[str, str]:
    """Return a worker's environment: its own folders, and where the common ones are."""
    home = layout.worker(number)
    common = {
        "CHIMERA_LAKE_ROOT": layout.lake,
        "CHIMERA_API_LOGS_ROOT": layout.api_logs,
        "CHIMERA_TASK_LOGS_ROOT": layout.task_logs,
    }
    own = {
        "AIRFLOW_HOME": str(home / "airflow"),
        "AIRFLOW__COSMOS__CACHE_DIR": str(home / "cosmos"),
        "CHIMERA_STATE_DIR": str(home),
    }
    if env.get(_REMOTE_LOGS, "").lower() == "true":
        own["AIRFLOW__LOGGING__BASE_LOG_FOLDER"] = str(home / "logs")
    return {**env, **{name: env.get(name) or str(place) for name, place in common.items()}, **own}
