"""Log lines from files to the table: successive runs deliver each line once."""

import json
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from include.chimera.lake.dead_letters.letters import append_letters, letters_query
from include.chimera.lake.delta.scans import scan
from include.chimera.lake.delta.tables import open_table
from include.chimera.lake.publish.bronze_publisher import Publication, Publisher
from include.chimera.lake.store.duckdb_sessions import connect
from include.chimera.sources.api_logs.extract import extract_api_logs
from include.chimera.sources.api_logs.log_files import log_root
from include.chimera.window import HOUR as ONE_HOUR
from tests.builders import HOUR, run_of, staged_refusals, staged_rows

pytestmark = pytest.mark.integration

TABLE, LETTERS = "bronze.api_logs", "ops.dead_letters"


def log(root: Path, hour: datetime, *texts: str) -> None:
    """Append lines to the file of an hour."""
    folder = root / f"dt={hour:%Y-%m-%d}" / f"hour={hour:%H}"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "api.jsonl").open("a") as file:
        file.writelines(f"{text}\n" for text in texts)


def line(moment: datetime, path: str) -> str:
    """Return a line."""
    return json.dumps({"timestamp": moment.isoformat(), "path": path})


def deliver(root: Path, hour: datetime) -> Publication:
    """Extract and publish an hour, as if all its lines had passed the gate."""
    run = run_of(hour)
    batch = extract_api_logs(log_root(str(root)), run)
    with connect() as connection:
        letters = letters_query(staged_refusals(run, TABLE), TABLE, "extract", run)
        append_letters(connection, letters, run)
        return Publisher(connection, batch, staged_rows(run, TABLE), run).publish(
            batch.rows_unparsed
        )


def live(table: str, columns: str) -> list[tuple]:
    """Return columns of a table."""
    with connect() as connection:
        rows = scan(open_table(table), table)
        return sorted(connection.execute(f"select {columns} from ({rows})").fetchall())


@pytest.mark.usefixtures("lake")
def test_late_lines_and_bad_ones_are_delivered_once(tmp_path: Path) -> None:
    """Hour h, then h+1 with a line of h and one of h+2, then h+2, then h+1 again."""
    root = tmp_path / "logs"
    later, last = HOUR + ONE_HOUR, HOUR + 2 * ONE_HOUR
    log(root, HOUR, line(HOUR, "/a"), "no json")
    assert deliver(root, HOUR).rows_published == 1
    late = line(later - timedelta(seconds=1), "/late")
    log(root, later, late, line(later, "/b"), line(last, "/early"))
    assert deliver(root, later).rows_published == 2  # the late line's hour is made again
    log(root, last, line(last, "/c"), "no json either")
    deliver(root, last)
    assert deliver(root, later).rows_published == 0
    assert live(TABLE, "path, _window_hour") == [
        ("/a", "20260101T05"),
        ("/b", "20260101T06"),
        ("/c", "20260101T07"),
        ("/early", "20260101T07"),
        ("/late", "20260101T05"),
    ]
    assert live(LETTERS, "reason, _window_hour") == [
        ("malformed_line", "20260101T05"),
        ("malformed_line", "20260101T07"),
    ]
