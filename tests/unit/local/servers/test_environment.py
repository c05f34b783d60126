"""The servers' environment: made by one function, and complete."""

import json
import stat

import pytest

from include.chimera.local.layout import Layout
from include.chimera.local.servers.components import airflow_programs, read_pools
from include.chimera.local.servers.environment import (
    Secrets,
    ServerPlan,
    build_environment,
    keep_passwords,
    keep_secrets,
)
from include.chimera.paths import PROJECT


@pytest.fixture
def plan(tmp_path):
    return ServerPlan(
        layout=Layout.of(tmp_path),
        api_port=8123,
        metrics_port=9123,
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


def test_pools_come_from_the_file_that_astro_reads():
    assert all({"pool_name", "pool_slot"} <= set(pool) for pool in read_pools())
