"""Edits the hourly DAG and lets Airflow store each version, as its DAG processor does.

A process of its own: Airflow reads its database's address when it is imported. Prints, per edit,
the DAG's version and what the next run has of a deadline.
"""

import json
import logging
import os
import shutil
import sys
from datetime import UTC, datetime
from logging.handlers import BufferingHandler
from pathlib import Path

from airflow.dag_processing.bundles.manager import DagBundlesManager
from airflow.dag_processing.dagbag import DagBag, sync_bag_to_db
from airflow.models.dag_version import DagVersion
from airflow.models.dagbag import DBDagBag
from airflow.models.deadline import Deadline
from airflow.models.deadline_alert import DeadlineAlert
from airflow.models.serialized_dag import SerializedDagModel
from airflow.utils.db import initdb
from airflow.utils.session import create_session
from airflow.utils.state import DagRunState
from airflow.utils.types import DagRunTriggeredByType, DagRunType
from sqlalchemy import delete, select

from include.chimera.flow.cosmos import graph
from include.chimera.flow.run_context import HOURLY
from include.chimera.paths import DBT_MANIFEST, PROJECT
from include.chimera.settings import get_settings
from plugins import deadline_watch

FOLDER = Path(os.environ["AIRFLOW__CORE__DAGS_FOLDER"])  # noqa: TID251 - as Airflow does
DAG_FILE = FOLDER / "chimera_etl_hourly.py"
MANIFEST = FOLDER.parent / "manifest.json"
DESCRIPTION = "Hourly analytics of the Chimera platform"


def describe(text):
    """Change the DAG's description to the original or to a text."""
    source = (PROJECT / "dags/chimera_etl_hourly.py").read_text()
    assert DESCRIPTION in source
    DAG_FILE.write_text(source.replace(DESCRIPTION, text))


def set_models(left_out=""):
    """Write the manifest, with or without a model."""
    manifest = json.loads(DBT_MANIFEST.read_text())
    manifest["nodes"] = {k: v for k, v in manifest["nodes"].items() if v["name"] != left_out}
    MANIFEST.write_text(json.dumps(manifest))


def set_schedule(cron):
    """Change the schedule by its setting."""
    os.environ["CHIMERA_SCHEDULE"] = cron  # noqa: TID251 - as a deployment does
    get_settings.cache_clear()


def move():
    """Give the DAG's file another name."""
    DAG_FILE.rename(FOLDER / "renamed.py")


def store():
    """Parse the folder and store its DAGs."""
    bag = DagBag(dag_folder=FOLDER, bundle_path=FOLDER, bundle_name="dags-folder")
    assert not bag.import_errors, bag.import_errors
    sync_bag_to_db(bag, "dags-folder", None)


def run(number, run_type=DagRunType.MANUAL):
    """Make a run, as the scheduler or the API does; return its version and its deadline."""
    with create_session() as session:
        dag = DBDagBag().get_latest_version_of_dag(HOURLY, session=session)
        made = dag.create_dagrun(
            run_id=f"{run_type.value}__{number}",
            run_after=datetime(2026, 1, 1, tzinfo=UTC),
            run_type=run_type,
            triggered_by=DagRunTriggeredByType.TEST,
            state=DagRunState.QUEUED,
            session=session,
        )
        session.flush()
        due = session.scalars(select(Deadline).where(Deadline.dagrun_id == made.id)).all()
        made.dag, notes = dag, BufferingHandler(capacity=10)
        logging.getLogger(deadline_watch.__name__).addHandler(notes)
        deadline_watch.DeadlineWatch().on_dag_run_running(made)
        version = DagVersion.get_latest_version(HOURLY, session=session)
        stored = SerializedDagModel.get(HOURLY, session=session)
        known = set(map(str, session.scalars(select(DeadlineAlert.id))))
        return {
            "version": version.version_number,
            "seconds": [(each.deadline_time - made.queued_at).total_seconds() for each in due],
            "notes": [note.getMessage() for note in notes.buffer],
            "is_whole": set(stored.data["dag"]["deadline"]) <= known,
        }


EDITS = {
    "first": lambda: (describe(DESCRIPTION), set_models(left_out="dim_models")),
    "nothing": lambda: None,
    "description": lambda: describe("Another text"),
    "model added": set_models,
    "schedule": lambda: set_schedule("30 * * * *"),
    "two edits, no run between": lambda: (describe("Two"), store(), describe("Three")),
    "back to an earlier text": lambda: describe("Another text"),
    "file renamed": move,
}


def main():
    """Make each edit, store the DAG, make a run."""
    initdb()
    shutil.copytree(PROJECT / "dags", FOLDER, ignore=shutil.ignore_patterns("__pycache__"))
    graph.DBT_MANIFEST = MANIFEST
    DagBundlesManager().sync_bundles_to_db()
    told = {}
    for number, (name, edit) in enumerate(EDITS.items()):
        edit()
        store()
        told[name] = run(number)
    told["backfill"] = run("last", DagRunType.BACKFILL_JOB)
    with create_session() as session:
        session.execute(delete(DeadlineAlert))
    sys.stdout.write(json.dumps({"edits": told, "lost": run("lost")}))


if __name__ == "__main__":
    main()
