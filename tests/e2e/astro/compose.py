"""The services of `astro dev start`: astro's own compose file, and our override merged into it.

Source: astro-cli, airflow/include/airflow3/composeyml.go.tmpl, and airflow/docker.go.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import yaml

from tests.e2e.astro.stand_in_image import HOME

if TYPE_CHECKING:
    from pathlib import Path

# Astro's own, the same on every machine; the database is reached from within the network alone.
_DATABASE = "postgresql://postgres:postgres@postgres:5432"  # pragma: allowlist secret
_FERNET = "d6Vefz3G9U_ynXB3cr7y_Ak35tAHkEGAVxuz_B-jzWw="  # pragma: allowlist secret
_VARIABLES = {
    "AIRFLOW__API__BASE_URL": "http://localhost:8080",
    "AIRFLOW__API__PORT": "8080",
    "AIRFLOW__API_AUTH__JWT_SECRET": "chimera_rehearsal_of_a_project",  # pragma: allowlist secret
    "AIRFLOW__CORE__AUTH_MANAGER": (
        "airflow.api_fastapi.auth.managers.simple.simple_auth_manager.SimpleAuthManager"
    ),
    "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
    "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": "http://api-server:8080/execution/",
    "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
    "AIRFLOW__CORE__FERNET_KEY": _FERNET,
    "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
    "AIRFLOW__CORE__SQL_ALCHEMY_CONN": _DATABASE,
    "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": _DATABASE,
    "AIRFLOW__SCHEDULER__STANDALONE_DAG_PROCESSOR": "True",
    "AIRFLOW__WEBSERVER__SECRET_KEY": "chimera_rehearsal",  # pragma: allowlist secret
    "AIRFLOW__WEBSERVER__RBAC": "True",
    "AIRFLOW__WEBSERVER__EXPOSE_CONFIG": "True",
    "ASTRONOMER_ENVIRONMENT": "local",
}
COMPONENTS = ("scheduler", "dag-processor", "api-server", "triggerer")


@dataclass
class Service:
    """One service, merged; a service without an image of others runs the project's.

    Args:
        name: Its name, by which others reach it.
        command: Its command line.
        environment: Its variables, beside those of the image.
        mounts: Source (a folder of the project, or a volume's name) and target, in pairs.
        image: The image of others; none: the project's.
        aliases: Further names.
    """

    name: str
    command: list[str] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)
    mounts: list[tuple[str, str]] = field(default_factory=list)
    image: str = ""
    aliases: list[str] = field(default_factory=list)


def services(project: Path) -> dict[str, Service]:
    """Return all services by name, as compose starts them with nothing set in the shell.

    `.env` is read where there is one: its variables give way to those of the compose files.
    """
    found = {"postgres": Service("postgres", image="docker.io/postgres:16")}
    found["db-migration"] = Service("db-migration", ["airflow", "db", "migrate"], {**_VARIABLES})
    for name in COMPONENTS:
        folders = ["dags", "plugins", "include", *(["tests"] if name != "triggerer" else [])]
        mounts = [(f"./{folder}", f"{HOME}/{folder}") for folder in folders]
        if name == "scheduler":
            mounts.append(("./airflow_settings.yaml", f"{HOME}/airflow_settings.yaml"))
        mounts.append(("airflow_logs", f"{HOME}/logs"))
        variables = {**_env_file(project), **_VARIABLES}
        found[name] = Service(name, ["airflow", name], variables, mounts)
    text = (project / "docker-compose.override.yml").read_text()
    override = yaml.safe_load(re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text))
    for name, more in override["services"].items():
        _merge(found.setdefault(name, Service(name)), more)
    return found


def _merge(service: Service, more: dict[str, Any]) -> None:
    """Merge as compose does: a command replaces, variables and mounts add up."""
    service.command = more.get("entrypoint", []) + more.get("command", service.command)
    service.image = more.get("image", service.image)
    service.environment |= {name: str(value) for name, value in more.get("environment", {}).items()}
    for mount in more.get("volumes", []):
        source, target, *_ = mount.split(":")
        service.mounts.append((source, target))
    if isinstance(more.get("networks"), dict):
        service.aliases += more["networks"]["airflow"]["aliases"]


def _env_file(project: Path) -> dict[str, str]:
    path = project / ".env"
    lines = path.read_text().splitlines() if path.exists() else []
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def settings_commands(project: Path) -> list[list[str]]:
    """Return the commands by which astro loads airflow_settings.yaml, once the API is healthy.

    Pools come first; a connection is deleted, if it exists, before it is added.
    Source: astro-cli, settings/settings.go.
    """
    settings = yaml.safe_load((project / "airflow_settings.yaml").read_text())["airflow"]
    commands = [
        ["pools", "set", pool["pool_name"], str(pool["pool_slot"]), pool["pool_description"]]
        for pool in settings["pools"]
    ]
    commands.append(["connections", "list", "-o", "plain"])
    for connection in settings["connections"]:
        command = ["connections", "add", connection["conn_id"]]
        for key, value in connection.items():
            if key != "conn_id":
                text = json.dumps(value) if isinstance(value, dict) else str(value)
                command += [f"--{key.replace('_', '-')}", text]
        commands.append(command)
    return [["airflow", *command] for command in commands]
