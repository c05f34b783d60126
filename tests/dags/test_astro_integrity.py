"""`astro dev parse` runs .astro/test_dag_integrity_default.py: it must judge as it says."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from include.chimera.paths import PROJECT

if TYPE_CHECKING:
    from pathlib import Path

FILE = PROJECT / ".astro" / "test_dag_integrity_default.py"
GOOD = """
import os
from airflow.sdk import DAG, Variable
from airflow.sdk.bases.hook import BaseHook
assert os.getenv("CHIMERA_NOT_SET") == "MOCKED_CHIMERA_NOT_SET_VALUE"
assert os.getenv("CHIMERA_NOT_SET", "given") == "given"
assert Variable.get("absent", default=None) is None
assert BaseHook.get_connection("absent").conn_id == "absent"
with DAG("good"):
    pass
"""
BROKEN = "from airflow.sdk import dag\nimport a_module_that_nobody_has\n"


def parse(project: Path, home: Path) -> subprocess.CompletedProcess:
    """Run the file as the astro command line does, with an Airflow home of its own."""
    return subprocess.run(  # noqa: S603  our own interpreter on our own file
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f".astro/{FILE.name}"],
        cwd=project,
        env={
            "PATH": os.defpath,
            "HOME": str(home),
            "AIRFLOW_HOME": str(home),
            "PYTHONPATH": str(project),
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture
def project(tmp_path):
    """A project that holds the integrity file and an empty dags folder."""
    root = tmp_path / "project"
    (root / "dags").mkdir(parents=True)
    shutil.copytree(FILE.parent, root / ".astro", ignore=shutil.ignore_patterns("standalone"))
    return root


def test_dags_of_this_project_pass_without_services_or_variables(tmp_path):
    outcome = parse(PROJECT, tmp_path)
    assert outcome.returncode == 0, outcome.stdout


def test_good_dag_sees_mocks_and_broken_dag_is_named(project, tmp_path):
    (project / "dags" / "good.py").write_text(GOOD)
    (project / "dags" / "broken.py").write_text(BROKEN)
    outcome = parse(project, tmp_path)
    assert outcome.returncode == 1
    assert "dags/broken.py does not import" in outcome.stdout
    assert "1 failed, 2 passed" in outcome.stdout


def test_listed_exception_is_tolerated(project, tmp_path):
    (project / "dags" / "good.py").write_text(GOOD)
    (project / "dags" / "broken.py").write_text(BROKEN)
    (project / ".astro" / "dag_integrity_exceptions.txt").write_text("# why\ndags/broken.py\n")
    outcome = parse(project, tmp_path)
    assert outcome.returncode == 0, outcome.stdout


def test_empty_dags_folder_fails(project, tmp_path):
    assert parse(project, tmp_path).returncode == 1
