"""`usual` rules report the first value far beyond a table's own history."""

from __future__ import annotations

import shutil
from decimal import Decimal
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from include.chimera.demo.recorded.replayed import ReplayedFeed
from include.chimera.demo.synthetic.generator import GeneratedFeed
from include.chimera.errors import GateFailedError
from include.chimera.quality.outliers import MIN_HOURS, limit
from include.chimera.quality.quality_results import record_quality
from include.chimera.quality.rules import book
from include.chimera.settings import get_settings
from include.chimera.window import HOUR, Run, Window
from tests.integration.quality.gating import START, alarms, configure, gated
from tests.integration.quality.hours import bronze_tables, stage_hour
from tests.integration.quality.test_gate import rows_of

if TYPE_CHECKING:
    from pathlib import Path

    from include.chimera.lake.staged.verdicts import Verdict

pytestmark = pytest.mark.integration

TABLE, RULE = "bronze.generations", "usual_cost_usd"
LINE = "check: usual, column: cost_usd, floor: 0.01, severity: warning"
WATCHED = {rule.columns[0]: rule for rule in book.rule_book(TABLE).rules if rule.check == "usual"}


def hour_of(number: int) -> Run:
    window = Window.of_hour(START + number * HOUR)
    return Run(f"scheduled__{window.end.isoformat()}", window)


def generations(number: int, **changes: object) -> pa.Table:
    """Return an hour's rows; the changes are values of the first one."""
    rows = bronze_tables(GeneratedFeed(300), hour_of(number).window)[TABLE]
    for name, value in changes.items():
        kind = rows.schema.field(name).type
        one, old = pa.array([value], kind), rows[name].combine_chunks()
        changed = pa.concat_arrays([one, old.slice(1)])
        rows = rows.set_column(rows.schema.get_field_index(name), name, changed)
    return rows


def go(number: int, rows: pa.Table) -> Verdict:
    """Judge, publish and record an hour."""
    run = hour_of(number)
    stage_hour(run, {TABLE: rows})
    with gated(run, TABLE) as (gate, verdict):
        try:
            gate.publish()
        finally:
            record_quality(run)
    return verdict


@pytest.fixture(scope="module")
def past(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Let enough hours go by to have a history; return the state folder."""
    folder = tmp_path_factory.mktemp("past")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CHIMERA_STATE_DIR", str(folder))
        get_settings.cache_clear()
        for number in range(MIN_HOURS):
            assert not alarms(go(number, generations(number)))
    get_settings.cache_clear()
    return folder


@pytest.fixture
def usual_hours(past: Path, lake: Path) -> int:
    """Copy the history to the test's own lake; return how many hours it has."""
    shutil.copytree(past, lake.parent, dirs_exist_ok=True)
    return MIN_HOURS


def test_the_first_outlier_is_told_and_published(usual_hours: int) -> None:
    """A real cost of 9,990.01 USD: within every bound, and 3,600 times the next dearest."""
    verdict = go(usual_hours, generations(usual_hours, cost_usd=Decimal("9990.01252875")))
    assert (verdict.outcome, alarms(verdict)) == ("warned", {RULE})
    assert verdict.rows_refused == 0
    told = rows_of(
        "ops.quality_results",
        "unexpected_count, observed_value",
        f"rule_id = '{RULE}' and not is_passed",
    )
    assert told == [(1, pytest.approx(9990.01252875))]
    calm = go(usual_hours + 1, generations(usual_hours + 1))
    assert (calm.outcome, alarms(calm)) == ("passed", set())


def test_each_watched_column_tells_its_first_outlier(usual_hours: int) -> None:
    """A value within the hard bounds, but far beyond all earlier ones."""
    tokens, slow = 9_999_999, 3_599_999.0
    found = go(usual_hours, generations(usual_hours, prompt_tokens=tokens, completion_tokens=tokens,
                                        latency_ms=slow, ttft_ms=slow))  # fmt: skip
    assert alarms(found) >= {f"usual_{column}" for column in WATCHED} - {RULE}


def test_a_critical_bound_sets_the_row_aside(
    usual_hours: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """One line: the outlier is a dead letter, the hour's other rows are published."""
    configure(
        monkeypatch,
        tmp_path,
        TABLE,
        LINE,
        "check: usual, column: cost_usd, floor: 0.01, times: 100",
    )
    rows = generations(usual_hours, cost_usd=Decimal(9990))
    before = rows_of(TABLE, "count(*)")[0][0]
    assert go(usual_hours, rows).rows_refused == 1
    assert rows_of(TABLE, "count(*)") == [(before + rows.num_rows - 1,)]
    assert rows_of("ops.dead_letters", "reason") == [(RULE,)]


def test_a_critical_bound_of_every_row_refuses_the_hour(
    usual_hours: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """`mostly: 1`: nothing is published until a person has looked."""
    configure(
        monkeypatch, tmp_path, TABLE, LINE, "check: usual, column: cost_usd, floor: 0.01, mostly: 1"
    )
    before = rows_of(TABLE, "count(*)")
    with pytest.raises(GateFailedError, match=RULE):
        go(usual_hours, generations(usual_hours, cost_usd=Decimal(9990)))
    assert rows_of(TABLE, "count(*)") == before


def assert_silent(greatest: list[float], column: str) -> None:
    """Check each hour's largest value against all hours before it."""
    floor = WATCHED[column].bounds["floor"]
    for number, value in enumerate(greatest):
        upper = limit(greatest[max(0, number - 336) : number], floor)
        assert upper is None or value <= upper, (column, number)


@pytest.mark.parametrize("rows_an_hour", [20, 200])
def test_two_hundred_generated_hours_are_usual(rows_an_hour: int) -> None:
    """Nights and days, heavy tails: each hour against those before it."""
    feed = GeneratedFeed(rows_an_hour)
    hours = [feed.hour(hour_of(number).window).tables["generations"] for number in range(200)]
    for column in WATCHED:
        greatest = [pc.max(hour[column]).as_py() for hour in hours if hour.num_rows]
        assert_silent([float(value) for value in greatest if value is not None], column)


@pytest.mark.parametrize("size", [1, 10, 100])
def test_real_traces_are_usual(traces_folder: Path, size: int) -> None:
    """Azure's and llmperf's requests in equal pieces, as if each were an hour."""
    for number in range(2):
        rows = ReplayedFeed(traces_folder, START).hour(hour_of(number).window).tables["generations"]
        for column in WATCHED:
            known = [
                float(value) for value in rows[column].to_pylist()[:20_000] if value is not None
            ]
            pieces = [max(known[first : first + size]) for first in range(0, len(known), size)]
            assert_silent(pieces[:1000], column)
