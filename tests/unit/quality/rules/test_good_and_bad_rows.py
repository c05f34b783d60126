"""Split good and bad rows: each row is one or the other; a refused one has reason and origin."""

import json
from collections.abc import Iterator

import duckdb
import pytest

from include.chimera.contracts import CONTRACTS
from include.chimera.quality.rules.good_and_bad_rows import bad_rows, examples, good_rows
from tests.builders import HOUR, LABEL, generations

TABLE = "bronze.generations"


@pytest.fixture
def session() -> Iterator[duckdb.DuckDBPyConnection]:
    """Return a session that knows the run's window, as a gate's does."""
    with duckdb.connect() as connection:
        connection.execute("set TimeZone = 'UTC'")
        connection.execute(
            f"create table run as select timestamptz '{HOUR}' as window_start, "
            f"timestamptz '{HOUR}' + interval 1 hour as window_end, 0 as rows_unparsed"
        )
        yield connection


def refused(session: duckdb.DuckDBPyConnection, rows: str) -> list[tuple[str, dict, dict, str]]:
    """Return each refused row's reason, coordinates, payload and hour."""
    bad = bad_rows(TABLE, rows)
    found = session.execute(
        f"select reason, coordinates, decode(payload), _window_hour from ({bad})"
    ).fetchall()
    return [(reason, json.loads(at), json.loads(row), hour) for reason, at, row, hour in found]


def test_a_refused_row_is_kept_whole_with_its_key_and_hour(
    session: duckdb.DuckDBPyConnection,
) -> None:
    """Nothing of the row is lost, so its dead letter can be replayed."""
    ((reason, coordinates, payload, hour),) = refused(
        session, generations(9, prompt_tokens="if(i = 4, -1, i)", cost_usd="0.123456789")
    )
    assert (reason, hour) == ("between_prompt_tokens", LABEL)
    assert set(coordinates) == {"generation_id", "_row_hash"}
    assert coordinates["generation_id"] == "g4"
    assert set(payload) == set(CONTRACTS[TABLE].schema.names)
    assert payload["prompt_tokens"] == -1
    assert payload["techniques"] == ["roleplay"]


def test_a_row_that_breaks_several_rules_is_refused_once_with_all_of_them(
    session: duckdb.DuckDBPyConnection,
) -> None:
    """One letter per record, not per rule."""
    ((reason, *_),) = refused(session, generations(1, prompt_tokens="-1", completion_tokens="-1"))
    assert set(reason.split(",")) == {"between_prompt_tokens", "between_completion_tokens"}


def test_good_rows_keep_their_columns_and_leave_the_bad_ones_out(
    session: duckdb.DuckDBPyConnection,
) -> None:
    """The columns are the contract's, without helper columns."""
    rows = generations(9, status="if(i < 2, 'odd', 'failed')")
    good = session.execute(good_rows(TABLE, rows)).to_arrow_table()
    assert good.column_names == CONTRACTS[TABLE].schema.names
    assert sorted(good["generation_id"].to_pylist()) == [f"g{number}" for number in range(2, 9)]


@pytest.mark.parametrize(
    ("column", "value"),
    [("prompt_tokens", "null"), ("latency_ms", "null"), ("cost_usd", "null"), ("latency_ms", "0")],
)
def test_missing_optional_values_break_nothing(
    session: duckdb.DuckDBPyConnection, column: str, value: str
) -> None:
    """Real traces lack counts, latencies and costs."""
    assert refused(session, generations(3, **{column: value})) == []


def test_not_a_number_is_refused(session: duckdb.DuckDBPyConnection) -> None:
    """DuckDB orders NaN above everything, so that it breaks the upper bound."""
    assert [reason for reason, *_ in refused(session, generations(1, latency_ms="'nan'"))] == [
        "between_latency_ms"
    ]


def test_an_example_shows_no_more_than_the_head_of_a_value() -> None:
    """A public column holds whatever is sent: a method of 100,000 letters is truncated."""
    rows = "select unnest(['PUT', 'X', repeat('y', 100000)]) as method"
    query = examples("bronze.api_logs", "in_set_method", rows)
    found = duckdb.sql(query).fetchall()
    assert sorted(found) == [("X", 1), ("y" * 60 + "…", 1)]
