"""Metrics through Airflow's own backend: StatsD or OpenTelemetry, whichever is on."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from airflow.sdk.observability.stats import Stats

if TYPE_CHECKING:
    from include.chimera.window import Run

logger = logging.getLogger(__name__)


def emit(run: Run) -> int:
    """Send what is known at the end of a run; return how many samples.

    Called by a task that runs whatever became of the others. Metrics that can't be had are
    logged and fail no run.
    """
    from include.chimera.inquiry.facts import run_facts  # noqa: PLC0415 - heavy

    try:
        samples = run_facts(run)
    except Exception:
        logger.warning("could not gather the run's metrics", exc_info=True)
        return 0
    for sample in samples:
        if sample.kind == "counter":
            Stats.incr(sample.name, int(sample.value), tags=sample.tags)
        else:
            Stats.gauge(sample.name, float(sample.value), tags=sample.tags)
    return len(samples)
