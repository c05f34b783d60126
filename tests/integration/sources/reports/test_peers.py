"""Reports that real tools write here and now, of a model that answers without a provider."""

import json
import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from include.chimera.sources.reports.evaluations import Evaluation, ReportOrigin
from include.chimera.sources.reports.formats import read_report

pytestmark = [pytest.mark.integration, pytest.mark.long]
TASK = """
from inspect_ai import Task, eval
from inspect_ai.dataset import Sample
from inspect_ai.model import ModelOutput, ModelUsage, get_model
from inspect_ai.scorer import includes

answers = ["yes", "no", "yes", "yes", "no"]
outputs = [ModelOutput.from_content("mockllm/model", answer) for answer in answers]
for output in outputs:  # else it counts tokens with a vocabulary from the network
    output.usage = ModelUsage(input_tokens=7, output_tokens=1, total_tokens=8)
samples = [Sample(id=number, input="Is it?", target="yes") for number in range(1, 6)]
task = Task(dataset=samples, scorer=includes())
for form in ("eval", "json"):
    model = get_model("mockllm/model", custom_outputs=list(outputs))
    eval(task, model=model, log_dir=".", log_format=form, display="none", max_connections=1)
"""
CONFIG = {
    "prompts": ["Say {{word}}"],
    "providers": ["echo", {"id": "file://target.js", "label": "my-target"}],
    "tests": [
        {"vars": {"word": word}, "assert": [{"type": "contains", "value": "alpha"}], **more}
        for word, more in {
            "alpha": {},
            "beta": {"metadata": {"pluginId": "pii", "strategyId": "jailbreak"}},
            "alpha beta": {},
        }.items()
    ],
}
TARGET = """
module.exports = class {
  id() { return 'file://target.js'; }
  async callApi(prompt) {
    if (prompt.endsWith('alpha')) return { error: 'broken' };
    return { output: prompt, tokenUsage: { total: 10, prompt: 6, completion: 4 } };
  }
};
"""
# What garak imports for the probes and the generator below; all that it requires has gigabytes.
GARAK_NEEDS = (
    *("aiohttp", "backoff", "colorama", "ecoji", "ftfy", "httpx", "huggingface_hub", "jinja2"),
    *("jsonpath-ng", "langdetect", "litellm", "lorem==0.1.1", "markdown", "nltk", "numpy"),
    *("mikeshardmind-base2048", "openai", "pillow", "py-markdown-table", "python-magic", "pyyaml"),
    *("requests", "stdlibs", "tiktoken", "tqdm", "websockets", "wn==0.9.5", "xdg-base-dirs"),
    "zalgolib",
)


def run(*command: object, folder: Path, seconds: int = 1200, **variables: str) -> str:
    """Run a command in a folder; return what it says; skip if it can't reach its registry."""
    done = subprocess.run(  # noqa: S603 - the commands are this test's
        [str(part) for part in command],
        cwd=folder,
        env={**os.environ, **variables},  # noqa: TID251 - of another program
        timeout=seconds,
        capture_output=True,
        text=True,
        check=False,
    )
    return f"{done.returncode} {done.stdout[-500:]} {done.stderr[-500:]}"


def rows_of(path: Path) -> list[Evaluation]:
    """Return a report's evaluations; all that is in it must be one."""
    origin = ReportOrigin(path.name, datetime.now(UTC) + timedelta(minutes=1), ZoneInfo("UTC"))
    with path.open("rb") as file:
        found = list(read_report(file, origin))
    rows = [item for item in found if isinstance(item, Evaluation)]
    assert len(rows) == len(found)
    return rows


def test_inspect_of_today_says_what_we_count(tmp_path: Path) -> None:
    """Both forms of its log, of three right answers in five."""
    python = tmp_path / "venv" / "bin" / "python"
    run(sys.executable, "-m", "venv", tmp_path / "venv", folder=tmp_path)
    said = run(python, "-m", "pip", "install", "--quiet", "inspect_ai", folder=tmp_path)
    if not said.startswith("0"):
        pytest.skip(f"inspect_ai can't be installed: {said[-200:]}")
    (tmp_path / "task.py").write_text(TASK)
    said = run(python, "task.py", folder=tmp_path)
    logs = [*tmp_path.glob("*.eval"), *tmp_path.glob("*.json")]
    assert len(logs) == 2, said
    for log in logs:
        rows = rows_of(log)
        assert len(rows) == 5
        assert sum(row.passes or 0 for row in rows) == 3
        assert sum(row.successes or 0 for row in rows) == 2
        assert sum(row.score or 0 for row in rows) / 5 == 0.6
        assert sum(row.prompt_tokens or 0 for row in rows) == 35
        assert {(row.provider_id, row.model_id, row.judge) for row in rows} == {
            ("mockllm", "model", "includes")
        }
    (plain,) = (log for log in logs if log.suffix == ".json")
    results = json.loads(plain.read_text())["results"]
    assert results["scores"][0]["metrics"]["accuracy"]["value"] == 0.6


def test_garak_of_today_says_what_we_count(tmp_path: Path) -> None:
    """Its report of two probes and two detectors, one of them by chance, of three outputs each."""
    python = tmp_path / "venv" / "bin" / "python"
    run(sys.executable, "-m", "venv", tmp_path / "venv", folder=tmp_path)
    for wanted in (("--no-deps", "garak"), GARAK_NEEDS):
        said = run(python, "-m", "pip", "install", "--quiet", *wanted, folder=tmp_path)
        if not said.startswith("0"):
            pytest.skip(f"garak can't be installed: {said[-200:]}")
    said = run(
        *(
            python,
            "-m",
            "garak",
            "--target_type",
            "test.Repeat",
            "--probes",
            "test.Test,test.Blank",
        ),
        *("--detectors", "always.Fail,always.Random", "--generations", "3"),
        *("--report_prefix", tmp_path / "made"),
        folder=tmp_path,
        HOME=str(tmp_path),
    )
    report = tmp_path / "made.report.jsonl"
    assert report.is_file(), said
    entries = [json.loads(line) for line in report.read_text().splitlines()]
    says = {
        (entry["probe"], entry["detector"]): (entry["total_processed"], entry["fails"])
        for entry in entries
        if entry["entry_type"] == "eval"
    }
    rows = rows_of(report)
    assert {(row.technique, row.judge): (row.iterations, row.successes) for row in rows} == says
    assert len(says) == 4
    assert says["test.Blank", "always.Fail"] == (3, 3)


def test_promptfoo_of_today_says_what_we_count(tmp_path: Path) -> None:
    """Its file of results, of two passed tests in three by the provider that echoes."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("there is no npm")
    said = run(npm, "install", "--no-audit", "--no-fund", "promptfoo", folder=tmp_path)
    if not said.startswith("0"):
        pytest.skip(f"promptfoo can't be installed: {said[-200:]}")
    (tmp_path / "promptfooconfig.json").write_text(json.dumps(CONFIG))
    (tmp_path / "target.js").write_text(TARGET)
    said = run(
        tmp_path / "node_modules" / ".bin" / "promptfoo",
        *("eval", "-c", "promptfooconfig.json", "--no-cache"),
        *("-o", "results.json", "-o", "results.jsonl"),
        folder=tmp_path,
        PROMPTFOO_DISABLE_TELEMETRY="1",
        PROMPTFOO_DISABLE_UPDATE="1",
        PROMPTFOO_CONFIG_DIR=str(tmp_path / "state"),
    )
    results = tmp_path / "results.json"
    assert results.is_file(), said
    stats = json.loads(results.read_text())["results"]["stats"]
    rows = rows_of(results)
    assert len(rows) == 6
    assert sum(row.passes or 0 for row in rows) == stats["successes"] == 3
    assert sum(row.successes or 0 for row in rows) == stats["failures"] == 2
    assert sum(row.errors or 0 for row in rows) == stats["errors"] == 1
    assert sum(row.prompt_tokens or 0 for row in rows) == stats["tokenUsage"]["prompt"] == 12
    assert {row.judge for row in rows if not row.errors} == {"contains"}
    assert {row.model_id for row in rows} == {"echo", "my-target"}
    assert {
        (row.technique, row.behaviour_id) for row in rows if row.evaluation_kind == "attack"
    } == {("jailbreak", "pii")}
    again = rows_of(tmp_path / "results.jsonl")
    assert {row.evaluation_id for row in again} == {row.evaluation_id for row in rows}
