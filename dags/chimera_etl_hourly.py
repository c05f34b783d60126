"""Hourly analytics of the Chimera platform.

**Purpose.** Publish, each hour, trustworthy tables of what the Chimera platform did: which models
were called, at what cost and speed, and how well they withstood attacks.

**Schedule.** Hourly, on data intervals (`CHIMERA_SCHEDULE`), UTC, beginning with the last full
hour. `chimera_catch_up` runs missed hours beside it, from `CHIMERA_START_DATE` on, at most
`CHIMERA_CATCH_UP_RUNS` at once. A run's window is its data interval; a manual run takes
`window_start` and `window_end` from its params, else the last full hour.

**Inputs.** What `CHIMERA_PROFILE` chooses: {inputs}.

**Outputs.** Delta tables in the layers bronze, silver and gold below `CHIMERA_LAKE_ROOT`; refused
records in `ops.dead_letters`, counts in `ops.window_ledger`, verdicts in `ops.quality_results`.

**How.** Stage, gate, commit on each layer: a task writes files that no table refers to yet; a gate
validates exactly those files and commits them on a pass. A task waits only for what it reads.

**On failure.** A failing source, model or gate stops only what is downstream; the table keeps its
last good version. External errors are retried after 1, 2 and 4 minutes, data faults once, a gate's
verdict never.

**Run an hour again.** Clear the run (every task is idempotent), clear one model and everything
downstream, trigger with a window, or `airflow backfill create`: all give the same tables.

**Owner.** data-platform
"""

from __future__ import annotations

from airflow.sdk import DAG, BaseOperator, Param
from airflow.timetables.interval import CronDataIntervalTimetable

from include.chimera.flow.cosmos.graph import layer_group, transform
from include.chimera.flow.delivery.callbacks import tell_run_failure
from include.chimera.flow.doc_pages.task_pages import page
from include.chimera.flow.gate_operator import gate_task
from include.chimera.flow.retry_policy import EXTRACT, GATE, deadline, minutes_of
from include.chimera.flow.run_context import run_json
from include.chimera.flow.tasks import extract_task, optimize_layer, record_quality, report_run
from include.chimera.profiles.chosen import filled_tables, intakes, sources
from include.chimera.settings import get_settings
from plugins.source_sensor import SourceSensor

settings = get_settings()
TABLES = filled_tables()
INPUTS = ", ".join(
    f"`{source}` ({', '.join(dict.fromkeys(intake.reader.shown for intake in read))})"
    for source, read in sources().items()
)


def window_param(bound: str) -> Param:
    """Return the optional param for one bound of the window."""
    return Param(
        None,
        type=["null", "string"],
        format="date-time",
        description=f"{bound} of the window, a whole UTC hour; empty: the run's own hour",
    )


with DAG(
    dag_id="chimera_etl_hourly",
    doc_md=page(__doc__.replace("{inputs}", INPUTS), runbook="A run is late"),
    description="Hourly analytics of the Chimera platform: extract, gate, transform, optimize",
    schedule=CronDataIntervalTimetable(settings.schedule, timezone="UTC"),
    start_date=settings.start_date,
    end_date=settings.end_date,
    catchup=not settings.catch_up_runs,
    max_active_runs=1 + settings.catch_up_runs,  # one is the schedule's
    max_active_tasks=settings.max_active_tasks,
    dagrun_timeout=minutes_of(30),
    on_failure_callback=tell_run_failure,
    default_args={"owner": "data-platform"},
    user_defined_macros={"run_json": run_json},
    params={
        "window_start": window_param("Start"),
        "window_end": window_param("End (exclusive)"),
        "sources": Param(
            None,
            type=["null", "array"],
            items={"type": "string", "enum": TABLES},
            minItems=1,
            uniqueItems=True,
            examples=TABLES,
            description="Read these bronze tables' sources alone; empty: all of them",
        ),
        "full_refresh": Param(
            False,
            type="boolean",
            description="Build every model's whole history anew, not only what changed",
        ),
        "allow_shrink": Param(
            False,
            type="boolean",
            description="Let hours of the API's logs lose rows whose files were rotated away",
        ),
    },
    tags=["chimera", "hourly"],
) as dag:
    dag.deadline = deadline(dag)
    layers = {layer: layer_group(layer) for layer in ("bronze", "silver", "gold")}
    with layers["bronze"]:
        extracts = {intake.contract.name: extract_task(intake)() for intake in intakes()}
        if settings.source_wait_seconds:
            for source, read in sources().items():
                task_id, tables = f"wait_for_{source}", [intake.contract.name for intake in read]
                wait = SourceSensor(task_id=task_id, source=source, tables=tables, **EXTRACT)
                wait >> [extracts[table] for table in tables]
        bronze_gates = {table: gate_task(table, **GATE) for table in TABLES}
        for table, bronze_gate in bronze_gates.items():
            extracts[table] >> bronze_gate
    gates: dict[str, BaseOperator] = {**bronze_gates, **transform(bronze_gates, layers)}
    history, report = record_quality(), report_run()
    history >> report
    for layer, group in layers.items():
        with group:
            optimize = optimize_layer.override(task_id=f"optimize_{layer}")(layer)
        for table, gate in gates.items():
            if table.startswith(f"{layer}."):
                gate >> [optimize, history]
        optimize >> report
