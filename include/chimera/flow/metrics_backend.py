"""Send metrics through Airflow's own backend, StatsD or OpenTelemetry."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from airflow.sdk.observability.stats import Stats
from opentelemetry import metrics as otel

from include.chimera.flow.foreign_errors import own_words

if TYPE_CHECKING:
    from collections.abc import Iterable

    from include.chimera.observe.metrics import Sample
    from include.chimera.window import Run

logger = logging.getLogger(__name__)


def emit(run: Run) -> None:
    """Send the metrics of a finished run.

    The calling task runs whatever the outcome of the others. A failure to collect or send metrics
    is logged and never fails the run.
    """
    from include.chimera.operations.run_metrics import note_counted, run_facts  # noqa: PLC0415 - heavy

    try:
        with own_words():
            send(run_facts(run))
            note_counted(run)
    except Exception:
        logger.warning("could not gather the run's metrics", exc_info=True)


def send(samples: Iterable[Sample]) -> None:
    """Send samples and flush the exporter."""
    for sample in samples:
        if sample.kind == "counter":
            Stats.incr(sample.name, int(sample.value), tags=sample.tags)
        else:
            Stats.gauge(sample.name, float(sample.value), tags=sample.tags)
    # OpenTelemetry exports once a minute and at exit, but a task's process ends without running
    # exit handlers. If the backend is off, its provider has no force_flush.
    flush = getattr(otel.get_meter_provider(), "force_flush", None)
    if flush:
        flush()
