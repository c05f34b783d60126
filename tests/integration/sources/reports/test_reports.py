"""A report is published whole, once, by its content; written again, it replaces its own rows."""

import gzip
import json
import os
import time
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import duckdb
import pytest

from include.chimera.lake.dead_letters.letters import letter_states
from include.chimera.lake.delta.scans import scan
from include.chimera.lake.delta.tables import open_table
from include.chimera.lake.store.duckdb_sessions import connect
from include.chimera.sources.reports import extract
from include.chimera.sources.reports.evaluations import Evaluation, RefusedRecord, ReportOrigin
from include.chimera.sources.reports.extract import PURPOSE, extract_reports
from include.chimera.sources.reports.formats import read_report
from include.chimera.window import HOUR, Run, Window, floor_hour
from tests.builders import staged_refusals, staged_rows
from tests.integration.ingest.pipeline import publish
from tests.integration.log_places import Bucket
from tests.reading import END, GARAK, avid_report, garak_eval, lines

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("lake")]
TABLE = "bronze.evaluations"
NOW = floor_hour(datetime.now(UTC))


def run_of(hours=0, name=None, *, moves_watermark=True):
    """Return the run of the hour that is now, or of one so many hours later."""
    window = Window.of_hour(NOW + hours * HOUR)
    return Run(name or f"scheduled__{window.start.isoformat()}", window, moves_watermark)


class Reports:
    """A folder or bucket of reports, read and published by one run after another."""

    def __init__(self, place):
        self.place, self.runs = place, 0

    def __setitem__(self, name, content):
        self.place.put(name, content)

    def read(self, run=None):
        """Stage what is due; return the rows and the refusals' reasons by file."""
        if isinstance(self.place, Bucket):  # whose times are whole seconds
            time.sleep(1)
        self.runs += 1
        run = run or run_of(1, f"manual__{self.runs}")
        extract_reports(self.place.root_of(PURPOSE), run, ZoneInfo("UTC"))
        found = duckdb.execute(staged_rows(run, TABLE)).fetchall()
        refused = duckdb.execute(
            f"select coordinates, reason from ({staged_refusals(run, TABLE)}) order by all"
        ).fetchall()
        publish(run, TABLE)
        return len(found), {json.loads(where)["file"]: reason for where, reason in refused}


@pytest.fixture
def reports(logs):
    """Return an empty place for reports."""
    return Reports(logs)


def versions():
    """Return judge, passes and whether it is deleted of each version in bronze, oldest first."""
    return query("select judge, passes, _is_deleted from {} order by updated_at, judge")


def live():
    """Return judge and passes of the newest versions that are not deleted."""
    return query(
        "select judge, passes from (from {} qualify row_number() over (partition by evaluation_id "
        "order by updated_at desc, _row_hash desc) = 1) where not _is_deleted order by judge"
    )


def query(text):
    with connect() as connection:
        rows = scan(open_table(TABLE), TABLE)
        return connection.execute(text.format(f"({rows})")).fetchall()


def garak(*evals, run="run-1", is_ended=True):
    """Return a report with these judges, each of which passed some of ten."""
    entries = [
        garak_eval(detector=judge, passed=passed, fails=10 - passed) for judge, passed in evals
    ]
    begin = [GARAK[0], {**GARAK[1], "run": run}]
    return lines([*begin, *entries, *([END] if is_ended else [])])


def test_a_report_is_published_once(reports):
    """A second run stages nothing, nor does one of a past hour."""
    reports["a/b/r.report.jsonl"] = garak(("d1", 7), ("d2", 10))
    assert reports.read() == (2, {})
    assert reports.read() == (0, {})
    assert reports.read(run_of(1, "backfill__1", moves_watermark=False)) == (0, {})
    assert versions() == [("d1", 7, False), ("d2", 10, False)]


def letters():
    """Return each dead letter's file, reason and state, in the order in which they were written."""
    with connect() as connection:
        return connection.execute(
            "select coordinates ->> '$.file', reason, state from "
            f"({letter_states()}) order by recorded_at"
        ).fetchall()


def test_an_unfinished_run_is_told_until_it_ends(reports):
    """One letter waits, however often the file grows; when it is counted, none does."""
    reports["r.report.jsonl"] = garak(("d1", 7), is_ended=False)
    assert reports.read() == (0, {"r.report.jsonl": "unfinished_run"})
    assert letters() == [("r.report.jsonl", "unfinished_run", "waiting")]
    reports["r.report.jsonl"] = garak(("d1", 7), ("d2", 9), is_ended=False)
    assert reports.read() == (0, {"r.report.jsonl": "unfinished_run"})
    assert [state for *_, state in letters()] == ["parked", "waiting"]
    reports["r.report.jsonl"] = garak(("d1", 7), ("d2", 9))
    assert reports.read() == (2, {})
    assert [state for *_, state in letters()] == ["parked", "published"]
    assert live() == [("d1", 7), ("d2", 9)]


def test_a_letter_waits_while_its_file_is_worse_than_what_is_published(reports):
    """A published report is being written again: its letter is closed by its end alone."""
    reports["r.report.jsonl"] = garak(("d1", 7))
    reports["s.report.jsonl"] = b"a text"
    reports.read()
    reports["r.report.jsonl"] = garak(is_ended=False)
    reports.read()
    assert [state for *_, state in letters()] == ["waiting", "waiting"]
    reports["r.report.jsonl"] = garak(("d1", 8))
    reports.read()
    assert letters() == [
        ("s.report.jsonl", "unknown_format", "waiting"),
        ("r.report.jsonl", "unfinished_run", "published"),
    ]


def test_what_was_refused_is_read_again_only_when_it_was_written_again(reports, monkeypatch):
    """Neither foreign files, nor damaged ones, nor reports in which nothing was evaluated."""
    reports["a.json"] = b'{"half": '
    reports["b.jsonl.gz"] = b"no gzip"
    reports["c.report.jsonl"] = garak(is_ended=False)
    reports["d.report.jsonl"] = garak()
    assert reports.read()[1] == {
        "a.json": "malformed_report",
        "b.jsonl": "damaged_gzip",
        "c.report.jsonl": "unfinished_run",
        "d.report.jsonl": "no_evaluations",
    }
    opened = []
    copy = extract.local_copy
    monkeypatch.setattr(extract, "local_copy", lambda file: opened.append(file.name) or copy(file))
    assert reports.read() == (0, {})
    assert opened == []
    reports["a.json"] = b'{"half": 1'
    assert reports.read()[1] == {"a.json": "malformed_report"}
    assert opened == ["a.json"]


@pytest.mark.parametrize("logs", ["folder"], indirect=True)
def test_the_hour_of_a_run_stays_when_its_end_moves(reports):
    """Models would count it in both hours; nor does AVID's date, which has no time, move it."""
    run_id = "6e65190c-3f1f-4d89-8576-b5e8e1ecccb6"
    reports["r.report.jsonl"] = garak(("d1", 7), run=run_id)
    reports.read()
    end = {**END, "end_time": "2026-02-03T01:00:00"}
    again = garak(("d1", 8), ("d2", 9), run=run_id, is_ended=False) + lines([end])
    reports["r.report.jsonl"] = again
    reports.read()
    row = {"detector": "d1", "passed": 9, "total_evaluated": 10, "score": 90.0}
    reports[f"garak.{run_id}.avid.jsonl"] = lines([avid_report([row])])
    reports.read()
    assert query(
        "select judge, passes, created_at::varchar from {} order by updated_at, judge"
    ) == [
        ("d1", 7, "2026-02-01 10:26:00+00"),
        ("d1", 8, "2026-02-01 10:26:00+00"),
        ("d2", 9, "2026-02-03 01:00:00+00"),
        ("d1", 9, "2026-02-01 10:26:00+00"),
    ]


def test_a_report_that_is_written_again_replaces_its_own_rows(reports):
    """A row changes, one vanishes, one is new; another file's rows stay."""
    reports["r.report.jsonl"] = garak(("d1", 7), ("d2", 10))
    reports["s.report.jsonl"] = garak(("d9", 1), run="run-9")
    reports.read()
    reports["r.report.jsonl"] = garak(("d1", 8), ("d3", 3))
    assert reports.read() == (3, {})
    assert live() == [("d1", 8), ("d3", 3), ("d9", 1)]
    assert reports.read() == (0, {})
    reports["r.report.jsonl"] = garak(("d1", 7), ("d2", 10))
    reports.read()
    assert live() == [("d1", 7), ("d2", 10), ("d9", 1)]


def test_a_report_that_is_being_written_again_keeps_its_rows(reports):
    """Until the new run has ended."""
    reports["r.report.jsonl"] = garak(("d1", 7))
    reports.read()
    reports["r.report.jsonl"] = garak(is_ended=False)
    reports.read()
    assert live() == [("d1", 7)]


def test_a_report_that_is_only_touched_is_published_no_second_time(reports):
    """Its content counts, not its time."""
    for _ in range(2):
        reports["r.report.jsonl"] = garak(("d1", 7))
        reports.read()
    assert versions() == [("d1", 7, False)]


def test_a_report_that_vanishes_leaves_its_rows(reports):
    """What was measured stays measured; moved, it is the same run."""
    reports["r.report.jsonl"] = garak(("d1", 7))
    reports.read()
    reports.place.rename("r.report.jsonl", "moved.report.jsonl")
    reports.read()
    assert live() == [("d1", 7)]


def test_a_run_in_two_files_counts_once(reports):
    """A copy beside the report, packed or not, doubles nothing."""
    reports["r.report.jsonl"] = garak(("d1", 7))
    reports["copy/r.report.jsonl.gz"] = gzip.compress(garak(("d1", 7)))
    reports.read()
    assert live() == [("d1", 7)]


def test_a_packed_report_is_the_same_report(reports):
    """Compressed between two runs, it is no new one."""
    reports["r.report.jsonl"] = garak(("d1", 7))
    reports.read()
    reports.place.delete("r.report.jsonl")
    reports["r.report.jsonl.gz"] = gzip.compress(garak(("d1", 7)))
    assert reports.read() == (0, {})


def test_a_bad_report_stops_no_other(reports):
    """Each is refused with its reason, once for each content."""
    reports["a.json"] = b'{"half": '
    reports["b.eval"] = b"PK\x03\x04"
    reports["c.jsonl.gz"] = b"no gzip"
    reports["notes.txt"] = b"a text"
    reports["r.report.jsonl"] = garak(("d1", 7), ("d2", 11))
    reports["x.hitlog.jsonl"] = b'{"prompt": "a text"}\n'
    expected = {
        "a.json": "malformed_report",
        "b.eval": "malformed_report",
        "c.jsonl": "damaged_gzip",
        "notes.txt": "unknown_format",
        "r.report.jsonl": "counts_contradict_each_other",
    }
    assert reports.read() == (1, expected)
    assert reports.read() == (0, {})
    assert live() == [("d1", 7)]


@pytest.mark.parametrize("logs", ["folder"], indirect=True)
def test_the_hour_in_which_a_report_was_written_takes_it_or_any_later_one(reports):
    """One that came late, with an old time, is found; one of the next hour waits."""

    def write(name, hours, run):
        reports[name] = garak(("d", 7), run=run)
        moment = (NOW + hours * HOUR + timedelta(minutes=5)).timestamp()
        os.utime(reports.place.path / name, (moment, moment))

    write("now.jsonl", 0, "1")
    write("next.jsonl", 1, "2")
    assert reports.read(run_of())[0] == 1
    write("late.jsonl", -400, "3")
    assert reports.read(run_of(1))[0] == 2
    assert reports.read(run_of(2))[0] == 0
    write("next.jsonl", -300, "4")  # an older copy was put back
    assert reports.read(run_of(2))[0] == 2
    assert reports.read(run_of(3))[0] == 0
    assert len(live()) == 3


def test_each_real_report_is_rows_or_a_letter(reports, traces_folder):
    """Of all four tools at once: what a file holds is what bronze has of it."""
    expected, told = {}, set()
    for path in sorted(
        path
        for tool in ("garak", "avid", "inspect", "promptfoo")
        for path in (traces_folder / tool).iterdir()
    ):
        if path.suffix in {".jsonl", ".json", ".eval", ".txt"} and path.name != "declared.json":
            name = f"{path.parent.name}/{path.name}"
            reports[name] = path.read_bytes()
            origin = ReportOrigin(name, datetime.now(UTC), ZoneInfo("UTC"))
            with path.open("rb") as file:
                found = list(read_report(file, origin))
            if found and isinstance(found[-1], Evaluation | RefusedRecord):
                expected |= {row.evaluation_id: row for row in found if isinstance(row, Evaluation)}
            else:
                told.add(name)
    rows, refused = reports.read()
    assert set(refused) == told
    assert len(told) == 7
    totals = "count(*), sum(iterations), sum(successes), sum(passes), sum(prompt_tokens)"
    (found,) = query(f"select {totals} from {{}} where not _is_deleted")
    # garak's test.report.jsonl and test-0.13.report.jsonl are one run: two versions of one row.
    assert rows == found[0] == len(expected) + 1
    sums = [
        sum(getattr(row, name) or 0 for row in expected.values())
        for name in ("iterations", "successes", "passes", "prompt_tokens")
    ]
    (found,) = query(
        "select sum(iterations), sum(successes), sum(passes), sum(prompt_tokens) from (from {} "
        "qualify row_number() over (partition by evaluation_id order by updated_at desc) = 1)"
    )
    assert list(found) == sums
    assert len(letters()) == len(told)
