"""The dbt files that Airflow reads are replaced atomically; manual dbt never touches them."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from include.chimera.paths import INCLUDE, PROJECT

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.integration

PARSE = """
from dags.chimera_etl_hourly import dag
assert "build_fct_generations" in dag.task_ids
"""

BY_HAND = """
import sys
from dbt.cli.main import dbtRunner
for command in (["build", "-s", "tried", "kept", "by_hand"], ["parse"]):
    assert dbtRunner().invoke([*command, "--quiet"]).success, command
"""


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the project with a manifest of its own."""
    root = tmp_path_factory.mktemp("a clone")
    left_out = shutil.ignore_patterns("target", "__pycache__", ".user.yml")
    shutil.copytree(INCLUDE, root / "include", ignore=left_out)
    assert "built" in run(root, root, "-m", "include.chimera", "manifest")
    return root


def run(root: Path, folder: Path, *arguments: str) -> str:
    """Run our Python in a folder of the clone, whose lake is its own."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("CHIMERA_", "DBT_"))}  # noqa: TID251  # a child inherits
    done = subprocess.run(  # noqa: S603  # our own command
        [sys.executable, *arguments],
        cwd=folder,
        env={**inherited, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def contents(folder: Path) -> dict[str, str]:
    """Return the digest of each file."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_the_manifest_is_made_beside_and_not_again(clone: Path) -> None:
    """The DAG processor, which may read at any time, finds only complete files."""
    target = clone / ".airflow-dbt" / "target"
    assert contents(target).keys() == {
        "manifest.json",
        "partial_parse.msgpack",
        "chimera-parse.json",
    }
    nodes = json.loads((target / "manifest.json").read_text())["nodes"]
    assert "model.chimera.fct_generations" in nodes
    assert "up to date" in run(clone, clone, "-m", "include.chimera", "manifest")


@pytest.mark.long
def test_dbt_by_hand_leaves_what_airflow_reads_as_it_is(clone: Path) -> None:
    """Seeds, snapshots and models tried while the stack runs do not become tasks."""
    airflow, project = clone / ".airflow-dbt", clone / "include" / "dbt"
    before, parts = contents(airflow / "target"), {path.name for path in airflow.iterdir()}
    (project / "seeds").mkdir()
    (project / "seeds" / "tried.csv").write_text("id\n1\n")
    (project / "models" / "by_hand.sql").write_text("select * from {{ ref('tried') }}\n")
    (project / "snapshots").mkdir()
    (project / "snapshots" / "kept.yml").write_text(
        "snapshots:\n  - name: kept\n    relation: ref('tried')\n"
        "    config: {unique_key: id, strategy: check, check_cols: [id]}\n"
    )
    run(clone, project, "-c", BY_HAND)
    assert contents(airflow / "target") == before
    assert {path.name for path in airflow.iterdir()} == parts
    assert "model.chimera.by_hand" in (project / "target" / "manifest.json").read_text()
    assert "built" in run(clone, clone, "-m", "include.chimera", "manifest")
    assert "model.chimera.by_hand" in (airflow / "target" / "manifest.json").read_text()
    assert (airflow / "seeds" / "tried.csv").is_file()


def test_two_components_that_find_no_manifest_build_one(clone: Path) -> None:
    """As where include/ comes without the image that has the manifest: each parses the DAG."""
    shutil.rmtree(clone / ".airflow-dbt")
    for folder in ("dags", "plugins"):
        shutil.copytree(PROJECT / folder, clone / folder, dirs_exist_ok=True)
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda _: run(clone, clone, "-c", PARSE), range(2)))
    assert (clone / ".airflow-dbt" / "target" / "manifest.json").is_file()
    left = {path.name for path in (clone / ".airflow-dbt" / "target").iterdir()}
    assert left == {"manifest.json", "partial_parse.msgpack", "chimera-parse.json"}


def test_a_component_that_starts_replaces_a_stale_manifest(clone: Path) -> None:
    target = clone / ".airflow-dbt" / "target"
    (clone / "include" / "dbt" / "models" / "new_one.sql").write_text("select 1 as one\n")
    warm_up = "from include.chimera.flow.warm_start.warm_up import warm_up; warm_up([])"
    run(clone, clone, "-c", warm_up)
    assert "model.chimera.new_one" in (target / "manifest.json").read_text()
    broken = clone / "include" / "dbt" / "models" / "new_one.sql"
    broken.write_text("select {{ }\n")
    run(clone, clone, "-c", warm_up)  # says so in its log, and keeps what it has
    assert "model.chimera.new_one" in (target / "manifest.json").read_text()
    broken.unlink()
