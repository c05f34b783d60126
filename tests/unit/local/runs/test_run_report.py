"""The report is readable without a terminal, and starts with the main facts."""

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest

from include.chimera.lake.staged.records import from_json
from include.chimera.lake.staged.reports import RunReport, WaitingRows
from include.chimera.local.layout import Layout
from include.chimera.local.runs import run_report
from include.chimera.local.runs.follow import HourResult, TaskFault
from include.chimera.local.runs.progress import Progress
from include.chimera.local.runs.timing import Stage
from include.chimera.local.servers.airflow_api import DagRunState, TaskState
from include.chimera.observe.terminal import make_console
from include.chimera.paths import PROJECT
from include.chimera.settings import get_settings
from include.chimera.window import HOUR, Run, Window, parse_hour

PIPELINE = {
    "run_id": "scheduled__x",
    "correlation_id": "0123456789ab",
    "window": ["2026-01-01T08:00:00+00:00", "2026-01-01T09:00:00+00:00"],
    "tables": [
        {
            "table": "bronze.api_logs",
            "rows_read": 10000,
            "rows_published": 9999,
            "rows_refused": 1,
            "rows_duplicate": 0,
            "rows_total": 9999,
            "version": 0,
        },
        {
            "table": "gold.fct_generations",
            "rows_read": None,
            "rows_published": None,
            "rows_refused": None,
            "rows_duplicate": None,
            "rows_total": 23323,
            "version": 7,
        },
    ],
    "gates": [
        {"table": "bronze.api_logs", "verdict": "passed", "rule_count": 9, "failed_rules": []},
        {
            "table": "gold.fct_generations",
            "verdict": "warned",
            "rule_count": 4,
            "failed_rules": [
                {"rule_id": "cost_present", "severity": "warning", "unexpected_count": 12},
                {"rule_id": "fresh", "severity": "warning", "unexpected_count": None},
            ],
        },
    ],
    "refusals": [{"source": "api_logs", "reason": "not JSON", "count": 1}],
    "held_back": [],
}
REPORT = from_json(RunReport, json.dumps(PIPELINE), "here")
HOUR_TOLD = run_report.HourReport(
    run_id="scheduled__x",
    correlation_id="0123456789ab",
    window=REPORT.window,
    state="success",
    seconds=83.4,
    most_at_once=6,
    stages=[Stage("extract", 5, 9, 12.3)],
    fault=None,
    tasks=[],
    pipeline=REPORT,
)


@pytest.fixture
def console():
    console = make_console(io.StringIO())
    console.width = 100
    return console


def shown(console):
    return console.file.getvalue()


def test_show_hour_tells_rows_gates_refusals_stages_and_ids(console):
    run_report.show_hour(console, HOUR_TOLD)
    text = shown(console)
    for part in (
        "2026-01-01 08:00 to 09:00 UTC: success",
        "scheduled__x",
        "0123456789ab",
        "9,999",
        "cost_present (warning): 12",
        "fresh (warning): ?",
        "not JSON",
        "12.3",
        "83.4",
    ):
        assert part in text
    extract = next(line for line in text.splitlines() if "extract" in line)
    assert [word for word in extract.split() if word[0].isalnum()] == ["extract", "5", "9", "12.3"]
    row = next(line for line in text.splitlines() if "bronze.api_logs" in line)
    assert row.split()[-2] == "0", "version 0 is shown, not dropped"


def test_show_hour_tells_what_open_transactions_hold_back(console):
    text = "736 committed rows of the window wait"
    held = WaitingRows("bronze.generations", 736, 1, "2026-01-01T08:00:00+00:00", text)
    run_report.show_hour(console, replace(HOUR_TOLD, pipeline=replace(REPORT, held_back=(held,))))
    assert "HELD BACK  bronze.generations: 736 committed rows of the window wait" in shown(console)


def test_show_hour_without_a_terminal_has_no_control_codes_and_fits(console):
    run_report.show_hour(console, HOUR_TOLD)
    assert "\x1b" not in shown(console)
    assert max(map(len, shown(console).splitlines())) <= 100


def test_show_hour_of_a_failed_run_names_task_error_and_log(console):
    fault = TaskFault("gate_x", "GateFailedError: [x]", Path("/l/a b.log"))
    run_report.show_hour(console, replace(HOUR_TOLD, state="failed", fault=fault, pipeline=None))
    for part in ("gate_x", "GateFailedError: [x]", "/l/a b.log"):
        assert part in shown(console)


def test_a_fault_obeys_no_terminal_code_of_its_text(console):
    fault = TaskFault("extract_x", "ValueError: a\x1b[2Jb\nNext: c", Path("/l"))
    run_report.show_fault(console, fault)
    assert "a\\u001b[2Jb\nNext: c" in shown(console)


def test_pipeline_report_is_found_by_the_runs_folder(tmp_path):
    run = Run("scheduled__x", Window(parse_hour("20260101T08"), parse_hour("20260101T08") + HOUR))
    assert run_report.read_pipeline_report(str(tmp_path), run) is None
    folder = tmp_path / "_runs" / run.folder
    folder.mkdir(parents=True)
    (folder / "report.json").write_text(json.dumps(PIPELINE))
    assert run_report.read_pipeline_report(str(tmp_path), run) == REPORT


@pytest.mark.parametrize("state", ["success", "failed", "upstream_failed", None])
def test_a_runs_report_is_shown_only_where_this_attempt_wrote_it(tmp_path, state):
    """A run that is cleared and fails keeps its folder, with an earlier attempt's report."""
    hour = Window.of_hour(parse_hour("20260101T08"))
    folder = tmp_path / "_runs" / Run("r", hour).folder
    folder.mkdir(parents=True)
    (folder / "report.json").write_text(json.dumps(PIPELINE))
    moment = hour.end
    run = DagRunState("r", "scheduled", "failed", moment, moment, moment, moment, moment)
    task = TaskState("report_run", -1, state, 1, moment, moment, moment)
    fault = TaskFault("report_run", "no", Path("/l"))
    told = run_report.describe_hour(HourResult(hour, run, [task], moment), str(tmp_path), fault)
    costs = run_report.Costs(1.5, {}, 7, "resident", 3)
    (told,) = json.loads(run_report.CommandReport("d", "/lake", [told], costs).to_json())["hours"]
    assert told["pipeline"] == (PIPELINE if state == "success" else None)
    assert told["window"] == ["2026-01-01T08:00:00+00:00", "2026-01-01T09:00:00+00:00"]
    assert told["fault"] == {"task_id": "report_run", "error": "no", "log": "/l"}
    assert told["tasks"][0]["end_at"] == "2026-01-01T09:00:00+00:00"


def test_costs_name_the_phases_and_how_memory_was_counted(console):
    phases = {"servers and sample data": 31.4, "the hour": 60.1}
    costs = run_report.Costs(95.2, phases, 3 << 30, "proportional set size", 40)
    run_report.show_costs(console, costs)
    assert "95 s: servers and sample data 31 s, the hour 60 s" in shown(console)
    assert "3,072 MiB of all 40 processes together (proportional set size)" in shown(console)


def test_places_name_commands_that_exist(console):
    run_report.show_places(console, Layout(Path("/s")), "/s/lake")
    targets = (PROJECT / "Makefile").read_text()
    for line in shown(console).splitlines():
        for target in ("make up", "make clean"):
            if target in line:
                assert f"\n{target.split()[1]}:" in targets


def test_places_name_the_pages_that_were_written(console, tmp_path, monkeypatch):
    monkeypatch.setenv("CHIMERA_STATE_DIR", str(tmp_path))
    get_settings.cache_clear()
    page = tmp_path / "reports" / "insight.html"
    page.parent.mkdir()
    page.touch()
    run_report.show_places(console, Layout(tmp_path), "/s/lake")
    get_settings.cache_clear()
    assert f"cost and safety      {page}" in shown(console)
    assert "quality.html" not in shown(console)


def test_progress_without_a_terminal_writes_plain_lines():
    console = make_console(io.StringIO())
    with Progress(console) as progress:
        progress.say("one [bold]line[/bold]")
    assert shown(console) == "[00:00] one [bold]line[/bold]\n"


def test_console_of_a_pipe_has_a_fixed_width(capsys):
    make_console().print("x" * 180)
    assert len(capsys.readouterr().out.splitlines()[0]) == 120
