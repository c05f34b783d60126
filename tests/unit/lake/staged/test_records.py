"""Records of the previous version are read, and anything else is refused."""

import json
import math
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from include.chimera.errors import StageDamagedError
from include.chimera.lake.delta.lineage import Plan
from include.chimera.lake.delta.parquet_files import DataFile
from include.chimera.lake.delta.partitions import Partitions, Whole
from include.chimera.lake.staged.held_back import HeldBack
from include.chimera.lake.staged.manifests import Batch, Build
from include.chimera.lake.staged.publications import Publication
from include.chimera.lake.staged.records import from_json, to_json
from include.chimera.lake.staged.reports import (
    BrokenRule,
    GateLine,
    Refusals,
    RunReport,
    TableCounts,
)
from include.chimera.lake.staged.verdicts import RuleResult, Verdict
from include.chimera.quality.acceptance import Acceptance
from include.chimera.window import HOUR, Run, Window

START = datetime(2026, 1, 5, 10, tzinfo=UTC)
TABLE, FILE = "bronze.generations", "_window_hour=20260105T10/part-1.parquet"

# The texts of the version before its records were classes, by what they are read as.
BEFORE = {
    """{"allow_shrink": false, "bounds": ["2026-01-05 10:00:00+00", "2026-01-05 10:59:00+00"],
    "digests": {"part-1.parquet": "ab"}, "files": [{"partition": {"_window_hour": "20260105T10"},
    "path": "_window_hour=20260105T10/part-1.parquet", "rows": 3, "size_bytes": 1200,
    "stats": "{\\"numRecords\\": 3}"}], "held_back": {"rows": 2, "since":
    "2026-01-05T10:00:00+00:00", "transactions": 1}, "hours": ["20260105T10"], "is_addition": false,
    "is_distinct": false, "letters": [], "rows_read": 4, "rows_unparsed": 1,
    "table": "bronze.generations", "token": 1767, "watermark": 5}""": Batch(
        TABLE,
        token=1767,
        rows_read=4,
        files=[DataFile(FILE, 3, 1200, {"_window_hour": "20260105T10"}, '{"numRecords": 3}')],
        rows_unparsed=1,
        digests={"part-1.parquet": "ab"},
        bounds=["2026-01-05 10:00:00+00", "2026-01-05 10:59:00+00"],
        hours=["20260105T10"],
        watermark=5,
        held_back=HeldBack(2, 1, "2026-01-05T10:00:00+00:00"),
    ),
    """{"checks": {"positive": "id > 0"}, "description": "d", "files": [{"partition": {},
    "path": "part-1.parquet", "rows": 3, "size_bytes": 1200, "stats": "{}"}], "invocation_id":
    "inv", "is_partial": false, "is_rewrite": false, "may_replace": true, "partition_by":
    ["_window_hour"], "plan": {"base_version": 3, "consumed": {"bronze.models#1": 7}},
    "properties": {}, "replaced": ["20260105T10"], "schema": "{}", "table": "gold.fct"}""": Build(
        "gold.fct",
        [DataFile("part-1.parquet", 3, 1200, {}, "{}")],
        "{}",
        ["_window_hour"],
        Partitions("_window_hour", ("20260105T10",)),
        Plan(3, {"bronze.models#1": 7}),
        "inv",
        description="d",
        checks={"positive": "id > 0"},
    ),
    """{"accepted_by": "ada", "accepted_reason": "new this week", "failed_rules": ["in_set_status",
    "min_pass_ratio"], "is_counted": true, "moves_watermark": false, "outcome": "accepted",
    "pass_ratio": 0.75, "results": [{"checked_count": 4, "error": null, "examples": [["refunded",
    1]], "is_passed": false, "observed_value": null, "pass_ratio": 0.75, "rule_id": "in_set_status",
    "severity": "critical", "tolerated_count": 0, "unexpected_count": 1}, {"checked_count": null,
    "error": null, "examples": [], "is_passed": true, "observed_value": 1.5, "pass_ratio": null,
    "rule_id": "mean_cost", "severity": "info", "tolerated_count": 0, "unexpected_count": null}],
    "rows": 4, "rows_refused": 1, "rules": 2, "rules_passed": 1, "run_id": "r", "seconds": 1.234,
    "table": "bronze.generations", "validated_at": "2026-01-05T11:00:00.123456+00:00",
    "window": ["2026-01-05T10:00:00+00:00", "2026-01-05T11:00:00+00:00"]}""": Verdict(
        table=TABLE,
        run_id="r",
        window=Window.of_hour(START),
        moves_watermark=False,
        results=(
            RuleResult("in_set_status", "critical", False, 4, 1, examples=(("refunded", 1),)),
            RuleResult("mean_cost", "info", True, observed_value=1.5),
        ),
        rows=4,
        rows_refused=1,
        failed_rules=("in_set_status", "min_pass_ratio"),
        seconds=1.234,
        validated_at=START + HOUR + datetime.resolution * 123456,
        accepted_by="ada",
        accepted_reason="new this week",
        is_counted=True,
    ),
    """{"rows_duplicate": null, "rows_published": null, "rows_read": 4, "rows_refused": 1,
    "table": "bronze.generations", "token": 1767, "version": 0}""": Publication(
        TABLE, 4, None, 1, None, 0, 1767
    ),
    """{"accepted_at": "2026-01-05T12:00:00+00:00", "accepted_by": "ada", "reason": "new", "rules":
    ["in_set_status"], "run_id": "r", "stage": "cd", "table": "bronze.generations"}""": Acceptance(
        TABLE, "r", "ada", "new", "2026-01-05T12:00:00+00:00", ["in_set_status"], "cd"
    ),
    """{"correlation_id": "0123456789ab", "gates": [{"failed_rules": [{"rule_id": "fresh",
    "severity": "warning", "unexpected_count": null}], "rule_count": 4, "table": "gold.fct",
    "verdict": "warned"}], "refusals": [{"count": 1, "reason": "not JSON", "source": "api_logs"}],
    "run_id": "r", "tables": [{"rows_duplicate": null, "rows_published": null, "rows_read": null,
    "rows_refused": null, "rows_total": 23323, "table": "gold.fct", "version": 7}],
    "window": ["2026-01-05T10:00:00+00:00", "2026-01-05T11:00:00+00:00"]}""": RunReport(
        run_id="r",
        correlation_id="0123456789ab",
        window=Window.of_hour(START),
        tables=(TableCounts("gold.fct", None, None, None, None, 7, 23323),),
        gates=(GateLine("gold.fct", "warned", 4, (BrokenRule("fresh", "warning", None),)),),
        refusals=(Refusals("api_logs", "not JSON", 1),),
    ),
}


@pytest.mark.parametrize(
    ("text", "record"), BEFORE.items(), ids=[type(record).__name__ for record in BEFORE.values()]
)
def test_what_the_version_before_wrote_reads_as_it_was_meant(text, record):
    assert from_json(type(record), text, "here") == record
    assert from_json(type(record), to_json(record), "here") == record


def test_a_build_without_partitions_replaces_the_whole_table():
    text = next(text for text, record in BEFORE.items() if isinstance(record, Build))
    found = from_json(Build, text.replace('["20260105T10"]', "null"), "here")
    assert found.replaced == Whole()
    assert from_json(Build, to_json(found), "here") == found


def test_a_verdict_keeps_what_its_gate_decided():
    """Even if its limits were not today's: a rule that failed then stays failed."""
    verdict = next(record for record in BEFORE.values() if isinstance(record, Verdict))
    assert (verdict.outcome, verdict.pass_ratio, verdict.results[0].pass_ratio) == (
        "accepted", 0.75, 0.75,
    )  # fmt: skip
    assert verdict.run == Run("r", Window.of_hour(START), moves_watermark=False)
    (text,) = (text for text, record in BEFORE.items() if record is verdict)
    failed = from_json(Verdict, text.replace('"ada"', "null"), "here")
    assert (failed.outcome, failed.failed_rules) == ("failed", ("in_set_status", "min_pass_ratio"))


def test_a_statistic_that_is_no_number_stays_one():
    """The mean of a column with a NaN is NaN; null would mean that nothing was observed."""
    verdict = next(record for record in BEFORE.values() if isinstance(record, Verdict))
    results = (RuleResult("mean_cost", "info", False, observed_value=math.nan),)
    found = from_json(Verdict, to_json(replace(verdict, results=results)), "here")
    assert math.isnan(found.results[0].observed_value)


@pytest.mark.parametrize("text", ["", "{}", '{"table": "canary"', '{"table": ["canary"]}'])
def test_a_damaged_record_is_refused_without_a_word_of_it(text):
    with pytest.raises(
        StageDamagedError, match=r"the Publication .* lake/publication.json"
    ) as told:
        from_json(Publication, text, "lake/publication.json")
    assert "canary" not in str(told.value)
    assert told.value.__cause__ is None


@pytest.mark.parametrize("window", ["canary", 5, None, ["canary", "canary"], ["2026-01-01"]])
def test_a_window_that_is_none_is_a_damaged_record(window):
    verdict = next(record for record in BEFORE.values() if isinstance(record, Verdict))
    text = json.dumps({**json.loads(to_json(verdict)), "window": window})
    with pytest.raises(StageDamagedError, match="at window"):
        from_json(Verdict, text, "here")
