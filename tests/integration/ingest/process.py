"""One hour's ingestion in its own process, which a fault point may kill or stop."""

import resource
import subprocess
import sys

from include.chimera.fault_points import fault_point
from include.chimera.lake.ops_tables.ledger import close_run
from include.chimera.lake.staged.records import write_record
from include.chimera.paths import PROJECT
from tests.integration.ingest.pipeline import GENERATION, extract, publish, run_of


def start(uri, number, name, fault="", **limits):
    """Start the ingestion of an hour into the lake below `state_dir`.

    With `file_bytes`, the kernel limits the size of the files that it writes.
    """
    command = (sys.executable, "-m", "tests.integration.ingest.process")
    settings = {
        "CHIMERA_STATE_DIR": str(limits["state_dir"]),
        "CHIMERA_FAULT_POINT": fault,
    }
    return subprocess.Popen(  # noqa: S603 - fixed arguments
        [*command, uri, str(number), name, str(limits.get("file_bytes", ""))],
        cwd=PROJECT,
        env=settings,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


def finish(process):
    """Wait for the process's end; return its exit code and output."""
    _, error = process.communicate(timeout=120)
    return process.returncode, error.decode()


def whole_hour(uri, number, name):
    """Extract, publish, record and close an hour, in the order of its tasks."""
    run = run_of(number, name)
    extract(uri, run)
    found = publish(run)
    write_record(run, GENERATION, found)
    fault_point("publish.recorded")
    close_run(run)


if __name__ == "__main__":
    if sys.argv[4]:
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[4]),) * 2)
    whole_hour(sys.argv[1], int(sys.argv[2]), sys.argv[3])
