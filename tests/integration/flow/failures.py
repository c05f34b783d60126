"""Fails as a task would, in a process of its own, and prints the pickled error.

Each limits or spoils its whole process: the files that it may write, its memory, dbt's state.
"""

import base64
import os
import pickle
import resource
import signal
import sys
import tempfile
from pathlib import Path

from include.chimera.demo.synthetic.generator import GeneratedFeed
from include.chimera.errors import ChimeraError
from include.chimera.settings import get_settings
from include.chimera.sources.postgres.sessions import snapshot
from include.chimera.window import Run, Window
from tests.integration.quality.gating import gated, stage
from tests.integration.quality.hours import bronze_tables, stage_hour


def full_disk(run):
    """Stage an hour while the kernel lets no file grow beyond 20 kB."""
    table = "bronze.generations"
    rows = {table: bronze_tables(GeneratedFeed(1000), run.window)[table]}
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
    stage_hour(run, rows)


def gate_down(run):
    """Judge an hour with less memory than DuckDB needs."""
    rows = bronze_tables(GeneratedFeed(1000), run.window)["bronze.evaluations"]
    stage(run, "bronze.evaluations", rows)
    os.environ["CHIMERA_DUCKDB_MEMORY_LIMIT"] = "2MB"  # noqa: TID251 - a process of its own
    get_settings.cache_clear()
    with gated(run, "bronze.evaluations") as (gate, _):
        gate.publish()


def model_broken(_):
    """Build a model with a column that nothing has, as a task does."""
    from cosmos.exceptions import CosmosDbtRunError  # noqa: PLC0415 - heavy
    from dbt.cli.main import dbtRunner  # noqa: PLC0415 - heavy

    from include.chimera.flow.cosmos.dbt_events import explain, note_failure  # noqa: PLC0415 - heavy
    from tests.integration.dbt.conftest import make_project  # noqa: PLC0415 - heavy

    with tempfile.TemporaryDirectory() as folder:
        project = make_project(Path(folder))
        project.write("models/dim_providers.sql", "select regoin from (select 1 as region)")
        os.chdir(folder)
        dbtRunner(callbacks=[note_failure]).invoke(["--quiet", "build", "--no-write-json"])
    raise explain(CosmosDbtRunError("dbt failed"))


def wrong_credentials(_):
    """Ask the application's database as somebody whom it does not know."""
    uri = os.environ["CHIMERA_TEST_APP_DB"]  # noqa: TID251 - a test's own
    with snapshot(uri.replace("postgres@", "reader:wrong@")):
        pass


def main():
    _, name, run_id, *bounds = sys.argv
    output = os.dup(1)
    os.dup2(2, 1)  # what others print is no error of ours
    try:
        globals()[name](Run(run_id, Window.parse(*bounds)))
    except ChimeraError as error:
        os.write(output, base64.b64encode(pickle.dumps(error)))


if __name__ == "__main__":
    main()
