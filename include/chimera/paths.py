"""Paths in the repository, anchored on this file.

Astro's standalone mode points AIRFLOW_HOME elsewhere, and Cosmos runs dbt in a temporary folder:
no relative path survives either.
"""

from __future__ import annotations

from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
INCLUDE = PROJECT / "include"
DBT_PROJECT = INCLUDE / "dbt"
AIRFLOW_DBT = PROJECT / ".airflow-dbt"
"""The dbt project as Airflow reads it: links to its parts, and a `target` for Airflow alone.

It is not in include/, because `astro dev start` mounts over include/ in its image.
"""
DBT_MANIFEST = AIRFLOW_DBT / "target" / "manifest.json"
"""What dbt made of the project, for the engine that was set then."""
GX_PROJECT = INCLUDE / "gx"
STATE = PROJECT / ".chimera"
