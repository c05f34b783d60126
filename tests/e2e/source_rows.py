"""What the gold tables should hold: the sample application's rows."""

import psycopg

from include.chimera.lake.delta.scans import scan
from include.chimera.lake.delta.tables import open_table
from include.chimera.lake.store.duckdb_sessions import connect
from include.chimera.sources.api_logs.extract import parse_line
from tests.e2e.letters import lake_of


def differences(duty, window=None):
    """Compare each table's current rows with the source's; return the names that differ.

    Args:
        duty: The stack.
        window: The hours that have been processed; default: all that the source has.
    """
    processed = ""
    if window:
        start, end = window.start.isoformat(), window.end.isoformat()
        processed = f" and updated_at >= '{start}' and updated_at < '{end}'"
    found = {}
    with (
        lake_of(duty.settings.state_dir),
        psycopg.connect(duty.stack.app_db_uri) as database,
        connect() as connection,
    ):
        for entity, columns in (
            ("generations", "generation_id::text, status, latency_ms"),
            ("evaluations", "evaluation_id::text, status, successes"),
        ):
            good = f" where status <> 'refunded'{processed}"
            source = set(database.execute(f"select {columns} from app.{entity}{good}").fetchall())
            for name in (f"silver.stg_app__{entity}", f"gold.fct_{entity}"):
                shown = columns.replace("::text", "").replace("successes", "success_count")
                table = scan(open_table(name), name)
                rows = set(connection.execute(f"select {shown} from ({table})").fetchall())
                found[name] = len(source ^ rows)
        lines = good_lines(duty.stack.layout.root / "sources" / "api_logs", window)
        name = "gold.fct_api_requests"
        (count,) = connection.execute(
            f"select count(*) from ({scan(open_table(name), name)})"
        ).fetchone()
        found[name] = abs(lines - count)
    return {name: count for name, count in found.items() if count}


def good_lines(root, window=None):
    """Count the lines of the API's log that the contract takes: all, or those up to a window's end.

    Lines may be late, so a window's stand in the next hour's file as well.
    """
    lines = (line for path in root.rglob("*.jsonl") for line in path.read_bytes().splitlines())
    good = [parsed for line in lines if (parsed := parse_line(line))]
    return len(good) if window is None else sum(each.timestamp < window.end for each in good)
