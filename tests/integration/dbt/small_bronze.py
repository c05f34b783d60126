"""Six hours of bronze in a small lake, and rows that come late."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from hashlib import sha256

import pyarrow as pa

from include.chimera.contracts import BRONZE, CONTRACTS, PARTITION, Contract
from include.chimera.lake.publish.bronze_publisher import Publisher
from include.chimera.lake.staged.fencing_tokens import draw_token
from include.chimera.lake.staged.manifests import Batch
from include.chimera.lake.staged.stage_rows import rows_of, stage_rows
from include.chimera.lake.store.duckdb_sessions import connect
from include.chimera.window import HOUR, Run, Window, hour_label

FIRST = datetime(2026, 1, 1, 22, tzinfo=UTC)
# Three UTC days; late rows touch hours of the last two.
HOURS = [FIRST + offset * HOUR for offset in (0, 1, 2, 14, 26, 27)]
LATE_HOURS = (HOURS[3], HOURS[5])


def generation(number: int, created: datetime, **changes) -> dict:
    updated = changes.get("updated_at", created + timedelta(seconds=30))
    row = {
        "generation_id": f"g-{hour_label(created)}-{number}",
        "created_at": created,
        "updated_at": updated,
        "user_id": f"user-{number % 3}",
        "provider_id": "acme" if number % 2 else None,
        "model_id": "m1",
        "prompt_tokens": 10 + number,
        "completion_tokens": None if number == 4 else number,
        "latency_ms": 100.5 * number,
        "ttft_ms": 7.25 * number,
        "status": "failed" if number == 5 else "succeeded",
        "techniques": ["roleplay"] if number == 1 else None,
        "cost_usd": Decimal("0.000000001") * (number + 1),
        **changes,
    }
    return {
        **row,
        "_row_hash": sha256(repr(row).encode()).hexdigest(),
        "_is_deleted": False,
        PARTITION: hour_label(updated),
    }


def evaluation(number: int, created: datetime, **changes) -> dict:
    updated = changes.get("updated_at", created)
    row = {
        "evaluation_id": f"e-{hour_label(created)}-{number}",
        "created_at": created,
        "updated_at": updated,
        "provider_id": "vllm",
        "model_id": "m9",
        "technique": "PAIR" if number % 2 else "GCG",
        "iterations": 3,
        "successes": None if number == 3 else number % 2,
        "status": "completed",
        **changes,
    }
    return {
        **row,
        "_row_hash": sha256(repr(row).encode()).hexdigest(),
        "_is_deleted": False,
        PARTITION: hour_label(updated),
    }


def publish(run_name: str, table: str, rows: list[dict]) -> None:
    """Stage rows and publish them as a gate does, with the changed hours as metadata."""
    run = Run(run_name, Window.of_hour(FIRST))
    hours = sorted({row[PARTITION] for row in rows if PARTITION in row})
    records = pa.Table.from_pylist(rows, schema=CONTRACTS[table].schema).to_reader()
    batch = stage_rows(run, Batch(table, draw_token(table, hours), hours=hours), records)
    with connect() as connection:
        Publisher(connection, batch, rows_of(run, batch), run).publish(0)


def own_rows() -> dict[str, list[dict]]:
    """Return the rows that tests query: a log line, two metric series, an idle provider."""
    minutes = [
        (hour, number, hour + timedelta(minutes=number)) for hour in HOURS for number in range(6)
    ]
    overtaking = generation(
        0, LATE_HOURS[0], updated_at=LATE_HOURS[0] + 5 * HOUR, status="filtered"
    )
    return {
        "bronze.generations": [
            *(
                generation(number, moment)
                for _, number, moment in minutes
                if (number, moment) != (0, LATE_HOURS[0])
            ),
            overtaking,
        ],
        "bronze.evaluations": [evaluation(number, moment) for _, number, moment in minutes],
        "bronze.models": [
            {
                "model_id": model,
                "provider_id": "acme",
                "is_enabled": True,
                "updated_at": FIRST,
                "_row_hash": model,
            }
            for model in ("m1", "m2")
        ],
        "bronze.api_logs": [
            {
                "timestamp": moment,
                "method": "POST" if number else None,
                "path": "/v1",
                "status_code": 200,
                "_file": "a.jsonl",
                "_offset": number,
                "_line_hash": f"{moment}",
                PARTITION: hour_label(hour),
            }
            for hour, number, moment in minutes
        ],
        "bronze.provider_metrics": [
            {
                "series_id": provider,
                "sampled_at": moment,
                "metric": "llm_provider_up",
                "provider_id": provider,
                "value": float(number != 0),
                PARTITION: hour_label(hour),
            }
            for hour, number, moment in minutes
            for provider in ("acme", "idle")
        ],
    }


def any_row(contract: Contract, moment: datetime) -> dict:
    """Return a row that no test queries; with numbers only in required columns."""
    values = {"string": f"{moment}", "bool": False, "timestamp[us, tz=UTC]": moment}
    row = {
        field.name: values.get(str(field.type), None if field.nullable else 0)
        for field in contract.schema
    }
    return row | ({PARTITION: hour_label(moment)} if PARTITION in row else {})


def publish_history() -> None:
    """Fill bronze: six hours of each table."""
    own = own_rows()
    own.pop("bronze.models")
    own.pop("bronze.api_logs")
    for contract in BRONZE:
        rows = own.get(contract.name) or [any_row(contract, hour) for hour in HOURS]
        publish("first", contract.name, rows)


def publish_late_rows() -> None:
    """Change one row in each late hour, and add an outdated version."""
    later = HOURS[-1] + 2 * HOUR
    publish(
        "late",
        "bronze.generations",
        [
            generation(
                5, LATE_HOURS[0] + timedelta(minutes=5), updated_at=later, status="succeeded"
            ),
            generation(
                2, LATE_HOURS[1] + timedelta(minutes=2), updated_at=later, cost_usd=Decimal(3)
            ),
            generation(0, LATE_HOURS[0]),
        ],
    )
    publish(
        "late",
        "bronze.evaluations",
        [evaluation(3, LATE_HOURS[0] + timedelta(minutes=3), updated_at=later, successes=1)],
    )
