"""What Airflow's API answers without a login is what docs/security.md says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

from include.chimera.paths import PROJECT

if TYPE_CHECKING:
    from pathlib import Path

ROUTES = """
import json, sys
from airflow.api_fastapi.app import create_app

LOGIN = {"get_user", "require_auth", "_jwt_bearer", "JWTBearer"}

def asks(dependant):
    name = getattr(dependant.call, "__name__", type(dependant.call).__name__)
    return name in LOGIN or any(map(asks, dependant.dependencies))

def walk(routes, prefix=""):
    for route in routes:
        path = prefix + getattr(route, "path", "")
        if hasattr(route, "dependant"):
            yield path, asks(route.dependant)
        elif getattr(route, "routes", None):
            yield from walk(route.routes, path)
        else:
            yield path, False

json.dump([*walk(create_app(apps="all").routes)], sys.stderr)
"""
PAGES = ("openapi.json", "docs", "docs/oauth2-redirect", "redoc")
OPEN = {
    # The API's documentation, the same for every installation of this version.
    *(f"{part}/{page}" for part in ("", "/execution", "/cosmos", "/auth") for page in PAGES),
    "/execution/changelog",
    # Logging in and out.
    *("/auth/token", "/auth/token/login", "/auth/token/cli", "/auth/{rest_of_path:path}"),
    *("/api/v2/auth/login", "/api/v2/auth/logout"),
    # Health, version, and the program of the UI, which holds no data.
    *("/api/v2/monitor/health", "/api/v2/version", "/health", "/static", "/auth/static"),
    "/{rest_of_path:path}",
    # Answers that there is nothing.
    *("/api/v1/{_:path}", "/api/{_:path}"),
}


def test_every_route_but_the_named_ones_asks_for_a_login(tmp_path: Path) -> None:
    """A plugin or a new version that opens another one is noticed."""
    manager = "airflow.api_fastapi.auth.managers.simple.simple_auth_manager.SimpleAuthManager"
    variables = {
        "AIRFLOW_HOME": str(tmp_path),
        "AIRFLOW__CORE__AUTH_MANAGER": manager,
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(tmp_path / "passwords.json"),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(PROJECT / "plugins"),
    }
    done = subprocess.run(  # noqa: S603  # our own code
        [sys.executable, "-c", ROUTES],
        cwd=PROJECT,
        env={**os.environ, **variables},  # noqa: TID251  # a child inherits
        capture_output=True,
        text=True,
        check=True,
    )
    routes = json.loads(done.stderr.splitlines()[-1])
    assert len(routes) > 100
    assert {path for path, asks in routes if not asks} == OPEN
