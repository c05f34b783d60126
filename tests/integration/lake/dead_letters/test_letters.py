"""Dead letters are kept once, whatever meets them again."""

import pytest
from duckdb import DuckDBPyConnection

from include.chimera.contracts import DEAD_LETTERS
from include.chimera.lake.dead_letters.erasure import about, erase
from include.chimera.lake.dead_letters.letters import (
    PAYLOAD_BYTES,
    UNKNOWN_HOUR,
    append_letters,
    letters_query,
)
from include.chimera.lake.delta.scans import scan
from include.chimera.lake.delta.tables import open_table
from include.chimera.lake.upkeep.optimization import maintain
from tests.builders import LABEL, run_of

RECORDS = (
    f"select 'malformed_line' as reason, cast(i as varchar) as coordinates, "
    f"encode(repeat('x', 100000)) as payload, '{LABEL}' as _window_hour from range(3) t (i)"
)


def test_a_record_that_two_runs_refuse_is_one_letter(connection: DuckDBPyConnection) -> None:
    """Overlapping windows and retries meet the same line again."""
    for run, new in ((run_of(), 3), (run_of(run_id="manual__1"), 0)):
        letters = letters_query(RECORDS, "bronze.api_logs", "extract", run)
        assert append_letters(connection, letters, run) == new


def test_payloads_are_bounded_and_their_size_is_kept(connection: DuckDBPyConnection) -> None:
    """A gigantic line must not make the table gigantic."""
    run = run_of()
    append_letters(connection, letters_query(RECORDS, "bronze.api_logs", "extract", run), run)
    found = connection.execute(
        "select distinct octet_length(payload), payload_bytes, run_id, correlation_id "
        f"from ({scan(open_table(DEAD_LETTERS.name), DEAD_LETTERS.name)})"
    ).fetchall()
    assert found == [(PAYLOAD_BYTES, 100_000, run.run_id, run.correlation_id)]


def test_no_records_make_no_commit(connection: DuckDBPyConnection) -> None:
    """An hour without refusals does not even create the table."""
    run = run_of()
    nothing = letters_query(f"from ({RECORDS}) where false", "bronze.api_logs", "extract", run)
    assert append_letters(connection, nothing, run) == 0
    assert open_table(DEAD_LETTERS.name) is None


@pytest.mark.parametrize("hour", ["''", "null"])
def test_a_record_without_an_hour_is_one_readable_letter(
    connection: DuckDBPyConnection, hour: str
) -> None:
    """Delta takes an empty partition for null: one such letter made the table unreadable."""
    record = (
        "select 'not_null_updated_at' as reason, 'm1' as coordinates, encode('{}') as payload, "
        f"{hour} as _window_hour"
    )
    for run, new in ((run_of(), 1), (run_of(run_id="manual__1"), 0)):
        letters = letters_query(record, "bronze.models", "gate", run)
        assert append_letters(connection, letters, run) == new
    found = scan(open_table(DEAD_LETTERS.name), DEAD_LETTERS.name)
    assert connection.execute(f"select _window_hour from ({found})").fetchall() == [(UNKNOWN_HOUR,)]


def held(connection: DuckDBPyConnection) -> list[tuple]:
    """Return each event's coordinates and payload, in order."""
    rows = scan(open_table(DEAD_LETTERS.name), DEAD_LETTERS.name)
    return connection.execute(
        f"select event, coordinates, payload from ({rows}) order by all"
    ).fetchall()


def test_a_subject_is_erased_wherever_it_stands_and_nobody_else(
    connection: DuckDBPyConnection,
) -> None:
    """As JSON writes it, as it is, in bytes that are no text; `user-1` is not `user-10`."""
    payloads = {
        "plain": b'{"user_id": "Zo\xc3\xab-1"}',
        "escaped": b'{"user_id": "Zo\\u00eb-1"}',
        "broken": b"\xff Zo\xc3\xab-1 \x00",
        "other": b'{"user_id": "Zo\xc3\xab-10"}',
    }
    records = " union all ".join(
        f"select 'malformed_line' as reason, '{name}' as coordinates, "
        f"unhex('{payload.hex()}') as payload, '{LABEL}' as _window_hour"
        for name, payload in payloads.items()
    )
    run = run_of()
    append_letters(connection, letters_query(records, "bronze.api_logs", "extract", run), run)
    assert erase(about("Zoë-1"), "request 7", "tester") == 3
    left = {(event, place): payload for event, place, payload in held(connection)}
    assert {place for (event, place) in left if event == "parked"} == {"plain", "escaped", "broken"}
    assert {place: left["refused", place] for place in payloads} == {
        **dict.fromkeys(payloads),
        "other": payloads["other"],
    }
    assert erase(about("Zoë-1"), "request 7", "tester") == 0
    # The very record met again by a later window does not bring its payload back.
    append_letters(connection, letters_query(records, "bronze.api_logs", "extract", run), run)
    assert len(held(connection)) == 7
    assert sum(payload is not None for *_, payload in held(connection)) == 1


def test_payloads_expire_and_their_letters_stay(connection: DuckDBPyConnection) -> None:
    """A letter is known after its payload is gone; younger ones keep theirs."""
    run = run_of()
    append_letters(connection, letters_query(RECORDS, "bronze.api_logs", "extract", run), run)
    assert maintain(dry_run=False) == []
    later = "timestamptz '2020-01-01'"
    aged = letters_query(RECORDS, "bronze.api_logs", "gate", run).replace("now()", later)
    aged = aged.replace("'malformed_line'", "'older'")
    append_letters(connection, aged, run)
    (planned,) = maintain(dry_run=True)
    assert (planned.kind, planned.count) == ("letter_payloads", 3)
    assert maintain(dry_run=False) == [planned]
    assert sum(payload is not None for *_, payload in held(connection)) == 3
    assert [event for event, *_ in held(connection)].count("refused") == 6
