"""Dead letters come back through their gate, and deletions arrive as versions."""

import json
import os
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from include.chimera.cli.app import app
from include.chimera.errors import ConfigurationError, ShrinkError, TerminalError
from include.chimera.lake.dead_letters.erasure import about, erase
from include.chimera.lake.dead_letters.letters import append_letters, letter_states, letters_query
from include.chimera.lake.ops_tables.ledger import close_run
from include.chimera.lake.store.duckdb_sessions import connect
from include.chimera.lake.upkeep.optimization import maintain
from include.chimera.operations import replay as replays
from include.chimera.operations.gaps import Gap, backfills, find_gaps
from include.chimera.profiles.chosen import intake_of
from include.chimera.settings import get_settings
from include.chimera.sources.api_logs.extract import extract_api_logs
from include.chimera.sources.api_logs.log_files import log_root
from include.chimera.sources.postgres.deletions import extract_deletions
from include.chimera.window import Window
from tests.integration.ingest import process
from tests.integration.ingest.pipeline import (
    GENERATION,
    START,
    at,
    current,
    hour,
    ingest,
    insert,
    key,
    publish,
    rows,
    run_of,
)

pytestmark = pytest.mark.integration
LOGS = "bronze.api_logs"
SUBJECT = "user-to-be-forgotten"


def refuse(source, stage, payload, coordinates="{}"):
    """Append a letter as if refused by another rule or parser."""
    record = (
        f"select 'old_rule' as reason, '{coordinates}' as coordinates, "
        f"encode('{payload}') as payload, '20260105T08' as _window_hour"
    )
    with connect() as connection:
        append_letters(connection, letters_query(record, source, stage, run_of(0)), run_of(0))


def states():
    with connect() as connection:
        return connection.execute(
            f"select state, attempts, last_reason from ({letter_states()}) order by all"
        ).fetchall()


def row(number, **changes):
    moment = START.isoformat()
    return json.dumps(
        {
            "generation_id": key(number),
            "created_at": moment,
            "updated_at": moment,
            "status": "succeeded",
            "cost_usd": 1.123456789,
            **changes,
        }
    )


def test_a_letter_whose_rule_was_mended_is_published_once(server, uri):
    """The replayed row is the very row that the source would give."""
    refuse(GENERATION, "gate", row(1, cost_usd=0.5))
    (done,) = replays.replay()
    assert (done.letters, done.published, done.parked) == (1, 1, 0)
    assert states() == [("published", 1, "")]
    insert(server, 1, at(0))
    assert ingest(uri, run_of(0)).rows_published == 0
    assert replays.replay() == []
    assert len(rows()) == 1


PLACE = json.dumps({"file": "api.jsonl", "offset": 0, "bytes": 9})


def test_the_report_counts_refusals_of_other_hours_and_of_none(server, uri):
    """A run reads behind its window, and rows without a time belong to no hour at all."""
    insert(server, 1, at(0))
    insert(server, 2, "'infinity'", created=at(0))
    insert(server, 3, at(0), created=at(-20), status="unknown")
    ingest(uri, run_of(0))
    found = close_run(run_of(0)).refusals
    assert {(one.reason, one.count) for one in found} == {
        ("updated_at_out_of_range", 1),
        ("in_set_status", 1),
    }


def test_a_line_that_a_newer_parser_reads_joins_its_hour():
    place = json.dumps({"file": "dt=2026-01-05/hour=08/api.jsonl", "offset": 7, "bytes": 9})
    refuse(LOGS, "extract", '{"timestamp": "2026-01-05T08:30:00Z", "level": "info"}', place)
    (done,) = replays.replay(LOGS)
    assert done.published == 1
    assert rows(LOGS, "_file, _offset") == [("dt=2026-01-05/hour=08/api.jsonl", 7)]


def test_a_replayed_line_stays_when_its_hour_is_read_anew(tmp_path):
    """Its file is far from its hour: no run but the replay finds it there."""
    write_log(tmp_path, 8, ("2026-01-05T08:00:00Z", "near"))
    write_log(tmp_path, 11, ("2026-01-05T08:30:00Z", "far"))
    for number in (0, 3):
        read_logs(tmp_path, number)
    replays.replay(LOGS)
    assert rows(LOGS, "message") == [("far",), ("near",)]
    write_log(tmp_path, 8, ("2026-01-05T08:00:00Z", "near"), ("2026-01-05T08:59:00Z", "late"))
    read_logs(tmp_path, 0)
    assert rows(LOGS, "message") == [("far",), ("late",), ("near",)]


def test_a_replay_keeps_no_reading_of_its_hour_out(tmp_path):
    """An hour was read, a replay adds a line to it, and only then the hour's gate publishes."""
    write_log(tmp_path, 8, ("2026-01-05T08:00:00Z", "near"))
    write_log(tmp_path, 11, ("2026-01-05T08:30:00Z", "far"))
    read_logs(tmp_path, 3)
    run = run_of(0, "run 0", moves_watermark=False)
    staged = extract_api_logs(log_root(str(tmp_path)), run)
    replays.replay(LOGS)
    publish(run, LOGS, staged)
    assert rows(LOGS, "message") == [("far",), ("near",)]


def test_a_replayed_line_stays_though_its_replay_could_not_say_so(tmp_path, monkeypatch):
    """It died between its commit and the letter's."""
    write_log(tmp_path, 8, ("2026-01-05T08:00:00Z", "near"))
    write_log(tmp_path, 11, ("2026-01-05T08:30:00Z", "far"))
    read_logs(tmp_path, 3)
    with monkeypatch.context() as patch:
        patch.setattr(replays, "fault_point", dying_at("replay.published"))
        with pytest.raises(KeyboardInterrupt):
            replays.replay(LOGS)
    read_logs(tmp_path, 0)
    assert rows(LOGS, "message") == [("far",), ("near",)]
    replays.replay(LOGS)
    assert rows(LOGS, "message") == [("far",), ("near",)]


def dying_at(point):
    def die(reached):
        if reached == point:
            raise KeyboardInterrupt

    return die


def write_log(root, hour, *lines):
    file = root / "dt=2026-01-05" / f"hour={hour:02}" / "api.jsonl"
    file.parent.mkdir(parents=True, exist_ok=True)
    texts = (json.dumps({"timestamp": at, "message": text}) for at, text in lines)
    file.write_text("".join(f"{text}\n" for text in texts))


def read_logs(root, number):
    run = run_of(number, f"run {number}", moves_watermark=False)
    publish(run, LOGS, extract_api_logs(log_root(str(root)), run))


def test_a_letter_that_holds_no_record_waits_and_stops_no_other():
    """An invalid series, and a letter that counts the records that were not kept."""
    metric = json.dumps({"series": {"metric": {"provider": "p"}, "le": 1}})
    refuse("bronze.provider_metrics", "extract", metric, '{"query": "q", "series": 0}')
    counted = {"file": "api.jsonl", "offset": 0, "records": 9}
    refuse(LOGS, "extract", "", json.dumps(counted))
    assert [(done.letters, done.published) for done in replays.replay()] == [(1, 0), (1, 0)]


DEEP = '{"series": ' + "[" * 3_000 + "]" * 3_000 + "}"
BAD = {
    "a number that is none": (GENERATION, "extract", row(1, cost_usd="NaN"), "{}"),
    "a number beyond the column": (GENERATION, "extract", row(1, cost_usd="1e30"), "{}"),
    "a number too fine": (GENERATION, "extract", row(1, cost_usd="1e-10"), "{}"),
    "a list for a text": (GENERATION, "gate", row(1, status=["succeeded"]), "{}"),
    "nested too deep": ("bronze.provider_metrics", "extract", DEEP, '{"query": "q"}'),
    **{
        year: (LOGS, "extract", f'{{"timestamp": "{year}-12-31T23:30:00Z"}}', PLACE)
        for year in ("0001", "9999")
    },
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
def test_a_letter_that_fits_no_table_or_calendar_stops_no_other(bad):
    """Its attempt counts, and its table's other letters, before and after it, are published."""
    refuse(*bad)
    refuse(GENERATION, "gate", row(2, cost_usd=0.5))
    place = json.dumps({"file": "dt=2026-01-05/hour=08/api.jsonl", "offset": 7, "bytes": 9})
    refuse(LOGS, "extract", '{"timestamp": "2026-01-05T08:30:00Z", "level": "info"}', place)
    done = replays.replay()
    assert sum(one.letters for one in done) == 3
    waiting = [state for state in states() if state[0] == "waiting"]
    assert waiting in ([], [("waiting", 1, "payload_not_readable")])
    assert sum(one.published for one in done) == 3 - len(waiting)


def test_a_letter_that_fails_three_times_is_parked():
    refuse(GENERATION, "gate", row(1, status="no such status"))
    refuse(LOGS, "extract", "still no json", coordinates='{"file": "api.jsonl", "offset": 0}')
    for _ in range(3):
        assert sum(done.published for done in replays.replay()) == 0
    assert states() == [
        ("parked", 3, "in_set_status"),
        ("parked", 3, "payload_not_readable"),
    ]
    assert replays.replay() == []


def test_parking_by_hand_needs_a_waiting_letter_and_quotes_are_harmless():
    refuse(GENERATION, "gate", row(1))
    with pytest.raises(ConfigurationError):
        replays.park("' or '1'='1", "because")
    assert replays.replay(letter_ids=["' or '1'='1"]) == []
    with connect() as connection:
        ((letter,),) = connection.execute(f"select letter_id from ({letter_states()})").fetchall()
    replays.park(letter, "it's mine; drop table")
    assert states() == [("parked", 0, "it's mine; drop table")]


def test_a_deleted_row_is_gone_in_any_order_and_may_come_back(server, uri):
    for number in range(3):
        insert(server, number, at(0, number))
    ingest(uri, run_of(0))
    server.execute(f"delete from app.generations where generation_id = '{key(1)}'")
    for attempt in range(2):
        run = run_of(30, f"reconcile {attempt}")
        extract_deletions(intake_of(GENERATION), uri, run)
        assert publish(run).rows_published == 1 - attempt
    assert [found[0] for found in current()] == [key(0), key(2)]
    ingest(uri, run_of(0, "backfill", moves_watermark=False))
    assert len(current()) == 2
    insert(server, 1, at(31))
    ingest(uri, run_of(31, moves_watermark=False))
    assert len(current()) == 3


def test_a_source_that_lost_most_of_its_rows_is_refused(server, uri):
    server.execute(
        f"insert into app.generations (generation_id, created_at, updated_at, status) "
        f"select gen_random_uuid(), {at(0)}, {at(0)}, 'succeeded' "
        "from generate_series(1, 1500)"
    )
    ingest(uri, run_of(0))
    server.execute("truncate app.generations")
    with pytest.raises(ShrinkError, match="1500 gone"):
        extract_deletions(intake_of(GENERATION), uri, run_of(30))
    assert len(current()) == 1500


def test_gaps_are_named_with_the_command_that_fills_them(server, uri):
    insert(server, 1, at(0))
    for number in (0, 3):
        process.whole_hour(uri, number, f"run {number}")
    found = [gap for gap in find_gaps(Window(START, hour(4).end)) if gap.table == GENERATION]
    assert [(gap.window.start, gap.window.end) for gap in found] == [
        (hour(1).start, hour(2).end),
        (hour(4).start, hour(4).end),
    ]
    commands = backfills(found)
    assert len(commands) == 2
    assert "--from-date 2026-01-05T09:00:00+00:00 --to-date 2026-01-05T10:00:00" in commands[0]
    wider = backfills([*found, Gap("another", found[0].window.widened(1))])
    assert len(wider) == 2
    assert "--from-date 2026-01-05T08:00:00+00:00 --to-date 2026-01-05T10:00:00" in wider[0]


def test_gaps_begin_with_the_first_hour_that_was_due(server, uri, monkeypatch):
    """Don't ask a first run to backfill the months before it; show the end's day if it differs."""

    def ask(*words):
        done = CliRunner().invoke(app, ["gaps", *words])
        return done.exit_code, done.output.splitlines()

    assert isinstance(CliRunner().invoke(app, ["gaps"]).exception, TerminalError)
    insert(server, 1, at(0))
    process.whole_hour(uri, -5000, "manual__long_ago")
    process.whole_hour(uri, 0, "scheduled__first")
    end = hour(23).end.isoformat()
    code, lines = ask("--end", end)
    assert code == 1
    shown = [line for line in lines if line.startswith(f"{GENERATION}:")]
    assert shown == [f"{GENERATION}: 2026-01-05 09:00 to 2026-01-06 08:00 UTC"]
    assert sum(line.startswith("airflow backfill create") for line in lines) == 1
    before = hour(-1).start
    asked = ask("--start", before.isoformat(), "--end", end)[1]
    assert f"{GENERATION}: 2026-01-05 07:00 to 08:00 UTC" in asked
    monkeypatch.setenv("CHIMERA_START_DATE", before.isoformat())
    get_settings.cache_clear()
    assert ask("--end", end)[1] == asked


@pytest.mark.usefixtures("damaged")  # by the vacuum
def test_an_erased_record_is_nowhere_once_the_files_that_held_it_have_aged(server, uri, lake):
    """Until then it is in unreferenced files, and in its run's staged files."""
    for number in range(3):
        insert(server, number, at(0, number))
    server.execute("update app.generations set user_id = 'someone'")
    insert(server, 3, at(0, 3), status="unknown")
    server.execute(f"update app.generations set user_id = '{SUBJECT}' where status = 'unknown'")
    ingest(uri, run_of(0))
    assert erase(about(SUBJECT), "request 7", "tester") == 1
    maintain(dry_run=False)
    assert {place.parts[0] for place in holding(lake, SUBJECT)} == {"_runs", "ops"}
    age(lake, days=8)
    maintain(dry_run=False)
    assert holding(lake, SUBJECT) == []
    assert len(current()) == 3
    assert [state for state, *_ in states()] == ["parked"]


def holding(lake, text):
    """Return the files below the lake's root that contain a text, compressed or not."""
    root, found = lake / "lake", []
    with connect() as connection:
        for place in filter(Path.is_file, sorted(root.rglob("*"))):
            content = place.read_bytes()
            if place.suffix == ".parquet":
                content = str(connection.execute(f"from read_parquet('{place}')").fetchall())
                content = content.encode()
            if text.encode() in content:
                found.append(place.relative_to(root))
    return found


def age(lake, days):
    """Backdate files, and the removals in the logs."""
    shift = days * 24 * 3600
    for place in filter(Path.is_file, (lake / "lake").rglob("*")):
        if place.parent.name == "_delta_log" and place.suffix == ".json":
            text = re.sub(
                r'("deletionTimestamp":)(\d+)',
                lambda match: f"{match[1]}{int(match[2]) - shift * 1000}",
                place.read_text(),
            )
            place.write_text(text)
        moment = place.stat().st_mtime - shift
        os.utime(place, (moment, moment))
