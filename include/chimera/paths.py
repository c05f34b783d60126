"""Where things stand in the repository, anchored on this file.

Astro's standalone mode points AIRFLOW_HOME elsewhere, and Cosmos runs dbt in a temporary folder:
no relative path survives either.
"""

from __future__ import annotations

from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
INCLUDE = PROJECT / "include"
DBT_PROJECT = INCLUDE / "dbt"
DBT_MANIFEST = DBT_PROJECT / "target" / "manifest.json"
GX_PROJECT = INCLUDE / "gx"
STATE = PROJECT / ".chimera"
