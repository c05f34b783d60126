"""What Airflow's DAG processor pays for the hourly DAG, by the number of dbt models in it.

`python -m benchmarks.parse [--json PATH] [--models 30 500]`. The project's own models are copied
under new names until there are enough; each parse runs in a process forked from one that holds
what the DAG processor preloads. A task parses the DAG too, so this is a part of each task's cost; a
model's task needs only its own part of it.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import runpy
import statistics
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.models import in_fork
from benchmarks.records import Record, hand_on
from include.chimera.paths import DBT_MANIFEST, PROJECT

LIMIT_SECONDS = {30: 1, 500: 3}
LIMIT_TASK_SECONDS = 0.5
TASK = "build_dim_models"
DAG_FILE = PROJECT / "dags" / "chimera_etl_hourly.py"


def grown(manifest: dict[str, Any], models: int) -> dict[str, Any]:
    """Return the manifest with at least so many models: its own, and renamed copies of them."""
    nodes: dict[str, dict[str, Any]] = dict(manifest["nodes"])
    own = [key for key in nodes if key.startswith("model.")]
    for copy in range(1, -(-models // len(own))):
        for key, node in manifest["nodes"].items():
            text = json.dumps(node)
            for model in own:
                name = model.rsplit(".", 1)[-1]
                text = text.replace(f'{model}"', f'{model}_{copy}"')
                text = text.replace(f'"{name}"', f'"{name}_{copy}"')
            unique_id = f"{key}_{copy}"
            nodes[unique_id] = {**json.loads(text), "unique_id": unique_id}
    return {**manifest, "nodes": nodes}


def parse(manifest: Path, task_id: str = "") -> None:
    """Parse the DAG over this manifest, as the DAG processor does, or as a task of it.

    Raises:
        AssertionError: The DAG lacks models.
    """
    transform = importlib.import_module("include.chimera.flow.cosmos.graph")
    vars(transform)["DBT_MANIFEST"] = manifest
    if task_id:
        context = {"DAG_ID": DAG_FILE.stem, "TASK_ID": task_id}
        os.environ |= {f"_AIRFLOW_PARSING_CONTEXT_{key}": text for key, text in context.items()}  # noqa: TID251 - as Airflow's task runner does
    tasks = runpy.run_path(str(DAG_FILE))["dag"].task_ids
    wanted = sum(key.startswith("model.") for key in json.loads(manifest.read_text())["nodes"])
    found = sum(task.startswith("build_") for task in tasks)
    if not (task_id in tasks if task_id else found == wanted):
        message = f"Expected {task_id or f'{wanted} models'} in the DAG; came {found} models"
        raise AssertionError(message)


def main() -> None:
    """Measure and hand on the records."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--models", type=int, nargs="+", default=list(LIMIT_SECONDS))
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    if not DBT_MANIFEST.is_file():
        sys.exit("no dbt manifest: run `make manifest`")
    warm = importlib.import_module("include.chimera.flow.warm_start.warm_up")
    warm.warm_up(warm.PARSING)
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for models in options.models:
            path = Path(folder) / f"{models}.json"
            path.write_text(json.dumps(grown(json.loads(DBT_MANIFEST.read_text()), models)))
            for what, task_id, limit in (
                ("DAG parse", "", LIMIT_SECONDS.get(models, 3)),
                ("DAG parse of a model's task", TASK, LIMIT_TASK_SECONDS),
            ):
                cpu = statistics.median(
                    in_fork(partial(parse, path, task_id))[0] for _ in range(options.rounds)
                )
                name, peer = f"{what}, {models} models", f"limit {limit} s"
                found.append(Record(name, peer, cpu / limit, cpu, "s", 1))
    hand_on(found, options.json)


if __name__ == "__main__":
    main()
