"""A row is traced to the commit that wrote it, wherever upkeep has moved it since."""

import json
from datetime import datetime, timedelta

import pytest
from typer.testing import CliRunner

from include.chimera.cli.app import app
from include.chimera.errors import TerminalError
from include.chimera.lake.delta.tables import open_table
from include.chimera.operations.trace import trace
from tests.integration.ingest.pipeline import GENERATION, at, ingest, insert, key, rows, run_of

pytestmark = pytest.mark.integration


def origin(number, **options):
    (found,) = trace(GENERATION, f"generation_id = '{key(number)}'", **options)
    return found


@pytest.fixture
def two_runs(server, uri):
    """Publish two rows of one hour by two runs; return their versions."""
    insert(server, 1, at(0))
    first = ingest(uri, run_of(0))
    insert(server, 2, at(0, 1))
    second = ingest(uri, run_of(0, "again", moves_watermark=False))
    return first.version, second.version


def test_each_row_has_the_run_and_version_that_wrote_it(two_runs):
    first, second = origin(1), origin(2)
    assert (first.version, second.version) == two_runs
    assert first.commit["run_id"] == "scheduled__0"
    assert second.commit["run_id"] == "again"
    assert second.commit["correlation_id"] == run_of(0, "again").correlation_id
    assert first.key == {"generation_id": key(1)}
    assert first.commit["window"] == "/".join(
        moment.isoformat() for moment in (run_of(0).window.start, run_of(0).window.end)
    )


def test_the_log_lines_are_those_of_the_attempt_that_committed(server, uri, configure, tmp_path):
    """A cleared run keeps its id and adds attempts: its newest lines are from another attempt."""
    configure(task_logs_root=tmp_path / "logs")
    insert(server, 1, at(0))
    ingest(uri, run_of(0))
    committed = datetime.fromisoformat(origin(1).commit["committed_at"])
    folder = tmp_path / "logs" / "run_id=scheduled__0" / "task_id=gate_bronze_generations"
    folder.mkdir(parents=True)
    for attempt, minutes in ((1, -9), (2, -1), (3, 60)):
        line = {
            "timestamp": (committed + timedelta(minutes=minutes)).isoformat(),
            "logger": "include.chimera.x",
            "event": f"of attempt {attempt}",
        }
        (folder / f"attempt={attempt}.log").write_text(json.dumps(line))
    where = f"generation_id = '{key(1)}'"
    shown = CliRunner().invoke(app, ["trace", GENERATION, "--where", where]).output
    assert "of attempt 2" in shown
    assert shown.count("of attempt") == 1


def test_compaction_does_not_hide_who_wrote_a_row(two_runs):
    before = origin(1), origin(2)
    table = open_table(GENERATION)
    assert table.optimize.compact()["numFilesAdded"] == 1
    assert open_table(GENERATION).version() > max(two_runs)
    assert len(rows()) == 2
    assert (origin(1), origin(2)) == before


def test_condition_that_finds_nothing_and_one_that_makes_no_sense(two_runs):
    del two_runs
    assert trace(GENERATION, "status = 'no such'") == []
    told = CliRunner().invoke(app, ["trace", GENERATION, "--where", "status = 'no such'"])
    assert (told.exit_code, told.stdout) == (1, "")
    assert "no row" in told.stderr
    for where in ("no_such_column = 1", "status = ", "1; drop table x"):
        with pytest.raises(TerminalError, match="generation_id"):
            trace(GENERATION, where)
    with pytest.raises(TerminalError, match=r"gold\.nothing"):
        trace("gold.nothing", "true")
