"""Is an hour like the same hour of past days?"""

import json

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.chimera.contracts import GENERATIONS, PARTITION
from include.chimera.lake.delta.parquet_files import DataFile
from include.chimera.quality.unusual_hours import MIN_DAYS, is_unusual, measures
from tests.builders import run_of

DAYS = [1000.0, 1040.0, 980.0, 1010.0, 1005.0, 990.0]


@pytest.mark.parametrize(
    ("kind", "value", "unusual"),
    [
        ("rows", 1100, False),
        ("rows", 400, True),
        ("rows", 2000, True),
        ("rows", 0, True),
        ("gate_seconds", 0, False),
        ("gate_seconds", 3100, True),
    ],
)
def test_far_numbers_are_unusual(kind: str, value: float, unusual: bool) -> None:
    """Durations only if they are longer."""
    assert is_unusual(value, DAYS, kind) is unusual


def test_null_ratio_is_compared_in_points() -> None:
    """A column that was never null and now is in a third of the rows."""
    assert is_unusual(0.33, [0.0] * MIN_DAYS, "null_ratio")
    assert not is_unusual(0.1, [0.0] * MIN_DAYS, "null_ratio")


@given(st.lists(st.floats(0, 1e9), max_size=MIN_DAYS - 1), st.floats(0, 1e9))
def test_few_days_prove_nothing(former: list[float], value: float) -> None:
    """The first week raises no alarm."""
    assert not is_unusual(value, former, "rows")


@given(st.floats(0, 1e6), st.sampled_from(["rows", "freshness_seconds", "gate_seconds"]))
def test_what_always_was_is_not_unusual(value: float, kind: str) -> None:
    """Equal numbers are equal, whatever they are."""
    assert not is_unusual(value, [value] * 14, kind)


NULLS = dict.fromkeys(GENERATIONS.schema.names, 0)
NO_ROWS = "select * from nothing"


def file_of(nulls: dict[str, int], newest: str | None) -> DataFile:
    """Return a file of four rows with these statistics."""
    high = {"created_at": newest} if newest else {}
    stats = {"numRecords": 4, "nullCount": nulls, "minValues": {}, "maxValues": high}
    return DataFile("a.parquet", 4, 100, {PARTITION: "20260101T05"}, json.dumps(stats))


def numbers(file: DataFile, rows: str) -> dict[str, float]:
    with duckdb.connect() as connection:
        connection.execute("set TimeZone = 'UTC'")
        found = measures(run_of(), GENERATIONS.name, [file], 0.5, connection, rows)
    return {measure.rule_id: measure.value for measure in found}


def test_measures_come_from_the_files_statistics() -> None:
    """Rows, null ratios and freshness without reading a row."""
    found = numbers(file_of({**NULLS, "model_id": 1}, "2026-01-01T05:45:00.000Z"), NO_ROWS)
    assert found["anomaly_rows"] == 4
    assert found["anomaly_null_ratio_model_id"] == 0.25
    assert found["anomaly_freshness_seconds"] == 900
    assert found["anomaly_gate_seconds"] == 0.5


@pytest.mark.parametrize("newest", [None, "2031-01-01T05:00:00.000Z"], ids=["none", "beyond"])
def test_what_statistics_do_not_say_is_asked_of_the_rows(newest: str | None) -> None:
    """A list has no null count, an infinite time no bound: unknown, not zero."""
    nulls = {name: count for name, count in NULLS.items() if name != "techniques"}
    times = ["2026-01-01 05:30:00+00", "infinity", "-infinity", "2031-01-01 05:00:00+00"]
    values = ", ".join(f"(timestamptz '{time}', null::varchar[])" for time in times)
    found = numbers(
        file_of(nulls, newest), f"select * from (values {values}) t (created_at, techniques)"
    )
    assert found["anomaly_null_ratio_techniques"] == 1.0
    assert found["anomaly_freshness_seconds"] == 1800


def test_empty_stage_has_a_row_count_alone() -> None:
    """No ratio of nothing."""
    with duckdb.connect() as connection:
        found = measures(run_of(), "bronze.generations", [], 0.5, connection, NO_ROWS)
    assert [m.kind for m in found] == ["rows", "gate_seconds"]
