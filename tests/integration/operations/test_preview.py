"""A change of the dbt project seen before it lands, beside a lake that can only be read."""

from __future__ import annotations

import hashlib
import subprocess
from typing import TYPE_CHECKING

import pytest
from pyarrow import fs

from benchmarks.preview import CHANGED, MODELS, multiply
from benchmarks.preview import change as change_models
from tests.integration.dbt.small_bronze import HOURS, publish, publish_history, publish_late_rows
from tests.integration.dbt.small_bronze import generation as generation_row
from tests.integration.operations.published import (
    BOUND,
    Change,
    build_all,
    change_in,
    git,
    here,
    start,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.integration.object_store import Store

pytestmark = pytest.mark.integration

HOURLY_SUMS = "models/intermediate/int_generations_aggregated_hourly.sql"
FACTS = "models/marts/hourly/fct_generations.sql"


@pytest.fixture(scope="module")
def production(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Return a lake with something published, which nobody may write."""
    state = tmp_path_factory.mktemp("production")
    with here(state):
        publish_history()
        build_all(start(state))
        # Newer rows, which the published tables were not made of.
        publish_late_rows()
        publish("late", "bronze.generations", [generation_row(1, HOURS[-1], prompt_tokens=99)])
    lake = state / "lake"
    for place in (lake, *lake.rglob("*")):
        place.chmod(place.stat().st_mode & ~0o222)
    yield lake
    for place in (lake, *lake.rglob("*")):
        place.chmod(place.stat().st_mode | 0o200)


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
    object_store: Store, tmp_path: Path
) -> None:
    variables = object_store.new_lake()
    with here(tmp_path, **variables):
        publish_history()
        build_all(start(tmp_path, **variables))
    lake = variables["CHIMERA_LAKE_ROOT"]
    (tmp_path / "head").mkdir()
    reading = start(tmp_path, CHIMERA_LAKE_ROOT=lake, **object_store.reading)
    change = change_in(tmp_path / "head", reading)
    files = object_store.files()
    before = stored(files, lake)
    change.edit(HOURLY_SUMS, "sum(cost_usd)", "sum(cost_usd) filter (where is_succeeded)")
    found = change.preview("--base", "HEAD")
    assert found["tables"]["gold.agg_provider_hourly"]["difference"]["columns"] == {"cost_usd": 4}
    assert stored(files, lake) == before


def stored(files: fs.S3FileSystem, lake: str) -> set[tuple[str, int, int]]:
    """Return each object's path, size and time of its last change, in nanoseconds."""
    below = fs.FileSelector(lake.removeprefix("s3://"), recursive=True)
    found = files.get_file_info(below)
    return {(each.path, each.size, each.mtime_ns) for each in found if each.is_file}


@pytest.mark.long
def test_ten_changed_models_of_fifty_are_all_that_is_built(tmp_path: Path) -> None:
    """How long that takes, `make bench` says."""
    (tmp_path / "head").mkdir()
    change = change_in(tmp_path / "head", start(tmp_path))
    names = multiply(change.root, MODELS)
    assert len(list((change.root / "include/dbt/models").rglob("*.sql"))) == MODELS
    git(change.root, "add", "--all")
    git(change.root, "commit", "--quiet", "--message", "fifty models")
    with here(tmp_path):
        publish_history()
        build_all(change.environment, change.root)
    change_models(change.root, names[:CHANGED])
    found = change.preview("--base", "HEAD")
    assert {name.partition(".")[2] for name in found["tables"]} == set(names[:CHANGED])
    assert {table["outcome"] for table in found["tables"].values()} <= {"passed", "warned"}
    facts = found["tables"]["gold.fct_generations_0"]["difference"]
    assert facts["columns"] == {"status": facts["changed"]}
