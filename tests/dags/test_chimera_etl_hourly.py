"""The hourly DAG: it parses, has the right shape, and obeys the policies."""

from copy import copy
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from types import SimpleNamespace

import pytest
from airflow.dag_processing.dagbag import DagBag
from airflow.sdk import DAG, BaseOperator, timezone
from airflow.sdk.exceptions import AirflowSkipException, ParamValidationError
from airflow.sdk.execution_time.context import set_current_context
from airflow.serialization.serialized_objects import OperatorSerialization
from airflow.timetables.base import DataInterval, TimeRestriction
from airflow.timetables.interval import CronDataIntervalTimetable

from include.chimera.contracts import BRONZE
from include.chimera.flow.delivery.callbacks import tell_run_failure
from include.chimera.paths import PROJECT
from include.chimera.profiles.chosen import profile_names, sources
from include.chimera.quality.rules.book import rule_books
from include.chimera.settings import get_settings
from include.chimera.sources.completeness import LACKS
from include.chimera.window import HOUR, floor_hour

DAG_ID = "chimera_etl_hourly"
TABLES = [contract.name for contract in BRONZE]
BUILT = ("build_", "gate_silver_", "gate_gold_")


@pytest.fixture(scope="module")
def dags() -> DagBag:
    """Return everything that the dags folder holds."""
    return DagBag(dag_folder=PROJECT / "dags")


@pytest.fixture(scope="module")
def dag(dags: DagBag) -> DAG:
    """Return the hourly DAG."""
    return dags.dags[DAG_ID]


def upstream(dag: DAG, task_id: str) -> set[str]:
    """Return the tasks that must succeed before this one starts."""
    return set(dag.get_task(task_id).upstream_task_ids)


def test_dags_folder_holds_the_known_dags(dags: DagBag) -> None:
    """An empty or broken folder can't pass."""
    assert dags.import_errors == {}
    assert set(dags.dags) == {
        DAG_ID,
        "chimera_catch_up",
        "chimera_dead_letter_replay",
        "chimera_doctor",
        "chimera_maintenance",
        "chimera_reconcile_daily",
    }


def test_every_dag_ends_a_run_that_hangs_and_tells_what_no_task_can(dags: DagBag) -> None:
    for dag in dags.dags.values():
        assert dag.on_failure_callback is tell_run_failure
        assert dag.dagrun_timeout == timedelta(minutes=30)


def test_schedule_is_hourly_with_a_real_interval(dag: DAG) -> None:
    """A plain cron string would give intervals of length zero."""
    assert isinstance(dag.timetable, CronDataIntervalTimetable)
    assert dag.timetable.summary == "0 * * * *"
    assert set(dag.params) == {
        "window_start",
        "window_end",
        "sources",
        "full_refresh",
        "allow_shrink",
    }


@pytest.mark.parametrize(
    ("variables", "catchup", "most"),
    [
        ({}, False, 3),
        ({"CATCH_UP_RUNS": "5"}, False, 6),
        ({"CATCH_UP_RUNS": "0", "START_DATE": "2026-03-01"}, True, 1),
    ],
)
def test_the_schedule_has_a_run_of_its_own_beside_those_that_catch_up(
    monkeypatch: pytest.MonkeyPatch, variables: dict, catchup: bool, most: int
) -> None:
    """Else the current hour would wait for them; without them, hours run in order."""
    for name in ("START_DATE", "CATCH_UP_RUNS"):
        monkeypatch.setenv(f"CHIMERA_{name}", variables.get(name, ""))
    get_settings.cache_clear()
    hourly, catch_up = (
        DagBag(dag_folder=PROJECT / f"dags/{name}.py").dags[name]
        for name in (DAG_ID, "chimera_catch_up")
    )
    get_settings.cache_clear()
    assert (hourly.catchup, hourly.max_active_runs) == (catchup, most)
    assert catch_up.timetable.can_be_scheduled is not catchup


def test_a_fresh_deployment_begins_with_the_last_full_hour(dag: DAG) -> None:
    """And an interrupted one goes on there: hours in between are for the catch-up."""
    now = floor_hour(timezone.utcnow())
    restriction = TimeRestriction(earliest=None, latest=None, catchup=dag.catchup)
    for last in (None, DataInterval.exact(timezone.parse("2026-01-05T00:00:00"))):
        found = dag.timetable.next_dagrun_info(
            last_automated_data_interval=last, restriction=restriction
        )
        assert found.data_interval.start >= now - HOUR  # a later one if an hour has just ended
        assert found.run_after <= timezone.utcnow()


@pytest.mark.parametrize("day", ["2026-03-29", "2026-10-25"])
def test_a_day_of_a_clock_change_has_24_runs(dag: DAG, day: str) -> None:
    """Berlin skips an hour or repeats one: the runs tile the UTC day."""
    start = timezone.parse(day)
    hours = [start + number * HOUR for number in range(25)]
    restriction = TimeRestriction(earliest=start, latest=hours[-2], catchup=True)
    intervals: list[DataInterval] = []
    while found := dag.timetable.next_dagrun_info(
        last_automated_data_interval=intervals[-1] if intervals else None, restriction=restriction
    ):
        intervals.append(found.data_interval)
    assert [(span.start, span.end) for span in intervals] == list(pairwise(hours))


HOSTILE = ("'; drop table app.generations; --", "{{ 7 * 7 }}", "$(id)", "../../etc/passwd", "*")


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        (
            "sources",
            [None, ["bronze.models"], ["bronze.api_logs", "bronze.generations"]],
            [
                *([text] for text in HOSTILE),
                "bronze.models",
                [],
                ["bronze.models", "bronze.models"],
                ["ops.dead_letters"],
                [None],
                {"bronze.models": 1},
            ],
        ),
        ("full_refresh", [True, False], [*HOSTILE, "true", 1, None]),
        ("allow_shrink", [True, False], [*HOSTILE, "true", 1, None]),
        ("window_start", [None, "2026-03-01T09:00:00Z"], [*HOSTILE, "", 5, ["2026-03-01"]]),
        ("window_end", [None, "2026-03-01T10:00:00+00:00"], [*HOSTILE, "", 5, ["2026-03-01"]]),
    ],
)
def test_the_form_takes_what_its_schema_says_and_nothing_else(
    dag: DAG, name: str, good: list, bad: list
) -> None:
    """What is refused here is refused by the API and the UI before a run exists."""
    for value in good:
        assert dag.params.get_param(name).resolve(value) == value
    for value in bad:
        with pytest.raises(ParamValidationError):
            dag.params.get_param(name).resolve(value)


def test_every_task_says_how_it_is_retried_and_when_it_is_late(dag: DAG) -> None:
    """Extract is tried four times, everything else twice, each within a timeout."""
    for task in dag.tasks:
        if task.task_type == "EmptyOperator":
            continue
        expected = 3 if task.task_id.startswith(("extract_", "wait_for_")) else 1
        assert (task.task_id, task.retries) == (task.task_id, expected)
        assert task.retry_delay == timedelta(minutes=1)
        assert task.retry_exponential_backoff == 2.0
        assert task.execution_timeout is not None
        assert task.execution_timeout <= timedelta(minutes=5)
        assert task.retry_policy is not None


def test_heavy_tasks_stand_in_their_pools(dag: DAG) -> None:
    """One connection a task to the application's database; DuckDB work is bounded."""
    pools = {task.task_id: task.pool for task in dag.tasks}
    assert {pools[f"extract_{name}"] for name in ("generations", "models")} == {"app_db"}
    for task_id, pool in pools.items():
        if task_id.startswith(("gate_", "build_")) and not task_id.startswith("build_int_"):
            assert (task_id, pool) == (task_id, "duckdb")


def test_every_bronze_table_is_extracted_then_gated(dag: DAG) -> None:
    """Stage, gate, commit: the gate is what publishes."""
    for contract in BRONZE:
        gate = f"gate_bronze_{contract.table}"
        assert upstream(dag, gate) == {f"extract_{contract.table}"}


def test_every_extract_waits_for_its_own_source_alone(dag: DAG) -> None:
    """A source that is late, or down, stops nothing else."""
    for source, read in sources().items():
        for intake in read:
            extract = f"extract_{intake.contract.table}"
            assert upstream(dag, extract) == {f"wait_for_{source}"}
        assert upstream(dag, f"wait_for_{source}") == set()
    assert {source for name in profile_names() for source in sources(name)} == set(LACKS)


def test_deletions_are_looked_for_in_each_mutable_table(dags: DagBag) -> None:
    """A row that the application deletes leaves no trace that an hourly window could see."""
    found = {task.task_id for task in dags.dags["chimera_reconcile_daily"].tasks}
    mutable = [contract.table for contract in BRONZE if contract.kind == "versions"]
    assert len(mutable) > 1
    for table in mutable:
        assert {f"extract_deleted_{table}", f"gate_bronze_{table}"} <= found


def test_the_essays_name_each_table_of_the_application(dags: DagBag) -> None:
    essays = {dag_id: str(dags.dags[dag_id].doc_md) for dag_id in dags.dags}
    for intake in sources()["app_db"]:
        name = f"`{intake.reader.table}`"
        assert name in essays["chimera_etl_hourly"]
        assert (name in essays["chimera_reconcile_daily"]) == (intake.compared is not None)


def test_every_model_is_followed_by_its_gate(dag: DAG) -> None:
    """Each table with rules has one gate, and a model's gate waits for its model alone."""
    gates = {task.task_id for task in dag.tasks if task.task_id.startswith("gate_")}
    assert gates == {f"gate_{book.table.replace('.', '_')}" for book in rule_books()}
    for gate in sorted(gates):
        if not gate.startswith("gate_bronze_"):
            model = gate.split("_", 2)[2]
            assert upstream(dag, gate) == {f"build_{model}"}


def test_a_model_runs_again_by_itself(dag: DAG) -> None:
    """Cosmos' other modes share a producer's state or files, which a cleared model would miss."""
    builds = [task for task in dag.tasks if task.task_id.startswith("build_")]
    ephemeral = {task for task in builds if type(task).__name__ == "EmptyOperator"}
    assert len(builds) - len(ephemeral) > 10
    for task in set(builds) - ephemeral:
        assert type(task).__module__ == "cosmos.operators.local", task.task_id


@pytest.mark.parametrize(
    ("model", "waits_for"),
    [
        ("stg_app__generations", {"gate_bronze_generations"}),
        ("fct_generations", {"gate_silver_stg_app__generations"}),
        (
            "agg_usage_daily",
            {"gate_gold_agg_provider_hourly", "gate_gold_fct_generations"},
        ),
    ],
)
def test_a_model_waits_for_the_gates_of_what_it_reads_alone(
    dag: DAG, model: str, waits_for: set[str]
) -> None:
    """No barrier between the layers."""
    assert upstream(dag, f"build_{model}") == waits_for


def test_the_last_task_fails_with_what_it_waits_for(dag: DAG) -> None:
    """A leaf that runs after failures would make the run a success."""
    leaves = [task for task in dag.tasks if not task.downstream_task_ids]
    assert [leaf.task_id for leaf in leaves] == ["report_run"]
    rules = {task.task_id: task.trigger_rule for task in dag.tasks}
    assert [name for name, rule in rules.items() if rule == "all_done"] == ["record_quality"]
    # Skipped gates, those of sources that were not asked for, don't skip what reads them.
    assert {name for name, rule in rules.items() if rule == "none_failed"} == {
        name
        for name in rules
        if name.startswith(("build_", "optimize_")) and not name.startswith("build_int_")
    }
    assert upstream(dag, "report_run") == {
        "record_quality",
        *(f"optimize_{layer}" for layer in ("bronze", "silver", "gold")),
    }


def test_what_the_gates_found_is_recorded_whatever_it_is(dag: DAG) -> None:
    """A failed gate's results belong to the history too; the leaf behind still fails the run."""
    record = dag.get_task("record_quality")
    assert record.trigger_rule == "all_done"
    gates = {task.task_id for task in dag.tasks if task.task_id.startswith("gate_")}
    assert upstream(dag, "record_quality") == gates


@pytest.mark.parametrize(("asked", "is_whole"), [("True", True), ("False", False)])
def test_a_full_refresh_is_dbts_own(dag: DAG, asked: str, is_whole: bool) -> None:
    """The param reaches each model's task as a template, and dbt as its flag."""
    models = [task for task in dag.tasks if getattr(task, "full_refresh", None) is not None]
    assert len(models) > 10
    for task in models:
        assert task.full_refresh == "{{ params.full_refresh }}"
        assert "full_refresh" in task.template_fields
        rendered = copy(task)
        rendered.full_refresh = asked
        assert ("--full-refresh" in rendered.add_cmd_flags()) is is_whole


@pytest.mark.parametrize("table", TABLES)
def test_sources_that_were_not_asked_for_are_skipped(dag: DAG, table: str) -> None:
    """Before anything is read, and without a word to the source."""
    others = [name for name in TABLES if name != table]
    task = dag.get_task(f"extract_{table.partition('.')[2]}")
    dag_run = SimpleNamespace(
        run_id="manual__1",
        run_type="manual",
        data_interval_start=datetime(2026, 3, 1, 9, tzinfo=UTC),
        data_interval_end=datetime(2026, 3, 1, 10, tzinfo=UTC),
    )
    context = {
        "dag_run": dag_run,
        "params": {"sources": others},
        "ti": SimpleNamespace(task_id=task.task_id),
    }
    with set_current_context(context), pytest.raises(AirflowSkipException):
        task.python_callable()


def test_a_task_finds_itself_in_a_dag_that_was_parsed_for_it(
    dag: DAG, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the whole DAG has it, with all that is downstream; a leaf's has one model."""
    others = ("extract_models", "record_quality")
    sizes = {}
    for task_id in (*others, *(name for name in dag.task_ids if name.startswith(BUILT))):
        monkeypatch.setenv("_AIRFLOW_PARSING_CONTEXT_DAG_ID", DAG_ID)
        monkeypatch.setenv("_AIRFLOW_PARSING_CONTEXT_TASK_ID", task_id)
        alone = DagBag(PROJECT / "dags" / f"{DAG_ID}.py").dags[DAG_ID]
        assert described(alone.get_task(task_id)) == described(dag.get_task(task_id))
        sizes[task_id] = len(alone.task_ids)
    assert sizes["extract_models"] == sizes["record_quality"] == len(dag.task_ids)
    models = sum(name.startswith(BUILT) for name in dag.task_ids)
    assert min(sizes.values()) == len(dag.task_ids) - models + 2


def described(task: BaseOperator) -> dict:
    """Return all that Airflow keeps of a task, and what is downstream of it."""
    group = task.task_group.group_id if task.task_group else None
    downstream = {each.task_id for each in task.get_flat_relatives(upstream=False)}
    return {
        **OperatorSerialization.serialize_operator(task),
        "downstream_task_ids": downstream,
        "group": group,
    }
