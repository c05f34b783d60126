"""Show the lake's health and the insight page in Airflow's UI (ADR 35, 36).

Health stands in the navigation, on DAGs, runs and tasks; the insight page in the navigation.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from airflow.configuration import conf
from airflow.plugins_manager import AirflowPlugin

from include.chimera.flow.doc_pages.task_pages import HEALTH

# Name, where it is shown, and its path, with placeholders that Airflow fills in.
VIEWS = (
    ("Health", "nav", "/"),
    ("Health", "dag", "/"),
    ("Health", "dag_run", "/run/{RUN_ID}"),
    ("Health", "task", "/task/{TASK_ID}"),
    ("Health", "task_instance", "/task/{TASK_ID}"),
    ("Insight", "nav", "/insight"),
)


class HealthPagePlugin(AirflowPlugin):
    """Registers the routes and the views that show them."""

    name = "chimera_health_page"

    @property
    def fastapi_apps(self) -> list[Any]:  # type: ignore[override]  # Airflow reads it of an instance
        """The routes, which only the API server asks for: no other component imports them."""
        from include.chimera.flow.health_page.routes import app  # noqa: PLC0415 - see above

        return [{"app": app, "url_prefix": HEALTH, "name": "chimera_health"}]

    external_views = [  # noqa: RUF012 - Airflow's form
        {
            "name": name,
            "href": urlsplit(conf.get("api", "base_url", fallback="") or "").path.rstrip("/")
            + HEALTH
            + path,
            "destination": destination,
            "nav_top_level": True,  # else two views hide in a menu
            "url_route": f"chimera_{name.lower()}_{destination}",
        }
        for name, destination, path in VIEWS
    ]
