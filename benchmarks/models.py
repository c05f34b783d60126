"""What one dbt model costs as an Airflow task, in CPU seconds and wall.

`python -m benchmarks.models [--json PATH] [--rounds 3]`. Each contender runs the operator of Cosmos
as a task does: in a process forked from one that holds Airflow, on a lake of its own. The stock
operator finds nothing else preloaded and has Cosmos' own defaults; ours has what the scheduler
preloads and the DAG's flags. The project's `dbt build` is one command, divided by its models.
"""

from __future__ import annotations

import argparse
import importlib
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.records import Record, hand_on
from include.chimera.paths import AIRFLOW_DBT, DBT_MANIFEST, DBT_PROJECT, PROJECT

if TYPE_CHECKING:
    from collections.abc import Callable

GOAL = 1 / 6
MODEL = "dim_models"


def run_operator(*flags: str) -> None:
    """Build one model by Cosmos' operator."""
    from cosmos import ProfileConfig, settings  # noqa: PLC0415 - its import is measured, too
    from cosmos.constants import InvocationMode  # noqa: PLC0415 - as above
    from cosmos.operators.local import DbtBuildLocalOperator  # noqa: PLC0415 - as above

    DbtBuildLocalOperator(
        task_id="build",
        project_dir=str(AIRFLOW_DBT),
        profile_config=ProfileConfig(
            profile_name="chimera",
            target_name="prod",
            profiles_yml_filepath=DBT_PROJECT / "profiles.yml",
        ),
        select=MODEL,
        exclude="resource_type:unit_test",
        invocation_mode=InvocationMode.DBT_RUNNER,
        install_deps=False,
        append_env=True,
        emit_datasets=False,
        cache_dir=settings.cache_dir,  # there Cosmos looks for the partial parse
        dbt_cmd_flags=list(flags),
    ).build_and_run_cmd(context={"run_id": "bench"})


def in_fork(work: Callable[[], None]) -> tuple[float, float]:
    """Run work in a forked process; return its CPU seconds and wall."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            silence = os.open(os.devnull, os.O_WRONLY)
            os.dup2(silence, 1)
            work()
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    if status:
        message = "the operator failed"
        raise RuntimeError(message)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return cpu, time.monotonic() - started


def measure(rounds: int) -> dict[str, tuple[float, float]]:
    """Return CPU seconds and wall by contender, medians of the rounds."""
    importlib.import_module("airflow.sdk.execution_time.task_runner")
    stock = [in_fork(run_operator) for _ in range(rounds)]
    warm = importlib.import_module("include.chimera.flow.warm_start.warm_up")
    warm.warm_up(warm.PARSING + warm.WORKING)
    transform = importlib.import_module("include.chimera.flow.cosmos.graph")
    ours = [in_fork(lambda: run_operator(*transform.DBT_FLAGS)) for _ in range(rounds)]
    return {"stock": _median(stock), "ours": _median(ours)}


def _median(pairs: list[tuple[float, float]]) -> tuple[float, float]:
    cpu, wall = zip(*pairs, strict=True)
    return statistics.median(cpu), statistics.median(wall)


def dbt_build(
    target: str, *flags: str, environment: dict[str, str] | None = None
) -> tuple[float, float]:
    """Build all models in one command; return its CPU seconds and wall."""
    place = str(DBT_PROJECT)
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    subprocess.run(  # noqa: S603 - our own command
        [
            *(sys.executable, "-m", "dbt.cli.main", "build", "--quiet", *flags),
            *("--project-dir", place, "--profiles-dir", place, "--target", target),
            *("--exclude", "resource_type:unit_test", "--target-path", tempfile.mkdtemp()),
        ],
        cwd=PROJECT,
        env=environment,
        stdout=sys.stderr,
        check=True,
    )
    after, wall = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic() - started
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, wall


def whole_build() -> tuple[float, float]:
    """Return CPU seconds and wall per model of one `dbt build`."""
    cpu, wall = dbt_build("prod", "--no-static-parser")
    count = sum(1 for _ in (DBT_PROJECT / "models").rglob("*.sql"))
    return cpu / count, wall / count


def main() -> None:
    """Measure and hand on the records."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    if not DBT_MANIFEST.is_file():
        sys.exit("no dbt manifest: run `make manifest`")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["CHIMERA_STATE_DIR"] = folder  # noqa: TID251 - before the settings are read
        build = whole_build()
        found = measure(options.rounds)
    stock, ours = found["stock"], found["ours"]
    hand_on(
        [
            Record("CPU of a model's task", "stock Cosmos", ours[0] / stock[0], ours[0], "s", GOAL),
            Record("wall of a model's task", "stock Cosmos", ours[1] / stock[1], ours[1], "s"),
            Record(
                "CPU of a model's task", "one dbt build / models", ours[0] / build[0], ours[0], "s"
            ),
        ],
        options.json,
    )


if __name__ == "__main__":
    main()
