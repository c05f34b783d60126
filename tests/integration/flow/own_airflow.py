"""An Airflow database of a process's own, that knows the project's DAGs."""

from airflow.dag_processing.bundles.manager import DagBundlesManager
from airflow.dag_processing.dagbag import DagBag, sync_bag_to_db
from airflow.models.dag import DagModel
from airflow.utils.db import initdb
from airflow.utils.session import create_session
from sqlalchemy import update

from include.chimera.paths import PROJECT


def known_dags():
    """Make the database and return the DAGs by id; none is paused."""
    initdb()
    DagBundlesManager().sync_bundles_to_db()
    folder = PROJECT / "dags"
    bag = DagBag(dag_folder=folder, bundle_path=folder, bundle_name="dags-folder")
    assert not bag.import_errors, bag.import_errors
    sync_bag_to_db(bag, "dags-folder", None)
    with create_session() as session:
        session.execute(update(DagModel).values(is_paused=False))
    return bag.dags
