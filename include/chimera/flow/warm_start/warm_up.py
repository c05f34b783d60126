"""Load what tasks need into the process that forks them.

Whatever is imported, compiled or read before the fork costs once and is shared by all tasks;
otherwise each task pays for it (docs/performance.md). Nothing here leaves a thread running.
"""

from __future__ import annotations

import gc
import importlib
import logging
import shutil
import sys
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING

from include.chimera.errors import ChimeraError
from include.chimera.lake.store.duckdb_sessions import check_signatures
from include.chimera.lake.store.scratch import scratch, sweep_scratch
from include.chimera.operations.dbt_manifest import ENGINES, build_manifest
from include.chimera.paths import DBT_MANIFEST, DBT_PROJECT
from include.chimera.settings import get_settings

if TYPE_CHECKING:
    from collections.abc import Sequence

logger = logging.getLogger(__name__)

PARSING = (
    "cosmos",
    "cosmos.operators.local",
    "great_expectations_provider.operators.validate_checkpoint",
    "include.chimera.flow.tasks",
    "include.chimera.flow.cosmos.graph",
    "plugins.source_sensor",
)
WORKING = (
    "agate",
    "cosmos.dbt.runner",
    "cosmos.profiles",
    "dbt.adapters.duckdb.environments.local",
    "dbt.adapters.duckdb.impl",
    "dbt.cli.main",
    "dbt.task.build",
    "great_expectations",
    "include.chimera.operations.run_metrics",
    "include.chimera.lake.ops_tables.ledger",
    "include.chimera.lake.dbt_plugin.plugin",
    "include.chimera.lake.upkeep.optimization",
    "include.chimera.quality.gate",
    "include.chimera.quality.quality_results",
    "include.chimera.operations.insight.page",
    "include.chimera.operations.quality_report",
    "include.chimera.sources.api_logs.extract",
    "include.chimera.sources.completeness",
    "include.chimera.sources.postgres.extract",
    "include.chimera.sources.prometheus.extract",
    "multiprocessing.dummy",
    "numpy",
    "openlineage.common.provider.dbt.local",  # Cosmos imports it after each dbt command
)


def starting_command(component: object) -> str:
    """Return the Airflow command whose start a listener is told of; "": it is a task's.

    Args:
        component: What Airflow gives `on_starting`: a job, whose type is not set yet, or a task's
            marker. A task may be a fork of the scheduler, with its command line.
    """
    from airflow.sdk.execution_time.task_runner import TaskRunnerMarker  # noqa: PLC0415 - heavy

    is_task = isinstance(component, TaskRunnerMarker)
    return "" if is_task else next(iter(sys.argv[1:]), "")


def warm_up(names: Sequence[str]) -> None:
    """Import modules by name and trigger their first-use work.

    A failure here is only logged: the tasks will hit and report it themselves. First remove the
    temporary folders of killed processes, and build a missing or stale dbt manifest.
    """
    sweep_scratch()
    try:
        build_manifest()
    except ChimeraError as error:
        logger.error("dbt's manifest stays as it is: %s", error)  # noqa: TRY400 - our words say it all
    if "dbt.cli.main" in names:
        leave_locks_unnamed()
    for name in names:
        try:
            importlib.import_module(name)
        except ImportError:
            logger.warning("could not preload %s", name)
    rehearse_parsing()
    if "dbt.cli.main" in names:
        rehearse_dbt()
        check_signatures()
    # Garbage collections in the children then neither walk the loaded objects nor copy their pages.
    gc.freeze()


def leave_locks_unnamed() -> None:
    """Make dbt create its locks, which only serve threads, without a name in /dev/shm.

    With a spawn context a tracker removes the names once no process is left that uses it. Here all
    tasks share the tracker of the process that forks them, so the names would pile up, some 80 an
    hour.
    Call this before importing dbt's manifest, whose class keeps the context.
    """
    from dbt import mp_context  # noqa: PLC0415 - only the scheduler has it loaded

    mp_context._MP_CONTEXT = get_context("fork")  # type: ignore[assignment]  # noqa: SLF001


def rehearse_parsing() -> None:
    """Read dbt's manifest as Cosmos does, through Airflow's `ObjectStoragePath`.

    The first use imports every provider's file systems (including boto3) and the plugins (FastAPI).
    This is most of the CPU of parsing the DAG, which each task does too (docs/performance.md).
    """
    from airflow.sdk import ObjectStoragePath  # noqa: PLC0415 - not every component needs it

    if DBT_MANIFEST.is_file():
        with ObjectStoragePath(str(DBT_MANIFEST)).open() as file:  # type: ignore[no-untyped-call]
            file.read(1)


def rehearse_dbt() -> None:
    """Make dbt parse the project once, from its partial parse, and compile its macros.

    On first use dbt compiles its serializers, its schemas and each macro's template: most of a
    build's CPU seconds (docs/performance.md). It caches templates by the macro's text, so a macro
    edited later is recompiled. A parse opens no DuckDB and starts no thread, so it leaves nothing
    that a fork would break. Whatever fails here fails again in the task, which reports it.
    """
    from dbt.cli.main import dbtRunner  # noqa: PLC0415 - only the scheduler has it loaded
    from dbt.contracts.graph.manifest import Manifest  # noqa: PLC0415 - as above
    from dbt.plugins.manager import PluginManager  # noqa: PLC0415 - as above
    from dbt_common.behavior_flags import BehaviorFlagRendered  # noqa: PLC0415 - as above
    from dbt_common.clients.agate_helper import build_type_tester  # noqa: PLC0415 - as above
    from dbt_common.clients.jinja import template_cache  # noqa: PLC0415 - as above
    from dbt_common.events.event_manager_client import (  # noqa: PLC0415 - as above
        cleanup_event_logger,
    )

    # dbt finds its plugins by listing every folder of sys.path: do that only once.
    PluginManager.get_prefixed_modules = cache(PluginManager.get_prefixed_modules)  # type: ignore[method-assign]
    # Each flag that dbt's adapter declares looks for its declarer in the source of every frame.
    BehaviorFlagRendered._default_source = staticmethod(lambda: "dbt.adapters")  # type: ignore[method-assign]  # noqa: SLF001
    partial_parse = DBT_MANIFEST.with_name("partial_parse.msgpack")
    if not partial_parse.is_file():
        return
    with scratch("warm") as folder:
        shutil.copy(partial_parse, Path(folder) / partial_parse.name)
        place = str(DBT_PROJECT)
        flags = ["--project-dir", place, "--profiles-dir", place, "--profile", "chimera"]
        flags += ["--target", ENGINES[get_settings().engine]]
        flags += ["--target-path", folder, "--log-path", folder]
        done = dbtRunner().invoke(
            ["parse", "--no-static-parser", "--no-write-json", "--quiet", *flags]
        )
    cleanup_event_logger()
    if not isinstance(done.result, Manifest):
        logger.warning("could not rehearse dbt: %s", type(done.exception).__name__)
        return
    for macro in done.result.macros.values():
        template_cache.get_node_template(macro)
    for unit_test in done.result.unit_tests.values():
        unit_test.to_dict()  # as a build does; the first call compiles the serializers
    build_type_tester([])  # loads number formats, for the results of queries
