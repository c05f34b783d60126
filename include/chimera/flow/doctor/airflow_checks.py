"""Look whether Airflow has what the DAGs need: pools, plugins, manifest, warm processes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow import plugins_manager
from airflow.configuration import conf

from include.chimera.errors import CLI
from include.chimera.flow.run_context import HOURLY
from include.chimera.observe.findings import checking
from include.chimera.paths import DBT_MANIFEST, PROJECT
from include.chimera.settings import get_settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from include.chimera.observe.findings import Finding

_PLUGINS = {
    "chimera_warm_start", "chimera_pools", "chimera_deadline_watch", "chimera_docs_pages",
}  # fmt: skip


def check_airflow(*, in_worker: bool) -> Iterator[Finding]:
    """Check what Airflow itself has to have."""
    yield _check_plugins()
    yield _check_manifest()
    yield _check_warm_start()
    if not in_worker:
        yield from _check_database()


def _check_plugins() -> Finding:
    with checking("airflow: plugins") as plugins:
        names = {str(plugin["name"]) for plugin in plugins_manager.get_plugin_info({"listeners"})}
        plugins.text = ", ".join(sorted(_PLUGINS))
        if missing := sorted(_PLUGINS - names):
            remedy = f"AIRFLOW__CORE__PLUGINS_FOLDER={PROJECT / 'plugins'}, and this folder on "
            plugins.fault(f"not loaded: {', '.join(missing)}", f"{remedy}PYTHONPATH")
    return plugins.finding()


def _check_manifest() -> Finding:
    with checking("dbt: manifest") as manifest:
        manifest.text = str(DBT_MANIFEST)
        if not DBT_MANIFEST.is_file():
            manifest.fault(f"no {DBT_MANIFEST}", f"{CLI} manifest")
    return manifest.finding()


def _check_warm_start() -> Finding:
    with checking("airflow: warm start") as warm:
        executor, module = (
            conf.get("core", "executor"),
            "include.chimera.flow.warm_start.celery_worker",
        )
        warm.text = f"on, with {executor}"
        if not get_settings().warm_start:
            warm.text = "off, by CHIMERA_WARM_START: each task loads all that it needs"
        elif "Celery" in executor and module not in conf.get("celery", "extra_celery_config"):
            setting = f'AIRFLOW__CELERY__EXTRA_CELERY_CONFIG={{"imports": ["{module}"]}}'
            warm.fault("off in the workers of Celery", setting)
    return warm.finding()


def _check_database() -> Iterator[Finding]:
    """Look for pools and DAG in Airflow's own database."""
    from airflow.models.dag import DagModel  # noqa: PLC0415 - needs a configured database
    from airflow.models.pool import Pool  # noqa: PLC0415 - as above
    from airflow.utils.session import create_session  # noqa: PLC0415 - as above
    from sqlalchemy.exc import SQLAlchemyError  # noqa: PLC0415 - as above

    with checking("airflow: pools") as pools, checking("airflow: DAG") as dag:
        try:
            with create_session() as session:
                slots = {pool.pool: pool.slots for pool in Pool.get_pools(session=session)}
                found = session.get(DagModel, HOURLY)
                is_paused = found is None or found.is_paused
                has_errors = found is not None and found.has_import_errors
        except (SQLAlchemyError, RuntimeError) as error:
            remedy = "run doctor where the scheduler or the API server runs"
            pools.fault(f"Airflow's database can't be asked: {type(error).__name__}", remedy)
            yield pools.finding()
            return
        for name, wanted in get_settings().pools.items():
            if name not in slots:
                pools.fault(f"no pool {name}", f"airflow pools set {name} {wanted} chimera")
            elif not slots[name]:
                pools.fault(f"{name} has no slot", f"airflow pools set {name} {wanted} chimera")
        pools.text = ", ".join(f"{name} {slots.get(name)}" for name in get_settings().pools)
        dag.text = f"{HOURLY} is there and not paused"
        if found is None:
            remedy = "give the DAG processor a minute; then see `airflow dags list-import-errors`"
            dag.fault(f"{HOURLY} is not there", remedy)
        elif has_errors:
            dag.fault(f"{HOURLY} can't be imported", "see `airflow dags list-import-errors`")
        elif is_paused:
            dag.fault(f"{HOURLY} is paused", f"airflow dags unpause {HOURLY}")
    yield pools.finding()
    yield dag.finding()
