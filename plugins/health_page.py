"""Show the lake's health in Airflow's UI: in the navigation, on DAGs, runs and tasks (ADR 35)."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from airflow.configuration import conf
from airflow.plugins_manager import AirflowPlugin

PREFIX = "/chimera"
# Placeholders that Airflow fills in, by where the view is shown.
PLACES = {"nav": "/", "dag": "/", "dag_run": "/run/{RUN_ID}", "task": "/task/{TASK_ID}"}


class HealthPagePlugin(AirflowPlugin):
    """Registers the routes and the views that show them."""

    name = "chimera_health_page"

    @property
    def fastapi_apps(self) -> list[Any]:  # type: ignore[override]  # Airflow reads it of an instance
        """The routes, which only the API server asks for: no other component imports them."""
        from include.chimera.flow.health_page.routes import app  # noqa: PLC0415 - see above

        return [{"app": app, "url_prefix": PREFIX, "name": "chimera_health"}]

    external_views = [  # noqa: RUF012 - Airflow's form
        {
            "name": "Health",
            "href": urlsplit(conf.get("api", "base_url", fallback="") or "").path.rstrip("/")
            + PREFIX
            + path,
            "destination": destination,
            "url_route": f"chimera_health_{destination}",
        }
        for destination, path in PLACES.items()
    ]
