"""Where things stand in the repository, anchored on this file.

Astro's standalone mode points AIRFLOW_HOME elsewhere, and Cosmos runs dbt in a temporary folder:
no relative path survives either.
"""

from __future__ import annotations

from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
INCLUDE = PROJECT / "include"
DBT_PROJECT = INCLUDE / "dbt"
AIRFLOW_DBT = PROJECT / ".airflow-dbt"
"""The dbt project as Airflow reads it: links to its parts, and a `target` that is Airflow's alone.

Beside include/, as `astro dev start` covers that of its image.
"""
DBT_MANIFEST = AIRFLOW_DBT / "target" / "manifest.json"
GX_PROJECT = INCLUDE / "gx"
STATE = PROJECT / ".chimera"
