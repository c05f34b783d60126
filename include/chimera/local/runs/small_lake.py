"""Make a small lake without Airflow: bronze with one hour of the sample application.

For dbt developers on a fresh clone; `make run` loads the same hour and changes none of its rows.
"""

from __future__ import annotations

from threading import Thread
from typing import TYPE_CHECKING

from include.chimera.demo.application import metrics_folder, seed
from include.chimera.demo.metrics_server import MetricsServer
from include.chimera.local.layout import Layout
from include.chimera.local.runs.planning import choose_hours, hour_variables, plan_start
from include.chimera.local.runs.progress import Progress
from include.chimera.local.servers.stack import Stack
from include.chimera.local.supervision.supervisor import StateLock
from include.chimera.observe.terminal import make_console
from include.chimera.profiles.chosen import SAMPLE, intakes, sources
from include.chimera.quality.gate import open_gate
from include.chimera.sources.api_logs.extract import extract_api_logs
from include.chimera.sources.api_logs.log_files import log_root
from include.chimera.sources.postgres.extract import extract_table
from include.chimera.sources.prometheus.extract import extract_provider_metrics
from include.chimera.sources.prometheus.prometheus_api import PrometheusServer
from include.chimera.window import Run

if TYPE_CHECKING:
    from collections.abc import Callable

    from include.chimera.settings import Settings

_REPARSE_SECONDS = 600


def fill_bronze(settings: Settings) -> None:
    """Start the embedded PostgreSQL, fill the sample, extract it, gate it, stop.

    Raises:
        ChimeraError: A server did not start, or a gate failed.
    """
    layout = Layout.of(settings.state_dir)
    lock = StateLock(layout)
    with Progress(make_console()) as progress:
        hours = choose_hours(layout, settings, 1, progress.say)
        plan = plan_start(layout, settings, hour_variables(hours), _REPARSE_SECONDS)
        with Stack(plan, lock, progress.say) as stack:
            stack.start_database()
            seed(stack.app_db_uri, [hours], settings, progress.say)
            run = Run(f"sample__{hours.start.isoformat()}", hours, moves_watermark=False)
            _extract(stack.app_db_uri, settings, run)
            _publish(run, progress.say)


def _extract(app_db_uri: str, settings: Settings, run: Run) -> None:
    for intake in sources(SAMPLE)["app_db"]:
        extract_table(intake, app_db_uri, run)
    extract_api_logs(log_root(settings.api_logs), run)
    server = MetricsServer(metrics_folder(settings), 0)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        address = PrometheusServer(f"http://127.0.0.1:{server.server_port}")
        (intake,) = sources(SAMPLE)["prometheus"]
        extract_provider_metrics(intake, address, run)
    finally:
        server.shutdown()
        server.server_close()


def _publish(run: Run, say: Callable[[str], None]) -> None:
    for intake in intakes(SAMPLE):
        table = intake.contract.name
        with open_gate(table, run) as gate:
            verdict = gate.checkpoint(gate.context()).run()
            gate.publish()
        say(f"{table}: {verdict.rows:,} rows, gate {verdict.outcome}")
