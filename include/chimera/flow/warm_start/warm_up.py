"""Loads what tasks need into a process that is going to fork them.

What is imported, compiled or read before a fork is paid for once and shared by all tasks; without
it each task pays for it alone (docs/performance.md). Nothing here starts a thread that stays.
"""

from __future__ import annotations

import gc
import importlib
import logging
import shutil
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING

from include.chimera.lake.store.duckdb_sessions import check_signatures
from include.chimera.lake.store.scratch import scratch, sweep_scratch
from include.chimera.paths import DBT_MANIFEST, DBT_PROJECT

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
    "include.chimera.operations.quality_report",
    "include.chimera.sources.api_logs.extract",
    "include.chimera.sources.completeness",
    "include.chimera.sources.postgres.extract",
    "include.chimera.sources.prometheus.extract",
    "multiprocessing.dummy",
    "numpy",
    "openlineage.common.provider.dbt.local",  # Cosmos imports it after each dbt command
)


def warm_up(names: Sequence[str]) -> None:
    """Import modules by name, and rehearse what the first use of them would do.

    What can't be imported or rehearsed is logged; the tasks report it, each for itself. Temporary
    folders of processes that were killed before go first.
    """
    sweep_scratch()
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
    # What is loaded stays: collections in the children neither walk it nor copy its pages.
    gc.freeze()


def leave_locks_unnamed() -> None:
    """Let dbt make its locks, which serve threads alone, without a name in /dev/shm.

    The names of a spawn context are taken away by a tracker once nobody is left to use them. Here
    all tasks share the one of the process that forks them, so the names would pile up, some 80 an
    hour. To be called before dbt's manifest is imported, whose class keeps the context.
    """
    from dbt import mp_context  # noqa: PLC0415 - only the scheduler has it loaded

    mp_context._MP_CONTEXT = get_context("fork")  # type: ignore[assignment]  # noqa: SLF001


def rehearse_parsing() -> None:
    """Read dbt's manifest as Cosmos does, by Airflow's storage path.

    Its first use imports each provider's file systems (boto3 among them) and the plugins (FastAPI):
    most of the CPU of parsing the DAG, which each task does too (docs/performance.md).
    """
    from airflow.sdk import ObjectStoragePath  # noqa: PLC0415 - not every component needs it

    if DBT_MANIFEST.is_file():
        with ObjectStoragePath(str(DBT_MANIFEST)).open() as file:  # type: ignore[no-untyped-call]
            file.read(1)


def rehearse_dbt() -> None:
    """Let dbt parse the project once, from its partial parse, and compile its macros.

    dbt compiles its serializers and schemas at their first use, and each macro's template: most of
    a build's CPU seconds (docs/performance.md). It keeps templates by the macro's text, so a macro
    that is edited later is compiled anew. A parse opens no DuckDB and starts no thread, so nothing
    is left over that a fork would break. What fails here fails in the task, which tells why.
    """
    from dbt.cli.main import dbtRunner  # noqa: PLC0415 - only the scheduler has it loaded
    from dbt.contracts.graph.manifest import Manifest  # noqa: PLC0415 - as above
    from dbt.plugins.manager import PluginManager  # noqa: PLC0415 - as above
    from dbt_common.clients.agate_helper import build_type_tester  # noqa: PLC0415 - as above
    from dbt_common.clients.jinja import template_cache  # noqa: PLC0415 - as above
    from dbt_common.events.event_manager_client import (  # noqa: PLC0415 - as above
        cleanup_event_logger,
    )

    # Which packages are plugins of dbt is found by listing all folders of sys.path: once will do.
    PluginManager.get_prefixed_modules = cache(PluginManager.get_prefixed_modules)  # type: ignore[method-assign]
    partial_parse = DBT_MANIFEST.with_name("partial_parse.msgpack")
    if not partial_parse.is_file():
        return
    with scratch("warm") as folder:
        shutil.copy(partial_parse, Path(folder) / partial_parse.name)
        place = str(DBT_PROJECT)
        flags = ["--project-dir", place, "--profiles-dir", place, "--profile", "chimera"]
        flags += ["--target", "prod", "--target-path", folder, "--log-path", folder]
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
        unit_test.to_dict()  # a build does so too; the first compiles the serializers
    build_type_tester([])  # loads number formats, for the results of queries
