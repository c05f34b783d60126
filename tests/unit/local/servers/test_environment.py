"""The servers' environment: made by one function, and complete."""

import json
import re
import stat
from dataclasses import replace

import pytest
import yaml

from include.chimera.local.layout import Layout
from include.chimera.local.servers.components import airflow_programs, read_pools
from include.chimera.local.servers.environment import (
    NOTICE,
    Secrets,
    ServerPlan,
    build_environment,
    keep_passwords,
    keep_secrets,
)
from include.chimera.local.workers.celery_workers import worker_environment
from include.chimera.paths import PROJECT
from include.chimera.settings import Settings


@pytest.fixture
def plan(tmp_path):
    return ServerPlan(
        layout=Layout.of(tmp_path),
        api_port=8123,
        metrics_port=9123,
        broker_port=6123,
        settings=Settings(),
        chimera={"CHIMERA_START_DATE": "2026-01-01T00:00:00+00:00"},
        reparse_seconds=30,
        dags_folder=PROJECT / "dags",
        plugins_folder=PROJECT / "plugins",
    )


def build(plan, **inherited):
    return build_environment(plan, Secrets.make(), inherited)


def test_environment_points_every_address_to_the_chosen_port(plan):
    environment = build(plan)
    assert environment["AIRFLOW__API__PORT"] == "8123"
    assert environment["AIRFLOW__API__HOST"] == "127.0.0.1"
    assert environment["AIRFLOW__API__BASE_URL"] == "http://127.0.0.1:8123"
    url = environment["AIRFLOW__CORE__EXECUTION_API_SERVER_URL"]
    assert url == "http://127.0.0.1:8123/execution/"


def test_a_connection_of_the_callers_own_wins_over_the_sample_applications(plan):
    """An empty one is none: `.env.example` has such lines."""
    own = '{"conn_type": "postgres", "host": "db"}'
    environment = build(plan, AIRFLOW_CONN_APP_DB=own, AIRFLOW_CONN_PROMETHEUS="")
    assert environment["AIRFLOW_CONN_APP_DB"] == own
    assert json.loads(environment["AIRFLOW_CONN_PROMETHEUS"])["port"] == 9123


def test_environment_runs_airflow_as_in_production(plan):
    environment = build(plan)
    assert environment["AIRFLOW__CORE__EXECUTOR"] == "LocalExecutor"
    for kind in ("", "_ASYNC"):
        assert environment[f"AIRFLOW__DATABASE__SQL_ALCHEMY_CONN{kind}"].startswith("postgresql+")
    names = [program.name for program in airflow_programs(environment)]
    assert names == ["api-server", "scheduler", "dag-processor", "triggerer"]


def test_with_workers_celery_runs_the_tasks_as_many_as_there_are_places(plan):
    environment = build(replace(plan, settings=Settings(workers=3, worker_concurrency=5)))
    assert environment["AIRFLOW__CORE__EXECUTOR"] == "CeleryExecutor"
    assert environment["AIRFLOW__CORE__PARALLELISM"] == "15"
    assert environment["AIRFLOW__CELERY__WORKER_CONCURRENCY"] == "5"
    assert re.fullmatch(
        r"redis://:[0-9a-f]{64}@127\.0\.0\.1:6123/0", environment["AIRFLOW__CELERY__BROKER_URL"]
    )
    assert not [name for name in build(plan) if name.startswith("AIRFLOW__CELERY__")]


def test_a_worker_has_its_own_folders_and_the_common_lake(plan):
    common = build(replace(plan, settings=Settings(workers=2)))
    first, second = (worker_environment(plan.layout, number, common) for number in (1, 2))
    own = {name for name in first if first[name] != second[name]}
    assert own == {"AIRFLOW_HOME", "AIRFLOW__COSMOS__CACHE_DIR", "CHIMERA_STATE_DIR"}
    assert {name for name in common if common[name] != first[name]} == own
    settings = Settings(state_dir=plan.layout.root)
    assert first["CHIMERA_LAKE_ROOT"] == settings.lake
    assert first["CHIMERA_API_LOGS_ROOT"] == settings.api_logs
    assert first["CHIMERA_TASK_LOGS_ROOT"] == settings.task_logs


def test_workers_share_no_folder_once_all_is_in_an_object_store(plan):
    places = {
        "CHIMERA_LAKE_ROOT": "s3://lake/root",
        "CHIMERA_API_LOGS_ROOT": "s3://logs/api",
        "CHIMERA_TASK_LOGS_ROOT": "s3://logs/tasks",
        "AIRFLOW__LOGGING__REMOTE_LOGGING": "True",
    }
    environment = worker_environment(plan.layout, 1, build(plan, **places))
    assert {name: environment[name] for name in places} == places
    folder = environment["AIRFLOW__LOGGING__BASE_LOG_FOLDER"]
    assert folder == str(plan.layout.worker(1) / "logs")


def test_the_image_notices_a_lost_worker_as_soon_as_the_embedded_default():
    text = (PROJECT / "Dockerfile").read_text()
    for name, value in NOTICE.items():
        assert re.search(rf"\bAIRFLOW__{name}={value}\b", text), name


def test_environment_keeps_what_cosmos_remembers_in_the_state(plan):
    """Cosmos' default is one folder in /tmp for all users of the machine."""
    assert build(plan)["AIRFLOW__COSMOS__CACHE_DIR"] == str(plan.layout.root / "cosmos")


def test_environment_turns_telemetry_off(plan):
    environment = build(plan, DO_NOT_TRACK="0")
    assert environment["AIRFLOW__COSMOS__ENABLE_TELEMETRY"] == "False"
    assert environment["DO_NOT_TRACK"] == "1"
    assert environment["SCARF_NO_ANALYTICS"] == "1"
    assert environment["GX_ANALYTICS_ENABLED"] == "False"
    assert environment["DBT_NO_VERSION_CHECK"] == "1"


def test_connections_are_json_that_a_hook_can_use(plan):
    environment = build(plan)
    app_db = json.loads(environment["AIRFLOW_CONN_APP_DB"])
    assert app_db["host"] == str(plan.layout.socket_dir)
    assert (app_db["schema"], app_db["login"]) == ("app", "postgres")
    assert json.loads(environment["AIRFLOW_CONN_PROMETHEUS"])["port"] == 9123


def test_inherited_variables_pass_but_never_win(plan):
    environment = build(
        plan,
        AIRFLOW_CONN_SLACK="https://x",
        AIRFLOW__CORE__EXECUTOR="CeleryExecutor",
        AIRFLOW_HOME="/elsewhere",
        PYTHONPATH="/elsewhere",
        PYTHONHOME="/elsewhere",
        CHIMERA_STATE_DIR="relative",
    )
    assert environment["AIRFLOW_CONN_SLACK"] == "https://x"
    assert environment["AIRFLOW__CORE__EXECUTOR"] == "LocalExecutor"
    assert environment["AIRFLOW_HOME"] == str(plan.layout.airflow)
    assert environment["PYTHONPATH"] == str(PROJECT)
    assert environment["CHIMERA_STATE_DIR"] == str(plan.layout.root)
    assert "PYTHONHOME" not in environment


def test_a_proxy_never_sees_loopback(plan):
    environment = build(plan, no_proxy="intranet", https_proxy="http://proxy:3128")
    assert environment["https_proxy"] == "http://proxy:3128"
    for name in ("no_proxy", "NO_PROXY"):
        assert environment[name] == "intranet,127.0.0.1,localhost"


def test_secrets_are_made_once_and_private(plan):
    layout = plan.layout
    layout.make_folders()
    assert keep_secrets(layout) == keep_secrets(layout)
    assert keep_passwords(layout) == keep_passwords(layout)
    assert set(keep_passwords(layout)) == {"admin", "viewer"}
    for path in (layout.secrets, layout.passwords):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_passwords_are_beyond_guessing(plan):
    """Airflow's simple login has no rate limit: 16 letters of 64 are 96 bits."""
    plan.layout.make_folders()
    assert all(len(word) >= 16 for word in keep_passwords(plan.layout).values())


def test_secrets_differ_between_states():
    assert Secrets.make() != Secrets.make()


def test_a_state_of_before_gets_the_keys_that_it_lacks(plan):
    plan.layout.make_folders()
    made = keep_secrets(plan.layout)
    kept = json.loads(plan.layout.secrets.read_text())
    del kept["broker_password"]
    plan.layout.secrets.write_text(json.dumps(kept))
    again = keep_secrets(plan.layout)
    assert replace(again, broker_password=made.broker_password) == made
    assert again == keep_secrets(plan.layout)


def test_pools_come_from_the_file_that_astro_reads_in_the_settings_sizes():
    file = yaml.safe_load((PROJECT / "airflow_settings.yaml").read_text())["airflow"]["pools"]
    assert read_pools(Settings()) == file
    sizes = {
        pool["pool_name"]: pool["pool_slot"]
        for pool in read_pools(Settings(app_db_slots=7, duckdb_slots=9))
    }
    assert sizes == {"app_db": 7, "duckdb": 9}
