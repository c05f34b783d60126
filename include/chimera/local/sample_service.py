"""The sample application as a service beside an Airflow that somebody else starts (docs/astro.md).

`python -m include.chimera.local.sample_service --app-db URI --airflow URL --port P`

Like `make up`, it begins with the last full hour and makes each hour ahead of time. The schedule
begins when the data is there and Airflow knows the pools and connections of airflow_settings.yaml,
which astro adds only after its start: before, a first run would fail for want of them.
"""

from __future__ import annotations

import argparse
import logging
import time
from datetime import UTC, datetime
from threading import Thread

import yaml

from include.chimera.demo.application import metrics_folder
from include.chimera.demo.metrics_server import MetricsServer
from include.chimera.local.servers.airflow_api import AirflowApi
from include.chimera.local.servers.feeder import LOOK_SECONDS as FEED_SECONDS
from include.chimera.local.servers.feeder import fill, tried
from include.chimera.paths import PROJECT
from include.chimera.settings import get_settings
from include.chimera.window import HOUR, floor_hour

logger = logging.getLogger(__name__)
_LOOK_SECONDS = 3.0


def serve(app_db_uri: str, airflow_url: str, host: str, port: int) -> None:
    """Fill the application, serve its metrics, begin the schedule and go on, until ended."""
    last = floor_hour(datetime.now(UTC)) - HOUR
    while not tried(lambda: fill(app_db_uri, last)):
        time.sleep(_LOOK_SECONDS)
    logger.info("the sample application has its hours from %s on", last.isoformat())
    metrics = MetricsServer(metrics_folder(get_settings()), port, host)
    Thread(target=metrics.serve_forever, daemon=True).start()
    api, begun = AirflowApi(airflow_url), set[str]()
    while True:
        tried(lambda: begin_schedule(api, begun))
        tried(lambda: fill(app_db_uri, floor_hour(datetime.now(UTC))))
        time.sleep(FEED_SECONDS if begun else _LOOK_SECONDS)


def begin_schedule(api: AirflowApi, begun: set[str]) -> None:
    """Unpause each DAG that has never run, once Airflow knows what the tasks need.

    Args:
        api: Airflow's API.
        begun: The DAGs unpaused so far, which somebody may have paused since; added to.
    """
    if not api.is_up():
        return
    missing = needed() - api.known()
    if missing:
        logger.info("waiting for Airflow to know %s", ", ".join(map(" ".join, sorted(missing))))
        return
    for dag_id in set(api.paused()) - begun:
        api.set_paused(dag_id, is_paused=False)
        begun.add(dag_id)
        logger.info("began the schedule of %s", dag_id)


def needed() -> set[tuple[str, str]]:
    """Return the connections and pools of airflow_settings.yaml, as `AirflowApi.known` does."""
    settings = yaml.safe_load((PROJECT / "airflow_settings.yaml").read_text())["airflow"]
    names = {("connection", each["conn_id"]) for each in settings["connections"]}
    return names | {("pool", each["pool_name"]) for each in settings["pools"]}


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--app-db", required=True, help="libpq URI of the application's database")
    parser.add_argument("--airflow", required=True, help="address of Airflow's API server")
    parser.add_argument("--host", default="127.0.0.1", help="address that the metrics listen on")
    parser.add_argument("--port", type=int, required=True, help="port that the metrics listen on")
    options = parser.parse_args()
    serve(options.app_db, options.airflow, options.host, options.port)
