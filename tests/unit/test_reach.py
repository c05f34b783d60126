"""The modules that an hour's processes import, including imports inside functions.

`python -m tests.unit.test_reach` lists them.
"""

import re
from pathlib import Path

import grimp

from include.chimera.paths import DBT_PROJECT, PROJECT

ROOT = "include.chimera"
# What a reader may have to open when an hour goes wrong (109; on 2026-11-29 five of the
# profiles, seventeen of reports and spans; on 2026-11-30 two of the insight page, one of what the
# UI shows of tasks, one that OpenLineage alone asks for, four of builds on Spark): it may only
# shrink.
MOST = 139
# Where Airflow and dbt begin.
ENTRIES = [
    PROJECT / "dags" / "chimera_etl_hourly.py",
    # Without the health page: only the API server asks its plugin for the routes, and imports them.
    *sorted(path for path in (PROJECT / "plugins").glob("*.py") if path.stem != "health_page"),
    DBT_PROJECT / "profiles.yml",
]


def reached() -> set[str]:
    """Follow imports from the entries; ignore those only for the type checker."""
    graph = grimp.build_graph(ROOT, exclude_type_checking_imports=True, cache_dir=None)
    found: set[str] = set()
    ahead = {name for path in ENTRIES for name in named(path)} & graph.modules
    while ahead:
        found |= ahead
        ahead = {n for m in ahead for n in graph.find_modules_directly_imported_by(m)} - found
    return {name for name in found if not graph.find_children(name)}


def named(path: Path) -> list[str]:
    return re.findall(rf"\b{ROOT}[\w.]*", path.read_text())


def test_an_hour_reaches_no_more_modules_than_it_did() -> None:
    modules = reached()
    assert {f"{ROOT}.sources.postgres.extract", f"{ROOT}.quality.gate"} <= modules
    assert f"{ROOT}.cli.app" not in modules
    assert len(modules) <= MOST


if __name__ == "__main__":
    print("\n".join(sorted(reached())))  # noqa: T201 - a list for people
