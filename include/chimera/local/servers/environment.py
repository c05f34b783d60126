"""The environment of the servers: all of Airflow's configuration, in one function.

Airflow is configured by environment variables alone, which take precedence over the airflow.cfg
that it may write into its home.
"""

from __future__ import annotations

import base64
import json
import secrets as random_source
import sys
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from include.chimera.local.private_files import write_private
from include.chimera.local.servers.postgres_server import (
    AIRFLOW_DATABASE,
    APP_DATABASE,
    SUPERUSER,
    Postgres,
)
from include.chimera.local.workers.broker import broker_url
from include.chimera.paths import PROJECT
from include.chimera.profiles.chosen import sources

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from include.chimera.local.layout import Layout
    from include.chimera.settings import Settings

USERS = {"admin": "admin", "viewer": "viewer"}
NOTICE = {
    # A task's supervisor tells every 5 s that it is alive. Twelve missed signs are a lost worker;
    # with the default, 300 s, two lost workers cost an hour 18 minutes (ADR 26).
    "SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "60",
    # A message can be lost with the worker or the broker that held it: the task is queued again.
    # Airflow fails it after 11 times, half an hour, as with its defaults of 3 times 600 s: tasks
    # may also wait because all workers are busy.
    "SCHEDULER__TASK_QUEUED_TIMEOUT": "180",
    "SCHEDULER__TASK_QUEUED_TIMEOUT_CHECK_INTERVAL": "30",
    "SCHEDULER__NUM_STUCK_IN_QUEUED_RETRIES": "10",
    # Tasks of a scheduler that was killed: the next one adopts them.
    "SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "60",
}
"""Settings by which Airflow notices soon that a worker is lost, as AIRFLOW__SECTION__KEY."""

CELERY_CONFIG = {
    # A worker loads no plugin: this warms it up before it forks.
    "imports": ["include.chimera.flow.warm_start.celery_worker"],
    # Redis gives a message to another worker when its own has not acknowledged it by then: longer
    # than any task may run, so that no healthy task is started twice. It stands here because the
    # provider (3.26.0) does not see AIRFLOW__CELERY_BROKER_TRANSPORT_OPTIONS__VISIBILITY_TIMEOUT.
    "broker_transport_options": {"visibility_timeout": 600},
}
"""Settings of Celery itself, for AIRFLOW__CELERY__EXTRA_CELERY_CONFIG, as in the image."""

MALLOC = {
    "MALLOC_ARENA_MAX": "2",  # glibc keeps up to 8 arenas per core; ours are small processes
    # By default, glibc raises the threshold to the last freed size and keeps big buffers: 74 MiB
    # more at the peak of an extract of 4 M rows (2026-11-24).
    "MALLOC_MMAP_THRESHOLD_": str(1 << 20),
}
"""Settings of glibc's allocator that save memory in Airflow's processes."""


SOURCES = {
    "app_db": "AIRFLOW_CONN_APP_DB",
    "prometheus": "AIRFLOW_CONN_PROMETHEUS",
    "api_logs": "CHIMERA_API_LOGS_ROOT",
}
"""The variable that names each source that the sample application fills."""
OWN_FILES = {
    "reports": "CHIMERA_EVALUATIONS_ROOT",
    "otel": "CHIMERA_SPANS_ROOT",
    "json": "CHIMERA_RECORDS_ROOT",
}
"""The variable that names each source that only the caller has."""


def own_sources(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the sources to read that the environment names, each with its variable."""
    read = sources()
    return {
        source: name
        for source, name in (SOURCES | OWN_FILES).items()
        if source in read and environment.get(name)
    }


def sample_sources(environment: Mapping[str, str]) -> list[str]:
    """Return the sources that the chosen profiles read and that are not the caller's own."""
    own, read = own_sources(environment), sources()
    return [source for source in SOURCES if source in read and source not in own]


@dataclass(frozen=True)
class Secrets:
    """Keys that are generated once per state folder."""

    fernet_key: str
    jwt_secret: str
    api_secret_key: str
    broker_password: str

    @classmethod
    def make(cls) -> Secrets:
        """Generate new keys."""
        fernet_key = base64.urlsafe_b64encode(random_source.token_bytes(32)).decode()
        return cls(fernet_key, *(random_source.token_hex(32) for _ in range(3)))


def keep_secrets(layout: Layout) -> Secrets:
    """Return the state folder's keys, generating on the first call those that it lacks."""
    kept = json.loads(layout.secrets.read_text()) if layout.secrets.exists() else {}
    whole = {**asdict(Secrets.make()), **kept}
    if whole != kept:
        write_private(layout.secrets, json.dumps(whole) + "\n")
    return Secrets(**whole)


def keep_passwords(layout: Layout) -> dict[str, str]:
    """Return the passwords by user of the UI, generating them on the first call."""
    if layout.passwords.exists():
        return {
            str(name): str(word) for name, word in json.loads(layout.passwords.read_text()).items()
        }
    made = {name: random_source.token_urlsafe(12) for name in USERS}
    write_private(layout.passwords, json.dumps(made) + "\n")
    return made


@dataclass(frozen=True)
class ServerPlan:
    """The choices of one start of the servers.

    Args:
        layout: The state folder's places.
        api_port: Port of Airflow's API server and UI.
        metrics_port: Port of the sample application's Prometheus API.
        broker_port: Port of Celery's broker, if there are workers.
        settings: How many workers, and tasks at once.
        chimera: CHIMERA_ variables for the DAGs, such as the first and last hour.
        reparse_seconds: Interval at which a DAG file is parsed again.
        dags_folder: Where the DAGs are.
        plugins_folder: Where the plugins are.
    """

    layout: Layout
    api_port: int
    metrics_port: int
    broker_port: int
    settings: Settings
    chimera: Mapping[str, str]
    reparse_seconds: int
    dags_folder: Path
    plugins_folder: Path

    @property
    def url(self) -> str:
        """The address of the UI and the API."""
        return f"http://127.0.0.1:{self.api_port}"

    @property
    def parallelism(self) -> int:
        """Tasks at once, over all runs and DAGs: as many as there are places to run them."""
        settings = self.settings
        return settings.workers * settings.worker_concurrency or settings.max_active_tasks


def build_environment(
    plan: ServerPlan, secrets: Secrets, inherited: Mapping[str, str]
) -> dict[str, str]:
    """Return the whole environment of Airflow's components.

    Args:
        plan: The choices of this start.
        secrets: The state folder's keys.
        inherited: The caller's environment. Variables set here override it; the others, such as a
            proxy or a connection to Slack, are passed on.
    """
    environment = {
        name: value
        for name, value in inherited.items()
        if name not in {"PYTHONHOME", "VIRTUAL_ENV"}
    }
    environment.update(_process_variables(inherited))
    settings = {**_core(plan), **_components(plan), **NOTICE, **_secret_settings(secrets)}
    settings |= _celery(plan, secrets) if plan.settings.workers else {}
    environment.update({f"AIRFLOW__{name}": value for name, value in settings.items()})
    own = own_sources(inherited).values()
    environment |= {name: text for name, text in _connections(plan).items() if name not in own}
    environment.update(plan.chimera)
    environment["AIRFLOW_HOME"] = str(plan.layout.airflow)
    environment["CHIMERA_STATE_DIR"] = str(plan.layout.root)
    return environment


def _process_variables(inherited: Mapping[str, str]) -> dict[str, str]:
    """Variables for Python and its libraries."""
    direct = [
        inherited.get("no_proxy") or inherited.get("NO_PROXY") or "",
        "127.0.0.1",
        "localhost",
    ]
    no_proxy = ",".join(part for part in direct if part)
    variables = {
        "PYTHONPATH": str(PROJECT),
        "PYTHONUNBUFFERED": "1",
        "no_proxy": no_proxy,
        "NO_PROXY": no_proxy,
        "SPT_NOENV": "1",  # process titles must not overwrite the environment, which has the mark
        **MALLOC,
        "DO_NOT_TRACK": "1",
        "SCARF_NO_ANALYTICS": "1",
        "GX_ANALYTICS_ENABLED": "False",
        "DBT_USE_COLORS": "0",
        "DBT_NO_VERSION_CHECK": "1",
        "NO_COLOR": "1",
    }
    if sys.platform == "darwin":  # Apple's frameworks abort in a forked child otherwise
        variables["OBJC_DISABLE_INITIALIZE_FORK_SAFETY"] = "YES"
    return variables


def _core(plan: ServerPlan) -> dict[str, str]:
    """Settings that every component reads, as SECTION__KEY."""
    return {
        "CORE__DAGS_FOLDER": str(plan.dags_folder),
        "CORE__PLUGINS_FOLDER": str(plan.plugins_folder),
        "CORE__LOAD_EXAMPLES": "False",
        "CORE__EXECUTOR": "LocalExecutor",
        "CORE__PARALLELISM": str(plan.parallelism),
        "CORE__MAX_ACTIVE_TASKS_PER_DAG": str(plan.parallelism),
        "CORE__DAGS_ARE_PAUSED_AT_CREATION": "True",
        "CORE__HOSTNAME_CALLABLE": "socket.gethostname",  # the default asks DNS, which may hang
        "CORE__AUTH_MANAGER": (
            "airflow.api_fastapi.auth.managers.simple.simple_auth_manager.SimpleAuthManager"
        ),
        "CORE__SIMPLE_AUTH_MANAGER_USERS": ",".join(f"{u}:{role}" for u, role in USERS.items()),
        "CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "False",
        "CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(plan.layout.passwords),
        "CORE__EXECUTION_API_SERVER_URL": f"{plan.url}/execution/",
    }


def _components(plan: ServerPlan) -> dict[str, str]:
    """Settings of the database, the API server, the DAG processor, the scheduler and the logs."""
    postgres = Postgres(plan.layout)
    return {
        "DATABASE__SQL_ALCHEMY_CONN": postgres.uri(AIRFLOW_DATABASE, "psycopg2"),
        "DATABASE__SQL_ALCHEMY_CONN_ASYNC": postgres.uri(AIRFLOW_DATABASE, "asyncpg"),
        "API__HOST": "127.0.0.1",
        "API__PORT": str(plan.api_port),
        "API__BASE_URL": plan.url,
        "API__WORKERS": "1",
        "API__EXPOSE_CONFIG": "False",
        "LOGGING__BASE_LOG_FOLDER": str(plan.layout.task_logs),
        "LOGGING__DAG_PROCESSOR_CHILD_PROCESS_LOG_DIRECTORY": str(
            plan.layout.logs / "dag_processor"
        ),
        "LOGGING__LOGGING_LEVEL": "INFO",
        "LOGGING__COLORED_CONSOLE_LOG": "False",
        "LOGGING__NAMESPACE_LEVELS": "http.access=WARNING great_expectations=WARNING",
        # A worker sometimes notices its task's end only at the next heartbeat: with the default of
        # 5 s, it idles that long after every other task (measured).
        "WORKERS__MIN_HEARTBEAT_INTERVAL": "2",
        "DAG_PROCESSOR__REFRESH_INTERVAL": str(plan.reparse_seconds),
        "DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": str(plan.reparse_seconds),
        "DAG_PROCESSOR__PARSING_PROCESSES": "1",
        "DAG_PROCESSOR__PRINT_STATS_INTERVAL": "300",
        "SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.3",  # the default, 1 s, adds up along a chain
        "SCHEDULER__ENABLE_HEALTH_CHECK": "False",
        "SCHEDULER__CATCHUP_BY_DEFAULT": "False",
        "COSMOS__CACHE_DIR": str(plan.layout.cosmos),  # the default, /tmp/cosmos, is shared by all
        "COSMOS__ENABLE_TELEMETRY": "False",
        "USAGE_DATA_COLLECTION__ENABLED": "False",
    }


def _celery(plan: ServerPlan, secrets: Secrets) -> dict[str, str]:
    """Settings of CeleryExecutor and its workers."""
    return {
        "CORE__EXECUTOR": "CeleryExecutor",
        "CELERY__BROKER_URL": broker_url(plan.broker_port, secrets.broker_password),
        "CELERY__WORKER_CONCURRENCY": str(plan.settings.worker_concurrency),
        # Take no message that no process is free for, and keep it until its task has ended.
        "CELERY__WORKER_PREFETCH_MULTIPLIER": "1",
        "CELERY__TASK_ACKS_LATE": "True",
        "CELERY__SYNC_PARALLELISM": "1",  # the scheduler sends messages without forking
        "CELERY__EXTRA_CELERY_CONFIG": json.dumps(CELERY_CONFIG),
    }


def _secret_settings(secrets: Secrets) -> dict[str, str]:
    return {
        "CORE__FERNET_KEY": secrets.fernet_key,
        "API__SECRET_KEY": secrets.api_secret_key,
        "API_AUTH__JWT_SECRET": secrets.jwt_secret,
    }


def _connections(plan: ServerPlan) -> dict[str, str]:
    """The two sources as Airflow connections."""
    app_db = {
        "conn_type": "postgres",
        "host": str(plan.layout.socket_dir),
        "login": SUPERUSER,
        "schema": APP_DATABASE,
    }
    prometheus = {"conn_type": "http", "host": "http://127.0.0.1", "port": plan.metrics_port}
    return {
        "AIRFLOW_CONN_APP_DB": json.dumps(app_db),
        "AIRFLOW_CONN_PROMETHEUS": json.dumps(prometheus),
    }
