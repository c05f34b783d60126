"""Metrics by OpenTelemetry, from a process that ends as a task's does: without exit handlers."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from include.chimera.paths import PROJECT

pytestmark = pytest.mark.integration

TASK = """
import os
from airflow.sdk.configuration import conf
from airflow.sdk.observability import stats
from airflow.sdk.observability.metrics import stats_utils
from include.chimera.flow.metrics_backend import send
from include.chimera.observe.metrics import Sample

stats.initialize(factory=stats_utils.get_stats_factory(), export_legacy_names=False)
send([
    Sample("chimera_rows_read_total", 47, "bronze.models"),
    Sample("chimera_gate_pass_ratio", 0.5, "bronze.models"),
    Sample("chimera_disk_free_ratio", 0.25),
])
os._exit(0)
"""


def test_samples_reach_a_collector_with_their_labels(tmp_path) -> None:
    bodies: list[bytes] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Collector)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    variables = {
        "AIRFLOW_HOME": str(tmp_path),
        "AIRFLOW__METRICS__OTEL_ON": "True",
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{server.server_port}",
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        "no_proxy": "127.0.0.1",
    }
    done = subprocess.run(  # noqa: S603 - our own script
        [sys.executable, "-c", TASK],
        cwd=PROJECT,
        env={**os.environ, **variables},  # noqa: TID251 - a child inherits
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    server.shutdown()
    server.server_close()
    assert done.returncode == 0, done.stderr
    found = {}
    for body in bodies:
        for resource in ExportMetricsServiceRequest.FromString(body).resource_metrics:
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    for point in (*metric.sum.data_points, *metric.gauge.data_points):
                        labels = {pair.key: pair.value.string_value for pair in point.attributes}
                        name = metric.name.removeprefix("airflow.")
                        found[name, labels.get("table")] = point.as_double or point.as_int
    assert found == {
        ("chimera_rows_read_total", "bronze.models"): 47,
        ("chimera_gate_pass_ratio", "bronze.models"): 0.5,
        ("chimera_disk_free_ratio", None): 0.25,
    }
