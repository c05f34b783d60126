"""What a gate costs: beside the same rules in hand-written SQL, GX on pandas, and dataframely.

`python -m benchmarks.gates [--json PATH] [--rows 100000 1000000]` measures seconds and peak memory
of each contender in a process of its own, imports left out: once cold, then the fastest of three.
GX on pandas judges the rules that it knows, the predicates of our own are DuckDB's; dataframely
judges the rules about single rows.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import duckdb

from benchmarks.records import Record, hand_on, peak_mib
from include.chimera.contracts import CONTRACTS
from include.chimera.lake.store.duckdb_sessions import identifier
from include.chimera.paths import INCLUDE
from include.chimera.quality.rules.good_and_bad_rows import broken_predicate, suite_expectations

if TYPE_CHECKING:
    from collections.abc import Callable

TABLE = "bronze.generations"
WARM_ROUNDS = 3
UNITS = {"time": "s", "CPU": "s", "cold start": "s", "memory": "MiB"}
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
  md5(cast(i as varchar)) as _row_hash, false as _is_deleted, '20260105T10' as _window_hour
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
    connection.execute("create table usual (rule_id varchar, upper double)")
    connection.execute(
        f"create table {KEYS} as select 'acme/m' || i as model_id from range(12) t(i)"
    )


def judge_by_gate(path: Path) -> float:
    """Run the table's checkpoint as the DAG does."""
    from include.chimera.quality.gx.checkpoint import (  # noqa: PLC0415 - its import is no part of what is measured
        GatedCheckpoint,
        gate_database,
        gx_context,
    )
    from tests.builders import run_of  # noqa: PLC0415 - its import is no part of what is measured

    started = time.monotonic()
    rows = f"select * from read_parquet('{path}')"
    with gate_database(rows, relations) as database:
        checkpoint = gx_context(database).checkpoints.get(TABLE)
        assert GatedCheckpoint(checkpoint, TABLE, run_of(), 0, 0, 0.99).run().outcome == "passed"  # noqa: S101 - a figure counts only if the gate passes
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
    import great_expectations as gx  # noqa: PLC0415 - its import is no part of what is measured
    import pandas as pd  # noqa: PLC0415 - its import is no part of what is measured
    from great_expectations.data_context.types.base import (  # noqa: PLC0415 - as above
        ProgressBarsConfig,
    )

    started = time.monotonic()
    frame = pd.read_parquet(path)
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    asset = context.data_sources.add_pandas("frames").add_dataframe_asset("rows")
    batch = asset.add_batch_definition_whole_dataframe("whole")
    suite = context.suites.add(gx.ExpectationSuite(name=TABLE))
    for item in suite_expectations(TABLE):
        if not any(
            word in item["type"]
            for word in ("predicate", "unexpected_rows", "known", "ratio", "usual", "good_rows")
        ):
            configuration = gx.expectations.expectation.ExpectationConfiguration(
                type=item["type"], kwargs=dict(item["kwargs"])
            )
            suite.add_expectation_configuration(configuration)
    batch.get_batch({"dataframe": frame}).validate(suite)
    return time.monotonic() - started


def row_rules() -> dict[str, Any]:
    """Return the suite's rules about single rows as polars expressions, by rule id."""
    import polars as pl  # noqa: PLC0415 - its import is no part of what is measured

    own = {
        "in_window_updated_at": pl.col("updated_at") < datetime(2026, 1, 5, 11, tzinfo=UTC),
        "since_beginning": pl.col("created_at") >= datetime(2015, 1, 1, tzinfo=UTC),
        "no_error_on_success": pl.col("error_code").is_null() | (pl.col("status") != "succeeded"),
        "refers_to_model_id": pl.col("model_id").is_in([f"acme/m{number}" for number in range(12)]),
    }
    stock: dict[str, Callable[[pl.Expr, dict[str, Any]], pl.Expr]] = {
        "not_be_null": lambda column, _: column.is_not_null(),
        "values_to_be_between": lambda column, bounds: column.is_between(
            bounds["min_value"], bounds["max_value"]
        ),
        "value_lengths_to_be_between": lambda column, bounds: column.str.len_chars().is_between(
            bounds["min_value"], bounds["max_value"]
        ),
        "to_be_in_set": lambda column, bounds: column.is_in(bounds["value_set"]),
        "not_be_in_set": lambda column, bounds: ~column.is_in(bounds["value_set"]),
        "match_regex": lambda column, bounds: column.str.contains(bounds["regex"]),
        "a_to_be_greater_than_b": lambda _, bounds: (
            pl.col(bounds["column_A"]) >= pl.col(bounds["column_B"])
        ),
    }
    rules = {}
    for item in suite_expectations(TABLE):
        name, bounds = item["meta"]["rule_id"], dict(item["kwargs"])
        column = pl.col(str(bounds.get("column", "")))
        kept = [make(column, bounds) for end, make in stock.items() if item["type"].endswith(end)]
        for rule in [own[name]] if name in own else kept:
            rules[name] = rule.fill_null(value=True)
    return rules


def judge_by_dataframely(path: Path) -> float:
    """Split good rows from bad by dataframely on polars; reading the file is part of it."""
    import dataframely as dy  # noqa: PLC0415 - its import is no part of what is measured
    import polars as pl  # noqa: PLC0415 - its import is no part of what is measured

    started = time.monotonic()
    frame = pl.read_parquet(path)
    columns = {name: dy.Any() for name in frame.columns}

    def rule(keeps: pl.Expr) -> object:
        return dy.rule()(lambda cls: keeps)  # noqa: ARG005 - its signature

    rules = {name: rule(keeps) for name, keeps in row_rules().items()}
    schema: Any = type("Rows", (dy.Schema,), {**columns, **rules})
    good, _ = schema.filter(frame)
    assert len(good) == len(frame)  # noqa: S101 - a figure counts only if the gate passes
    return time.monotonic() - started


CONTENDERS = {
    "sql": judge_by_sql,
    "gate": judge_by_gate,
    "dataframely": judge_by_dataframely,
    "pandas": judge_by_pandas,
}


def measured(name: str, path: Path) -> dict[str, float]:
    """Run a contender once cold, then, where it is quick, three times more: the fastest counts."""
    judge, cpu = CONTENDERS[name], []
    cold = judge(path)
    warm = [cold]
    for _ in range(WARM_ROUNDS if cold < 20 else 0):  # noqa: PLR2004 - seconds
        before = time.process_time()
        warm.append(judge(path))
        cpu.append(time.process_time() - before)
    peak = peak_mib()
    fastest = min(cpu, default=time.process_time())
    return {"cold start": cold, "time": min(warm), "CPU": fastest, "memory": peak}


def measure(name: str, path: Path) -> dict[str, float]:
    """Run one contender in a process of its own; return seconds and peak mebibytes."""
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
        sys.stdout.write(json.dumps(measured(options.contender, options.path)) + "\n")
        return
    found: list[Record] = []
    for count in options.rows:
        with TemporaryDirectory() as folder:
            path = Path(folder) / "rows.parquet"
            duckdb.sql(f"copy ({sample(count)}) to '{path}' (format parquet)")
            cost = {name: measure(name, path) for name in CONTENDERS}
        gate = cost["gate"]
        name = f"gate, {count:,} rows"
        for peer in CONTENDERS.keys() - {"gate"}:
            for what, unit in UNITS.items():
                goal = 2.0 if (peer, what) == ("sql", "time") else None
                ratio = gate[what] / cost[peer][what]
                found.append(Record(f"{name}, {what}", peer, ratio, gate[what], unit, goal))
        ratio = gate["memory"] / (1e9 / 2**20)
        found.append(Record(f"{name}, memory", "limit 1 GB", ratio, gate["memory"], "MiB", 1))
    hand_on(found, options.json)


if __name__ == "__main__":
    main()
