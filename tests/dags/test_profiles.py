"""The DAGs have tasks for what the chosen profiles fill, and models for everything."""

import pytest
from airflow.dag_processing.dagbag import DagBag

from include.chimera.paths import PROJECT
from include.chimera.profiles.chosen import profile_names
from include.chimera.settings import get_settings
from plugins.source_sensor import _ADDRESS


@pytest.fixture
def dags(request, monkeypatch):
    """Return the DAGs under the profiles of the parameter."""
    monkeypatch.setenv("CHIMERA_PROFILE", request.param)
    get_settings.cache_clear()
    found = DagBag(dag_folder=PROJECT / "dags")
    assert found.import_errors == {}
    yield found.dags
    monkeypatch.undo()
    get_settings.cache_clear()


def tasks(dag, *prefixes):
    return {task.task_id for task in dag.tasks if task.task_id.startswith(prefixes)}


@pytest.mark.parametrize("dags", ["litellm"], indirect=True)
def test_a_database_alone_is_waited_for_read_and_compared(dags):
    hourly = dags["chimera_etl_hourly"]
    assert tasks(hourly, "wait_", "extract_") == {
        "wait_for_app_db",
        "extract_generations",
        "extract_models",
    }
    assert tasks(hourly, "gate_bronze_") == {"gate_bronze_generations", "gate_bronze_models"}
    reads_nothing = hourly.get_task("build_stg_logs__api_requests")
    assert reads_nothing.upstream_task_ids == set()
    assert len(tasks(hourly, "gate_")) > 10
    assert '"LiteLLM_SpendLogs"' in hourly.doc_md
    assert hourly.params.get_param("sources").schema["items"]["enum"] == [
        "bronze.generations",
        "bronze.models",
    ]
    assert {task.task_id for task in dags["chimera_reconcile_daily"].tasks} == {
        "extract_missing_generations",
        "gate_bronze_generations",
    }


@pytest.mark.parametrize("dags", ["vllm"], indirect=True)
def test_metrics_alone_have_nothing_to_compare(dags):
    assert tasks(dags["chimera_etl_hourly"], "wait_", "extract_") == {
        "wait_for_prometheus",
        "extract_provider_metrics",
    }
    assert dags["chimera_reconcile_daily"].tasks == []


@pytest.mark.parametrize("dags", profile_names(), indirect=True)
def test_each_profile_gives_dags(dags):
    found = tasks(dags["chimera_etl_hourly"], "wait_for_")
    waits = {name.removeprefix("wait_for_") for name in found}
    assert waits
    assert waits <= set(_ADDRESS)
