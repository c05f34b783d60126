"""Warm up a Celery worker before its pool forks.

The worker imports this module because the Dockerfile sets
`AIRFLOW__CELERY__EXTRA_CELERY_CONFIG={"imports": [this module]}`.
"""

from __future__ import annotations

from include.chimera.flow.warm_start.warm_up import PARSING, WORKING, warm_up
from include.chimera.settings import get_settings

if get_settings().warm_start:
    warm_up(PARSING + WORKING)
