"""One bad row never stops an hour: it is set aside or published, and the others are published."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from include.chimera.contracts import CONTRACTS, PARTITION
from include.chimera.demo.synthetic.generator import GeneratedFeed
from include.chimera.lake.delta.tables import open_table
from include.chimera.quality.quality_results import record_quality
from tests.integration.quality.faults import replaced
from tests.integration.quality.gating import RUN, gated, judge
from tests.integration.quality.hours import bronze_tables, stage_hour
from tests.integration.quality.test_agreement import HOSTILE
from tests.integration.quality.test_gate import rows_of

if TYPE_CHECKING:
    from include.chimera.lake.staged.verdicts import Verdict

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("lake")]

GENERATIONS = "bronze.generations"
_TIME = pa.timestamp("us", "UTC")
INFINITY = 2**63 - 1
"""What Arrow holds where DuckDB holds the timestamp `infinity`."""
EXTREMES: dict[pa.DataType, list[object]] = {
    pa.int64(): [2**63 - 1, -(2**63)],
    pa.float64(): [1.7e308, -1.7e308, 5e-324],
    pa.string(): ["\x00", "\ud7ff\uffff\U0010ffff", "\u202e\x1b[31m", "x" * 100_000],
    pa.list_(pa.string()): [[], [None], [""], ["\x00"]],
    _TIME: [INFINITY, -INFINITY],
}


KEYS = {
    "bronze.generations": "generation_id",
    "bronze.evaluations": "evaluation_id",
    "bronze.models": "model_id",
    "bronze.api_logs": "_file",
    "bronze.provider_metrics": "series_id",
}


def strange(table: str) -> list[tuple[str, object]]:
    """Return each column with each value that might break a rule or a statistic.

    The window's start is left out: as a sample's time it would be another sample's key.
    """
    return [
        (field.name, value)
        for field in CONTRACTS[table].schema
        if field.name != PARTITION  # made by staging itself
        for value in (None, *HOSTILE.get(field.type, ()), *EXTREMES.get(field.type, ()))
        if value != RUN.window.start
    ]


@pytest.fixture(scope="module")
def hour() -> dict[str, pa.Table]:
    """Return an hour of bronze, repeated under other keys until all strange rows are 1 % of it."""
    return {
        table: repeated(rows, KEYS[table], 100 * len(strange(table)))
        for table, rows in bronze_tables(GeneratedFeed(2000), RUN.window).items()
    }


def repeated(rows: pa.Table, key: str, count: int) -> pa.Table:
    """Repeat rows up to a count, with a different key suffix each time."""
    place = rows.schema.get_field_index(key)
    times = [
        rows.set_column(
            place, rows.schema.field(key), pc.binary_join_element_wise(rows[key], f"{time}", "-")
        )
        for time in range(count // rows.num_rows + 1)
    ]
    return pa.concat_tables(times).slice(0, count)


def planted(rows: pa.Table, changes: list[tuple[str, object]]) -> pa.Table:
    """Give each of the first rows one strange value, so that rules break row by row."""
    columns = {name: rows[name].combine_chunks() for name in rows.column_names}
    for number, (name, value) in enumerate(changes):
        old, one = columns[name], pa.array([value], rows.schema.field(name).type)
        columns[name] = pa.concat_arrays([old.slice(0, number), one, old.slice(number + 1)])
    nullable = pa.schema([field.with_nullable(True) for field in rows.schema])
    return pa.table(columns, schema=nullable)


def publish(table: str, rows: pa.Table) -> tuple[Verdict, int, int]:
    """Stage, judge and publish rows; return the verdict, rows published and rows set aside."""
    stage_hour(RUN, {table: rows})
    with gated(RUN, table) as (gate, verdict):
        assert verdict.success, verdict.failed_rules
        gate.publish()
    ((published,),) = rows_of(table, "count(*)")
    set_aside = open_table("ops.dead_letters") is not None
    ((letters,),) = rows_of("ops.dead_letters", "count(*)") if set_aside else ((0,),)
    return verdict, published, letters


@pytest.mark.parametrize("table", KEYS)
def test_any_value_in_one_row_leaves_the_others_alone(hour, table: str) -> None:
    """Null, NaN, infinities, extremes, odd texts, and times at both ends, in each column."""
    changes, rows = strange(table), hour[table]
    verdict, published, letters = publish(table, planted(rows, changes))
    assert published + letters == rows.num_rows
    assert 0 < letters == verdict.rows_refused <= len(changes)
    assert not [rule.rule_id for rule in verdict.results if rule.error]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0, 1e300])
def test_one_bad_row_of_few_leaves_the_others_alone(hour, value: float) -> None:
    """At night an hour has fifty rows, of which one is 2 %."""
    rows = planted(hour[GENERATIONS].slice(0, 50), [("latency_ms", value)])
    assert publish(GENERATIONS, rows)[1:] == (49, 1)


def test_statistic_looks_at_good_rows(hour) -> None:
    """Refused values don't shift the mean, and infinite ones don't make the deviation raise."""
    clean = {
        rule.rule_id: rule.observed_value for rule in judge(GENERATIONS, hour[GENERATIONS]).results
    }
    rows = planted(hour[GENERATIONS], [("latency_ms", 3.5e6 + 1e6), ("ttft_ms", float("nan"))])
    found = {rule.rule_id: rule.observed_value for rule in judge(GENERATIONS, rows).results}
    for rule_id in ("mean_latency_ms", "stdev_latency_ms", "mean_prompt_tokens"):
        assert found[rule_id] == pytest.approx(clean[rule_id], rel=0.02)


def test_rule_that_raised_says_so_and_stops_by_its_severity(hour, caplog) -> None:
    """Text in place of numbers: the mean is a warning, the wrong type is critical."""
    rows = hour[GENERATIONS]
    texts = pa.array(["a"] * rows.num_rows, pa.string())
    verdict = judge(GENERATIONS, replaced(rows, "latency_ms", texts))
    assert "rule mean_latency_ms (warning) can't be judged" in caplog.text
    assert "types" in verdict.failed_rules
    assert not {"mean_latency_ms", "stdev_latency_ms"} & set(verdict.failed_rules)


def test_null_ratio_of_a_list_is_told(hour) -> None:
    """Files' statistics do not count its nulls."""
    rows = hour[GENERATIONS]
    lists = pa.array([None] * rows.num_rows, pa.list_(pa.string()))
    publish(GENERATIONS, replaced(rows, "techniques", lists))
    record_quality(RUN)
    rule = "rule_id = 'anomaly_null_ratio_techniques'"
    assert rows_of("ops.quality_results", "observed_value", rule) == [(1.0,)]
