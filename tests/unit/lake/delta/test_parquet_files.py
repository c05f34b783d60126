"""Statistics that a Delta log holds about a file: widened, never narrowed."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from duckdb import DuckDBPyConnection
from hypothesis import given
from hypothesis import strategies as st

from include.chimera.errors import ContractError
from include.chimera.lake.delta.parquet_files import _milliseconds, write_files


@given(
    st.datetimes(
        min_value=datetime(1900, 1, 1),  # noqa: DTZ001 - Hypothesis wants naive bounds
        max_value=datetime(2200, 1, 1),  # noqa: DTZ001 - Hypothesis wants naive bounds
        timezones=st.just(UTC),
    )
)
def test_timestamp_bounds_are_widened_to_milliseconds(moment: datetime) -> None:
    """A narrowed bound would make readers skip the row at the edge."""
    text = moment.isoformat(sep=" ").replace("+00:00", "+00")
    low = datetime.fromisoformat(_milliseconds(text, up=False))
    high = datetime.fromisoformat(_milliseconds(text, up=True))
    assert low <= moment <= high
    assert high - low <= timedelta(milliseconds=1)


@pytest.mark.parametrize("text", ["infinity", "-infinity", "290309-12-22 (BC) 00:00:00+00"])
def test_timestamps_without_a_date_get_no_bound(text: str) -> None:
    """No bound prunes nothing, which is right."""
    assert _milliseconds(text, up=True) is None


def stats_of(connection: DuckDBPyConnection, folder: Path, column: str) -> dict:
    """Return the log's statistics of a file with one column, made from two rows `i`."""
    query = f"select {column} as x from range(2) as t (i)"
    schema = connection.execute(f"{query} limit 0").to_arrow_table().schema
    (file,) = write_files(connection, query, str(folder), schema)
    return json.loads(file.stats)


@pytest.mark.parametrize(
    ("column", "low", "high"),
    [
        ("i + 5", 5, 6),
        ("i * 0.5::double", 0.0, 0.5),
        ("date '2026-01-01' + i::int", "2026-01-01", "2026-01-02"),
        (
            "timestamptz '2026-01-01 00:00:00.0005+00' + interval (i) hour",
            "2026-01-01T00:00:00.000Z",
            "2026-01-01T01:00:00.001Z",
        ),
    ],
)
def test_bounds_of_ordered_types(
    connection: DuckDBPyConnection, tmp_path: Path, column: str, low: object, high: object
) -> None:
    """Integers, doubles, dates and timestamps prune."""
    stats = stats_of(connection, tmp_path, column)
    assert stats["numRecords"] == 2
    assert (stats["minValues"], stats["maxValues"]) == ({"x": low}, {"x": high})


@pytest.mark.parametrize(
    "column",
    [
        "case when i = 0 then 'nan'::double else 1.0 end",
        "'inf'::double",
        "i::decimal(9, 2)",
        "'a'",
        "'infinity'::date",
        "'infinity'::timestamptz",
        "date '0044-03-15 (BC)'",
    ],
)
def test_types_whose_order_readers_see_differently_get_no_bounds(
    connection: DuckDBPyConnection, tmp_path: Path, column: str
) -> None:
    """NaN, infinities, decimals and text: only counts."""
    stats = stats_of(connection, tmp_path, column)
    assert stats["minValues"] == stats["maxValues"] == {}
    assert stats["nullCount"] == {"x": 0}


def test_an_empty_result_leaves_no_file(connection: DuckDBPyConnection, tmp_path: Path) -> None:
    """If nothing is staged, there is nothing to commit."""
    schema = pa.schema([pa.field("x", pa.int64())])
    assert write_files(connection, "select 1 as x where false", str(tmp_path), schema) == []


@pytest.mark.parametrize("hour", ["''", "null"])
def test_rows_without_a_required_partition_are_refused(
    connection: DuckDBPyConnection, tmp_path: Path, hour: str
) -> None:
    """Committed, one of them would make the whole table unreadable."""
    fields = [pa.field("x", pa.int64()), pa.field("_window_hour", pa.string(), nullable=False)]
    query = f"select 1 as x, '20260101T05' as _window_hour union all select 2, {hour}"
    with pytest.raises(ContractError, match="none in 1 rows"):
        write_files(connection, query, str(tmp_path), pa.schema(fields), ["_window_hour"])
