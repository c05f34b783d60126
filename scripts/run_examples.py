"""Fill a small lake and run the data dictionary's examples there.

Run from the project's root: `python -m scripts.run_examples` writes docs/example-results.json, from
which `make docs` takes the results. A test compares them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from include.chimera.contracts import (
    API_LOGS,
    BRONZE,
    IS_DELETED,
    OPS,
    PARTITION,
    PUBLISHED_VERSIONS,
    ROW_HASH,
)
from include.chimera.demo.synthetic.generator import GeneratedFeed
from include.chimera.lake.delta.tables import contract_table, lake_tables, open_table
from include.chimera.lake.ops_tables.appends import append_rows
from include.chimera.lake.ops_tables.consistent_snapshots import published_snapshot, write_views
from include.chimera.lake.publish.bronze_publisher import Publisher
from include.chimera.lake.staged.fencing_tokens import draw_token
from include.chimera.lake.staged.manifests import Batch
from include.chimera.lake.staged.stage_rows import rows_of, stage_rows
from include.chimera.lake.store.duckdb_sessions import connect
from include.chimera.paths import DBT_PROJECT, PROJECT
from include.chimera.settings import get_settings
from include.chimera.window import HOUR, Run, Window, hour_label
from scripts.described_tables import examples

if TYPE_CHECKING:
    from collections.abc import Iterable

    from duckdb import DuckDBPyConnection

    from include.chimera.contracts import Contract
    from include.chimera.demo.openmetrics import Family

RESULTS = PROJECT / "docs" / "example-results.json"
START = datetime(2026, 1, 5, 8, tzinfo=UTC)
_WINDOW = Window(START, START + 2 * HOUR)
_RUN = Run("example", _WINDOW)
_ROWS_PER_HOUR = 300
_LOG_LINES = pa.schema([API_LOGS.schema.field(name) for name in API_LOGS.source_columns])
_DBT = ("run", "--quiet", "--target", "prod")


def main() -> int:
    """Write the results; return the exit code."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["CHIMERA_STATE_DIR"] = folder  # noqa: TID251 - a lake of its own
        get_settings.cache_clear()
        results = run_examples(fill_lake(Path(folder)))
    RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    return 0


def fill_lake(state: Path) -> str:
    """Fill the lake of the settings with two hours, 08:00 to 10:00 on 2026-01-05; return its views.

    Args:
        state: The folder of the settings' `state_dir`.
    """
    feed = GeneratedFeed(_ROWS_PER_HOUR)
    hours = [feed.hour(Window.of_hour(START + number * HOUR)) for number in range(2)]
    rows: dict[str, list[dict[str, Any]]] = {
        f"bronze.{table}": [row for hour in hours for row in hour.tables[table].to_pylist()]
        for table in ("generations", "evaluations")
    }
    rows["bronze.models"] = feed.models().to_pylist()
    rows["bronze.api_logs"] = list(_log_rows(line for hour in hours for line in hour.log_lines))
    rows["bronze.provider_metrics"] = list(_samples(hours[0].families + hours[1].families))
    for contract in BRONZE:
        _publish(contract, rows[contract.name])
    for contract in OPS:
        contract_table(contract.name)
    _build(state)
    _record_versions()
    return write_views(published_snapshot())


def run_examples(views: str) -> dict[str, list[list[str]]]:
    """Return each example's result by table: the columns' names, then the rows as text."""
    with connect() as connection:
        connection.execute(Path(views).read_text().replace("load delta;", ""))
        return {name: _result(connection, query) for name, query in examples().items()}


def _result(connection: DuckDBPyConnection, query: str) -> list[list[str]]:
    found = connection.execute(query)
    names = [str(column[0]) for column in found.description or ()]
    return [names, *([_text(value) for value in row] for row in found.fetchall())]


def _text(value: object) -> str:
    if value is None:
        return "null"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _publish(contract: Contract, rows: list[dict[str, Any]]) -> None:
    for number, row in enumerate(rows):
        moment = row["updated_at" if contract.kind != "events" else str(contract.event_time)]
        lineage = {
            ROW_HASH: f"{number:032x}", IS_DELETED: False, PARTITION: hour_label(moment),
            "_file": "api.jsonl", "_offset": number, "_line_hash": f"{number:032x}",
        }  # fmt: skip
        row |= {name: value for name, value in lineage.items() if name in contract.schema.names}
    hours = sorted({row[PARTITION] for row in rows if PARTITION in row})
    records = pa.Table.from_pylist(rows, schema=contract.schema).to_reader()
    batch = Batch(contract.name, draw_token(contract.name, hours), hours=hours)
    staged = stage_rows(_RUN, batch, records)
    with connect() as connection:
        Publisher(connection, staged, rows_of(_RUN, staged), _RUN).publish(0)


def _log_rows(lines: Iterable[bytes]) -> Iterable[dict[str, Any]]:
    for line in lines:
        try:
            row = json.loads(line)
            row["timestamp"] = datetime.fromisoformat(row["timestamp"])
            pa.Table.from_pylist([row], schema=_LOG_LINES)
        except (ValueError, TypeError, KeyError):
            continue  # a malformed line is a dead letter, which no example is about
        yield row


def _samples(families: Iterable[Family]) -> Iterable[dict[str, Any]]:
    metrics = (metric for family in families for metric in family.metrics)
    for series in (series for metric in metrics for series in metric):
        labels = dict(series.labels)
        for millis, value in zip(series.times.tolist(), series.values.tolist(), strict=True):
            yield {
                "series_id": f"{series.name} {series.labels}",
                "sampled_at": datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=millis),
                "metric": series.name,
                "provider_id": labels.get("provider"),
                "model_id": labels.get("model"),
                "le": float(labels["le"]) if "le" in labels else None,
                "value": value,
            }


def _build(state: Path) -> None:
    dbt = str(Path(sys.executable).with_name("dbt"))
    places = ["--target-path", str(state / "target"), "--log-path", str(state / "logs")]
    environment = {"PATH": os.defpath, "HOME": str(state), "CHIMERA_STATE_DIR": str(state)}
    subprocess.run([dbt, *_DBT, *places], cwd=DBT_PROJECT, env=environment, check=True)  # noqa: S603


def _record_versions() -> None:
    found = {str(name): open_table(name, has_files=False) for name in lake_tables()}
    rows = [
        {
            "run_id": _RUN.run_id,
            "correlation_id": _RUN.correlation_id,
            "table_name": name,
            "table_version": table.version(),
            "window_start": _WINDOW.start,
            "window_end": _WINDOW.end,
            "recorded_at": _WINDOW.end,
            PARTITION: hour_label(_WINDOW.start),
        }
        for name, table in found.items()
        if table is not None and name.startswith(("silver.", "gold."))
    ]
    append_rows(PUBLISHED_VERSIONS, rows, _RUN)


if __name__ == "__main__":
    sys.exit(main())
