"""Every real file that we have: which profile takes it, and that each record is a row or a letter.

Whether the rows say what the platform itself says is asked beside each reader: `sources/reports`,
`sources/otel`, `test_json_records.py`, `test_metrics.py`.
"""

import csv
import itertools
import json
import shutil
from collections import Counter
from datetime import UTC, datetime
from fnmatch import fnmatch
from typing import NamedTuple
from zoneinfo import ZoneInfo

import pytest

from include.chimera.profiles.chosen import intakes
from include.chimera.sources.json_records import extract as records
from include.chimera.sources.otel import extract as otel
from include.chimera.sources.reports import extract as reports
from include.chimera.sources.stored.stored_roots import stored_root
from include.chimera.window import HOUR, Run, Window, floor_hour
from tests.integration.ingest.pipeline import letters, publish, rows
from tests.integration.profiles.test_metrics import EXPOSITIONS

pytestmark = [pytest.mark.integration, pytest.mark.long]

FOLDERS = ("garak", "promptfoo", "inspect", "avid", "langfuse", "litellm", "otel-genai")
FOLDERS += ("prometheus-llm", "pyrit", "jailbreakbench")
ABOUT = ("LICENSE*", "SOURCES.csv", "declared.json", "columns.csv", "indexes.csv")
NOW = floor_hour(datetime.now(UTC))


class Taken(NamedTuple):
    """What becomes of a file: the profile, the rows of its tables, and why records are refused."""

    profile: str
    rows: int
    evaluations: int = 0
    refused: tuple[str, ...] = ()


def told(reason):
    """Return what becomes of a report of which nothing counts."""
    return Taken("reports", 0, refused=(reason,))


# The reports' rows are evaluations; the spans' and payloads' are calls.
TAKEN = {
    "garak/agg.report.jsonl": Taken("reports", 2),
    "garak/earlystop-0.14.1.report.jsonl": Taken("reports", 11),
    "garak/quack.report.jsonl": Taken("reports", 1),
    "garak/qual_review_mixed.report.jsonl": told("unfinished_run"),
    "garak/report_test.report.jsonl": Taken("reports", 1),
    "garak/resume_test_mixed.report.jsonl": told("unfinished_run"),
    "garak/test*.report.jsonl": Taken("reports", 1),
    "avid/garak.40e5*.jsonl": Taken("reports", 119),
    "avid/garak.505a*.jsonl": Taken("reports", 4),
    "avid/garak.6e65*.jsonl": Taken("reports", 119),
    "avid/inspect_eval_reports.jsonl": Taken("reports", 24),
    "promptfoo/nicheiq-results-v3.json": Taken("reports", 30),
    "promptfoo/node-package-output-v2.json": Taken("reports", 16),
    "promptfoo/sample-export.json": Taken("reports", 4),
    "promptfoo/v4evalToShare.json": Taken("reports", 8),
    "inspect/2024-08-29*": told("failed_run"),
    "inspect/2025-02-11T15-17*": Taken("reports", 10),
    "inspect/2025-02-11T15-18*": Taken("reports", 10),
    "inspect/2025-05-12*": told("cancelled_run"),
    "inspect/2025-09-23*": Taken("reports", 16),
    "inspect/2025-12-13*": Taken("reports", 5),
    "inspect/log_invalid.txt": told("malformed_report"),
    "inspect/log_message_deduplication.eval": Taken("reports", 1),
    "inspect/log_streaming.eval": Taken("reports", 4),
    "inspect/log_version_3.txt": told("unknown_version"),
    "inspect/log_with_nan.txt": Taken("reports", 1),
    "langfuse/autogen*": Taken("langfuse", 1),
    "langfuse/claude-agent*": Taken("langfuse", 4, 3),
    "langfuse/csharp*": Taken("langfuse", 3),
    "langfuse/langgraph*": Taken("langfuse", 2, 2),
    "langfuse/litellm-ingestion-*": Taken("langfuse", 1),
    "litellm/spend_logs_payload.json": Taken("litellm", 1),  # test_litellm.py puts it in a database
    "litellm/standard_logging_payload.json": Taken("litellm-payloads", 1),
    "otel-genai/langwatch-*": Taken("otel", 1),
    "otel-genai/openai-agents*": Taken("otel", 3),
    "otel-genai/openinference-spans/*": Taken("otel", 0, refused=("span_without_time",)),
    "otel-genai/pydantic-ai*": Taken("otel", 2),
    "otel-genai/tempo*": Taken("otel", 2),
    "otel-genai/vercel*": Taken("otel", 4),
    "prometheus-llm/vllm-v?-*": Taken("vllm", 0),
    "prometheus-llm/nim-*": Taken("nim", 0),
    "prometheus-llm/litellm-*": Taken("litellm-metrics", 0),
    "pyrit/objective_achieved*": Taken("pyrit", 31),
    "pyrit/information*": Taken("pyrit", 4),
    "pyrit/hate*": Taken("pyrit", 5),
    "jailbreakbench/scores.csv": Taken("jailbreakbench", 1800),
}
READ_ELSEWHERE = ("litellm", "vllm", "nim", "litellm-metrics")  # from a database and a Prometheus


def files_of(traces_folder):
    """Return the real files by their names below the folder, but for what is said about them."""
    found = {
        path.relative_to(traces_folder).as_posix(): path
        for folder in FOLDERS
        for path in sorted((traces_folder / folder).rglob("*"))
        if path.is_file() and not any(fnmatch(path.name, pattern) for pattern in ABOUT)
    }
    assert len(found) > 50
    return found


def taken(name):
    """Return what the table says of a file."""
    (found,) = (what for pattern, what in TAKEN.items() if fnmatch(name, pattern))
    return found


def test_each_file_has_its_profile_and_each_line_of_the_table_its_file(traces_folder):
    names = files_of(traces_folder)
    assert not [name for name in names if not any(fnmatch(name, one) for one in TAKEN)]
    assert not [one for one in TAKEN if not any(fnmatch(name, one) for name in names)]
    metrics = {name for name in names if name.startswith("prometheus-llm/")}
    assert metrics == {f"prometheus-llm/{file}" for file in EXPOSITIONS}


def extract(intake, folder, run):
    """Stage what a folder holds, by the profile's reader."""
    module = {"reports": reports, "otel": otel, "json": records}[intake.reader.format]
    root = stored_root(str(folder), module.PURPOSE)
    if module is reports:
        reports.extract_reports(root, run, ZoneInfo("UTC"))
    elif module is otel:
        otel.extract_spans(intake.contract, root, run)
    else:
        records.extract_records(intake, root, run)


@pytest.mark.parametrize("profile", sorted({what.profile for what in TAKEN.values()}))
def test_each_record_is_a_row_or_a_letter_with_its_reason(profile, choose, tmp_path, traces_folder):
    if profile in READ_ELSEWHERE:
        pytest.skip("no file is its source")
    choose(profile)
    became, wanted = {}, {}
    for number, (name, path) in enumerate(files_of(traces_folder).items()):
        what = taken(name)
        if what.profile != profile:
            continue
        folder = tmp_path / str(number)
        folder.mkdir()
        shutil.copyfile(path, folder / path.name)
        before, counts = Counter(letters()), Counter()
        for intake in intakes():
            run = Run(f"{number}_{intake.contract.table}", Window(NOW - HOUR, NOW + 2 * HOUR))
            extract(intake, folder, run)
            done = publish(run, intake.contract.name)
            counts[intake.contract.table] = done.rows_published + done.rows_duplicate
            assert done.rows_read == done.rows_refused + counts[intake.contract.table]
        reasons = sorted(reason for _, _, reason in (Counter(letters()) - before).elements())
        became[name] = ([*counts.values()], reasons)
        wanted[name] = ([what.rows, what.evaluations][: len(counts)], sorted(what.refused))
    assert became == wanted


def test_what_pyrit_says_of_its_scorers_is_kept(choose, tmp_path, traces_folder):
    choose("pyrit")
    shutil.copytree(traces_folder / "pyrit", tmp_path / "pyrit", copy_function=shutil.copy)
    (intake,) = intakes()
    for number in range(2):
        run = Run(f"pyrit_{number}", Window(NOW - HOUR, NOW + 2 * HOUR))
        extract(intake, tmp_path / "pyrit", run)
        published = publish(run, intake.contract.name)
    assert published.rows_published == 0  # what was read before is no new version
    declared = json.loads((traces_folder / "pyrit" / "declared.json").read_text())
    for name, says in declared.items():
        technique = name.removesuffix("_metrics.jsonl")
        columns = "judge, iterations, score, behaviour_id, technique, model_id"
        mine = [row for row in rows(intake.contract.name, columns) if row[4] == technique]
        assert Counter(row[0] for row in mine) == says["scorers"]
        assert sum(row[1] for row in mine) == says["num_responses"]
        mean = says["mean_accuracy"] or says["mean_absolute_error"]
        assert sum(row[2] for row in mine) / len(mine) == pytest.approx(mean)
        assert {row[3] for row in mine} == {
            "accuracy" if says["mean_accuracy"] else "mean_absolute_error"
        }
        assert {row[5] for row in mine} <= {"gpt-4o", "gpt-4o-unsafe", "gpt-5.4", None}


def test_the_rates_of_jailbreakbench_are_those_of_its_artifacts(choose, tmp_path, traces_folder):
    """As a table, and as artifacts: the same evaluations, once."""
    choose("jailbreakbench")
    (tmp_path / "table").mkdir()
    shutil.copy(traces_folder / "jailbreakbench" / "scores.csv", tmp_path / "table")
    (intake,) = intakes()
    table = Run("table", Window(NOW - HOUR, NOW + 2 * HOUR))
    extract(intake, tmp_path / "table", table)
    assert publish(table, intake.contract.name).rows_published == 1800
    declared = json.loads((traces_folder / "jailbreakbench" / "declared.json").read_text())
    found = rows(intake.contract.name, "technique, model_id, successes, passes, iterations")
    for says in declared:
        mine = [row[2:] for row in found if row[:2] == (says["method"], says["model"])]
        assert len(mine) == says["rows"]
        assert sum(row[0] for row in mine) / len(mine) == says["attack_success_rate"]
        assert all(won + lost == tried == 1 for won, lost, tried in mine)
    artifact = artifact_of(traces_folder / "jailbreakbench" / "scores.csv")
    (tmp_path / "artifact").mkdir()
    (tmp_path / "artifact" / "a.json").write_text(json.dumps(artifact))
    again = Run("artifact", Window(NOW - HOUR, NOW + 2 * HOUR))
    extract(intake, tmp_path / "artifact", again)
    assert publish(again, intake.contract.name).rows_duplicate == 100


def artifact_of(table):
    """Return a table's first artifact in the form in which it was published, with texts."""
    with table.open(newline="") as file:
        lines = list(itertools.islice(csv.DictReader(file), 100))
    first = lines[0]
    return {
        "parameters": {
            "model": first["model"],
            "method": first["technique"],
            "attack_type": first["attack_type"],
            "evaluation_date": first["evaluation_date"],
            "evaluation_llm_provider": first["evaluation_llm_provider"],
            "attack_success_rate": 0.94,
        },
        "jailbreaks": [
            {
                "index": int(line["index"]),
                "goal": "a text",
                "prompt": "a text",
                "response": "a text",
                "jailbroken": line["jailbroken"] == "True",
            }
            for line in lines
        ],
    }
