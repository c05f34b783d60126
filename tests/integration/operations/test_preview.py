"""A change of the dbt project seen before it lands, beside a lake that can only be read."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from include.chimera.contracts import PUBLISHED_VERSIONS
from include.chimera.lake.delta.tables import open_table, table_names
from include.chimera.lake.ops_tables.appends import append_rows
from include.chimera.lake.ops_tables.consistent_snapshots import PINNED_LAYERS, _row
from include.chimera.paths import DBT_PROJECT, PROJECT
from include.chimera.relation import Relation
from include.chimera.window import Run, Window
from tests.integration.dbt.small_bronze import HOURS, publish, publish_history, publish_late_rows
from tests.integration.dbt.small_bronze import generation as generation_row
from tests.integration.object_store import BUCKET, forget_settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.integration

HOURLY_SUMS = "models/intermediate/int_generations_aggregated_hourly.sql"
FACTS = "models/marts/hourly/fct_generations.sql"
# Root is bound to a folder's permissions as anybody is.
_BOUND = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-dac_override"]
BOUND = _BOUND if os.geteuid() == 0 else []


@dataclass
class Change:
    """A copy of the project in which something changes, and the lake that it must not touch."""

    root: Path
    environment: dict[str, str]

    def edit(self, path: str, old: str, new: str) -> None:
        """Replace a text in a file of the dbt project."""
        file = self.root / "include" / "dbt" / path
        text = file.read_text()
        assert old in text
        file.write_text(text.replace(old, new))

    def preview(self, *options: str, code: int = 0) -> dict:
        """Run the command; return its JSON."""
        done = subprocess.run(  # noqa: S603 - our own command line
            [*BOUND, sys.executable, "-m", "include.chimera", "preview", "--json", *options],
            cwd=self.root,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code, done.stdout + done.stderr
        found: dict = json.loads(done.stdout)
        found["tables"] = {table["table"]: table for table in found["tables"]}
        return found


def fill(environment: dict[str, str]) -> None:
    """Publish six hours of bronze and all models of them, as one run."""
    publish_history()
    subprocess.run(  # noqa: S603 - our own command line
        [
            *(sys.executable, "-m", "dbt.cli.main", "build", "--quiet", "--target", "prod"),
            *("--exclude", "resource_type:unit_test", "resource_type:exposure"),
            *("--target-path", environment["CHIMERA_STATE_DIR"]),
        ],
        cwd=DBT_PROJECT,
        env={**environment, "PYTHONPATH": str(PROJECT)},
        check=True,
    )
    run = Run("the last run", Window.of_hour(HOURS[-1]))
    made = [name for name in table_names() if Relation.parse(name).schema in PINNED_LAYERS]
    now = datetime.now(UTC)
    rows = [_row(run, name, open_table(name).version(), now) for name in made]
    append_rows(PUBLISHED_VERSIONS, rows, run)


def start(folder: Path, **variables: str) -> dict[str, str]:
    """Return the environment of processes on a state of their own."""
    state = {"CHIMERA_STATE_DIR": str(folder), "HOME": str(folder), "PATH": os.environ["PATH"]}  # noqa: TID251 - git's
    return {**state, "DO_NOT_TRACK": "1", **variables}


@pytest.fixture(scope="module")
def production(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Return a lake with something published, which nobody may write."""
    state = tmp_path_factory.mktemp("production")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CHIMERA_STATE_DIR", str(state))
        forget_settings()
        fill(start(state))
        # Newer rows, which the published tables were not made of.
        publish_late_rows()
        publish("late", "bronze.generations", [generation_row(1, HOURS[-1], prompt_tokens=99)])
    forget_settings()
    lake = state / "lake"
    for place in (lake, *lake.rglob("*")):
        place.chmod(place.stat().st_mode & ~0o222)
    yield lake
    for place in (lake, *lake.rglob("*")):
        place.chmod(place.stat().st_mode | 0o200)


def git(folder: Path, *words: str) -> None:
    """Run git as nobody in particular."""
    who = ("-c", "user.name=nobody", "-c", "user.email=nobody@localhost")
    subprocess.run(["git", "-C", str(folder), *who, *words], check=True)  # noqa: S603, S607 - ours


def change_in(root: Path, environment: dict[str, str]) -> Change:
    """Return a copy of the project whose git reference HEAD is what production runs."""
    leave = shutil.ignore_patterns("target", "__pycache__")
    shutil.copytree(PROJECT / "include", root / "include", ignore=leave)
    git(root, "init", "--quiet")
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--message", "what production runs")
    return Change(root, environment)


@pytest.fixture
def change(production: Path, tmp_path: Path) -> Iterator[Change]:
    """Return a copy of the project to change; production is as it was afterwards."""
    before = contents(production)
    (tmp_path / "head").mkdir()
    environment = start(tmp_path, CHIMERA_LAKE_ROOT=str(production))
    yield change_in(tmp_path / "head", environment)
    assert contents(production) == before


def contents(lake: Path) -> dict[Path, str]:
    """Return a digest of each of a lake's files."""
    files = (place for place in lake.rglob("*") if place.is_file())
    return {place: hashlib.sha256(place.read_bytes()).hexdigest() for place in files}


def test_a_lake_that_may_only_be_read_is_only_read(production: Path) -> None:
    """What the other tests rely on: nobody here can write there, root included."""
    tried = [*BOUND, "touch", str(production / "gold" / "trial")]
    assert subprocess.run(tried, check=False, capture_output=True).returncode  # noqa: S603 - ours


def test_an_error_that_all_tests_and_gates_pass_is_seen(change: Change) -> None:
    """The cost of failed calls is no longer counted."""
    change.edit(HOURLY_SUMS, "sum(cost_usd)", "sum(cost_usd) filter (where is_succeeded)")
    comment = change.root.parent / "comment.md"
    found = change.preview("--base", "HEAD", "--hours", "24", "--comment", str(comment))
    assert found["is_good"]
    assert found["run_id"] == "the last run"
    tables = found["tables"]
    assert {name: table["outcome"] for name, table in tables.items()} == dict.fromkeys(
        ("gold.agg_provider_hourly", "gold.agg_usage_daily", "gold.dim_models",
         "gold.dim_providers"), "passed",
    )  # fmt: skip
    hourly = tables["gold.agg_provider_hourly"]["difference"]
    # Of three hours of the last 24, one call each failed, of acme; and one was filtered, of nobody.
    assert (hourly["added"], hourly["changed"], hourly["removed"]) == (0, 4, 0)
    assert (hourly["rows"], hourly["rows_before"], hourly["same"]) == (9, 9, 5)
    assert hourly["columns"] == {"cost_usd": 4}
    seen = {
        example["key"]["provider_id"]: example["values"]
        for example in hourly["examples"]["changed"]
    }
    assert len(hourly["examples"]["changed"]) == 3
    assert seen["acme"] == {"cost_usd": ["0.000000012", "0.000000006"]}
    assert tables["gold.agg_usage_daily"]["difference"]["columns"] == {"cost_usd": 3}
    assert tables["gold.dim_models"]["difference"]["changed"] == 0
    assert all(table["cpu_seconds"] > 0 for table in tables.values())
    text = comment.read_text()
    assert "| gold.agg_provider_hourly | passed | 9 | 9 | 0 | 4 | 0 | 5 |" in text
    assert "- columns that changed: cost_usd (4)" in text
    assert "cost_usd: 0.000000012 → 0.000000006" in text


@pytest.mark.long
def test_models_that_compute_the_same_from_other_code_differ_in_nothing(change: Change) -> None:
    """Three hours, of a day and a day before: late rows that production has not used are not."""
    for path in (change.root / "include/dbt/models/staging").rglob("*.sql"):
        path.write_text(f"{path.read_text()}-- other code\n")
    found = change.preview("--base", "HEAD", "--hours", "3")
    assert len(found["tables"]) == 16
    for name, table in found["tables"].items():
        difference = table["difference"]
        counts = [difference[word] for word in ("added", "changed", "removed")]
        assert (name, counts, difference["same"] > 0) == (name, [0, 0, 0], True)
    assert found["tables"]["gold.fct_generations"]["difference"]["rows"] == 12


def test_what_a_gate_or_dbt_refuses_is_told_and_keeps_nothing_else_from_being_seen(
    change: Change,
) -> None:
    """Also a table that is new, and has no rules, and one that is built no longer."""
    change.edit(FACTS, "prompt_tokens + completion_tokens as", "prompt_tokens as")
    models = change.root / "include" / "dbt" / "models" / "marts"
    (models / "agg_new.sql").write_text("select 1 as one\n")
    (models / "agg_new.yml").write_text(
        "models:\n  - name: agg_new\n    columns:\n      - {name: one, data_type: integer}\n"
    )
    found = change.preview("--base", "HEAD", code=1)
    facts = found["tables"]["gold.fct_generations"]
    assert (facts["outcome"], facts["failed_rules"]) == ("failed", ["tokens_add_up"])
    assert facts["difference"]["columns"] == {"total_tokens": 15}
    (example, *_) = facts["difference"]["examples"]["changed"]
    assert example["key"].keys() == {"generation_id"}
    assert not example["values"], "no value of a column that is not public"
    new = found["tables"]["gold.agg_new"]
    assert (new["outcome"], new["difference"]["added"]) == ("not judged", 1)
    assert "no file" in new["message"].lower()
    assert found["tables"]["gold.agg_usage_daily"]["outcome"] == "passed"


@pytest.mark.long
def test_a_lake_in_a_bucket_is_read_with_a_key_that_may_read_alone(
    object_store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    variables = object_store.new_lake()
    monkeypatch.setenv("CHIMERA_STATE_DIR", str(tmp_path))
    for name, text in variables.items():
        monkeypatch.setenv(name, text)
    forget_settings()
    fill(start(tmp_path, **variables))
    monkeypatch.undo()
    forget_settings()
    lake = variables["CHIMERA_LAKE_ROOT"]
    (tmp_path / "head").mkdir()
    reading = start(tmp_path, CHIMERA_LAKE_ROOT=lake, **object_store.reading)
    change = change_in(tmp_path / "head", reading)
    files = object_store.files()
    before = files.get_file_info(_below(lake))
    change.edit(HOURLY_SUMS, "sum(cost_usd)", "sum(cost_usd) filter (where is_succeeded)")
    found = change.preview("--base", "HEAD")
    assert found["tables"]["gold.agg_provider_hourly"]["difference"]["columns"] == {"cost_usd": 4}
    assert files.get_file_info(_below(lake)) == before


def _below(lake: str):
    from pyarrow import fs  # noqa: PLC0415

    assert BUCKET in lake
    return fs.FileSelector(lake.removeprefix("s3://"), recursive=True)
