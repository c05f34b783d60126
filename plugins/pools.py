"""Create the pools that tasks wait in where a Deployment has none (ADR 23).

Airflow leaves a task whose pool does not exist scheduled for ever, with a warning in the
scheduler's log. The scheduler calls this listener before it schedules anything.
"""

from __future__ import annotations

import logging

from airflow.listeners import hookimpl
from airflow.plugins_manager import AirflowPlugin

from include.chimera.flow.warm_start.warm_up import starting_command
from include.chimera.settings import get_settings

logger = logging.getLogger(__name__)


class PoolKeeper:
    """Listens for the start of the scheduler."""

    @hookimpl
    def on_starting(self, component: object) -> None:
        """Create what is missing; a pool that is there keeps its slots."""
        if starting_command(component) == "scheduler":
            create_missing()


def create_missing() -> list[str]:
    """Create the pools that are missing; return their names."""
    from airflow.models.pool import Pool  # noqa: PLC0415 - only the scheduler needs it
    from airflow.utils.session import create_session  # noqa: PLC0415 - as above
    from sqlalchemy.exc import IntegrityError  # noqa: PLC0415 - as above

    created = []
    for name, slots in get_settings().pools.items():
        try:
            with create_session() as session:
                if Pool.get_pool(name, session=session) is None:
                    session.add(
                        Pool(pool=name, slots=slots, description="chimera", include_deferred=False)
                    )
                    created.append(name)
        except IntegrityError:  # another scheduler was first
            created.remove(name)
    if created:
        logger.info("created the missing pools %s", ", ".join(created))
    return created


class PoolsPlugin(AirflowPlugin):
    """Registers the listener."""

    name = "chimera_pools"
    listeners = [PoolKeeper()]  # noqa: RUF012 - Airflow's form
