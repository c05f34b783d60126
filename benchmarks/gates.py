"""What a gate costs: beside the same rules in hand-written SQL, and beside GX on pandas.

`python -m benchmarks.gates [--json PATH] [--rows 100000 1000000]` measures seconds and peak memory
of each contender in a process of its own, imports left out. GX on pandas judges the rules that it
knows; the predicates of our own are DuckDB's.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb

from benchmarks.records import Record, hand_on
from include.chimera.contracts import CONTRACTS
from include.chimera.lake.engine import identifier
from include.chimera.paths import INCLUDE
from include.chimera.quality.split import broken_predicate, suite_expectations

TABLE = "bronze.generations"
KEYS = "keys_bronze_models_model_id"
ROWS = """
select 'g' || i as generation_id, timestamptz '2026-01-05 10:00:00+00' + to_microseconds(
    cast(i * 3.6e9 / {count} as bigint)) as created_at, created_at as updated_at,
  'user' || i % 997 as user_id, 'session' || i % 9973 as session_id, 'request' || i as request_id,
  'acme' as provider_id, 'acme/m' || i % 12 as model_id, cast(1 + i % 4000 as bigint) as
  prompt_tokens, cast(i % 900 as bigint) as completion_tokens,
  cast(90 + i % 9000 as double) as latency_ms,
  cast(60 + i % 900 as double) as ttft_ms, 'succeeded' as status,
  cast(null as varchar) as error_code,
  ['roleplay'] as techniques, cast(i % 100 / 1000 as decimal(18, 9)) as cost_usd,
  md5(cast(i as varchar)) as _row_hash, '20260105T10' as _window_hour
from range({count}) as numbers (i)
"""


def sample(count: int) -> str:
    """Return the query of so many rows; columns of the contract that it leaves out are null."""
    made = set(duckdb.sql(ROWS.format(count=1)).columns)
    schema = CONTRACTS[TABLE].schema
    types = duckdb.from_arrow(schema.empty_table())
    rest = [
        f"cast(null as {kind}) as {identifier(name)}"
        for name, kind in zip(types.columns, types.types, strict=True)
        if name not in made
    ]
    return f"select {', '.join(['*', *rest])} from ({ROWS.format(count=count)})"


def relations(connection: duckdb.DuckDBPyConnection) -> None:
    """Create what the rules refer to."""
    connection.execute(
        "create table run as select timestamptz '2026-01-05 10:00:00+00' as window_start, "
        "timestamptz '2026-01-05 11:00:00+00' as window_end, 0 as rows_unparsed"
    )
    connection.execute(
        f"create table {KEYS} as select 'acme/m' || i as model_id from range(12) t(i)"
    )


def judge_by_gate(path: Path) -> float:
    """Run the table's checkpoint as the DAG does, and count what the split would refuse."""
    from include.chimera.quality.gate import gate_database, gx_context  # noqa: PLC0415
    from include.chimera.quality.split import count_rows  # noqa: PLC0415

    started = time.monotonic()
    rows = f"select * from read_parquet('{path}')"
    with gate_database(rows, relations) as database, duckdb.connect() as connection:
        relations(connection)
        connection.execute(count_rows(TABLE, rows)).fetchone()
        assert gx_context(database).checkpoints.get(TABLE).run().success  # noqa: S101
    return time.monotonic() - started


def judge_by_sql(path: Path) -> float:
    """Count the same rules' broken rows and statistics in one query, as a careful person would."""
    started = time.monotonic()
    predicates = list(filter(None, map(broken_predicate, suite_expectations(TABLE))))
    counts = ", ".join(f"count(*) filter (where {text})" for text in predicates)
    anything = " or ".join(predicates)
    with duckdb.connect() as connection:
        relations(connection)
        connection.execute(
            f"select count(*), max(created_at), avg(latency_ms), stddev_samp(latency_ms), "
            f"avg(prompt_tokens), stddev_samp(prompt_tokens), count(*) filter (where {anything}), "
            f"{counts} from read_parquet('{path}')"
        ).fetchone()
    return time.monotonic() - started


def judge_by_pandas(path: Path) -> float:
    """Run the suite's stock expectations by GX on a pandas frame; reading it is part of it."""
    import great_expectations as gx  # noqa: PLC0415
    import pandas as pd  # noqa: PLC0415

    started = time.monotonic()
    frame = pd.read_parquet(path)
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    asset = context.data_sources.add_pandas("frames").add_dataframe_asset("rows")
    batch = asset.add_batch_definition_whole_dataframe("whole")
    suite = context.suites.add(gx.ExpectationSuite(name=TABLE))
    for item in suite_expectations(TABLE):
        if not any(word in item["type"] for word in ("predicate", "unexpected_rows", "known")):
            configuration = gx.expectations.expectation.ExpectationConfiguration(
                type=item["type"], kwargs=item["kwargs"]
            )
            suite.add_expectation_configuration(configuration)
    batch.get_batch({"dataframe": frame}).validate(suite)
    return time.monotonic() - started


CONTENDERS = {"sql": judge_by_sql, "gate": judge_by_gate, "pandas": judge_by_pandas}


def measure(name: str, path: Path) -> dict[str, float]:
    """Run one contender in a process of its own; return its seconds and peak mebibytes."""
    done = subprocess.run(  # noqa: S603 - our own command
        [sys.executable, "-m", "benchmarks.gates", "--contender", name, "--path", str(path)],
        cwd=INCLUDE.parent,
        capture_output=True,
        text=True,
        check=True,
    )
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Hand on the records, or measure one contender."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--contender", choices=CONTENDERS)
    parser.add_argument("--path", type=Path)
    options = parser.parse_args()
    if options.contender:
        seconds = CONTENDERS[options.contender](options.path)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        sys.stdout.write(json.dumps({"seconds": seconds, "mebibytes": peak}) + "\n")
        return
    found: list[Record] = []
    for count in options.rows:
        with TemporaryDirectory() as folder:
            path = Path(folder) / "rows.parquet"
            duckdb.sql(f"copy ({sample(count)}) to '{path}' (format parquet)")
            cost = {name: measure(name, path) for name in CONTENDERS}
        gate = cost["gate"]
        for peer, goal in (("sql", 2.0), ("pandas", None)):
            ratio = gate["seconds"] / cost[peer]["seconds"]
            found.append(Record(f"gate, {count:,} rows", peer, ratio, gate["seconds"], "s", goal))
        ratio = gate["mebibytes"] / 1024
        found.append(
            Record(f"gate, {count:,} rows", "limit 1 GiB", ratio, gate["mebibytes"], "MiB", 1)
        )
    hand_on(found, options.json)


if __name__ == "__main__":
    main()
