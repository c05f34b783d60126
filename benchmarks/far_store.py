"""What an object store's latency costs an hour: the lake 20 ms away, and on local disk.

`python -m benchmarks.far_store [--json PATH] [--rows 10000]`. Each hour is a `make run` from an
empty state folder, one after the other in this order: local disk, then a SeaweedFS behind a proxy
that delays each round trip. The task logs and the sources stay local. The hour's wall time counts,
from its trigger to its end, as do those of its stages.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.hours import run_hour
from benchmarks.records import Record, hand_on
from benchmarks.slow_store import far_away
from tests.integration.object_store import store_server

LIMIT = 1.5


def main() -> None:
    """Measure and hand on the records."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--rows", type=int, default=10_000)
    options = parser.parse_args()
    near, *_ = run_hour(options.rows)
    with store_server() as store, far_away(store) as far_store:
        far, *_ = run_hour(options.rows, **far_store.new_lake())
    (here,), (there,) = near["hours"], far["hours"]
    peer, found = "local disk", there["seconds"]
    name = f"hour of {options.rows:,} generations, S3 20 ms away"
    records = [Record(name, peer, found / here["seconds"], found, "s", LIMIT)]
    for stage, local in zip(there["stages"], here["stages"], strict=True):
        seconds = stage["seconds"]
        name = f"{stage['name']}, S3 20 ms away"
        records.append(Record(name, peer, seconds / local["seconds"], seconds, "s"))
    hand_on(records, options.json)


if __name__ == "__main__":
    main()
