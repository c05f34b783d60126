"""How many keys of hours before the run's own may change without a person."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from deltalake import Schema

from include.chimera.errors import GateFailedError
from include.chimera.lake.delta.lineage import Plan
from include.chimera.lake.delta.parquet_files import write_files
from include.chimera.lake.delta.partitions import Partitions, Whole
from include.chimera.lake.delta.tables import begin_table, open_table
from include.chimera.lake.staged.manifests import Build, save
from include.chimera.lake.store.places import folder_of
from include.chimera.quality.acceptance import accept
from include.chimera.quality.row_differences import version_difference
from include.chimera.window import HOUR, Run, Window
from tests.integration.quality.gating import START, configure, gated

if TYPE_CHECKING:
    from pathlib import Path

    from duckdb import DuckDBPyConnection

    from include.chimera.lake.staged.verdicts import Verdict

pytestmark = pytest.mark.integration

TABLE, RULE = "gold.agg_usage_daily", "closed_hours"
SHIPPED = "check: closed_hours, max: 0.5, severity: warning"
FIRST, SECOND = "20260104", "20260105"  # START is in the second
CUSTOMERS = "model-of-a-customer"


def rows(day: str, models: range, dearer: range = range(0)) -> str:
    """Return a query of a day's rows, one for each model; of some the cost is another."""
    cost = f"case when i between {dearer.start} and {dearer.stop - 1} then 2 else 1 end"
    return (
        f"select 'acme' as provider_id, '{CUSTOMERS}' || i as model_id, "
        "10::bigint as request_count, 8::bigint as succeeded_count, 1::bigint as failed_count, "
        "1::bigint as filtered_count, 3::bigint as user_count, 5::bigint as prompt_tokens, "
        f"5::bigint as completion_tokens, ({cost})::decimal(38, 9) as cost_usd, "
        "1.0::double as availability_ratio, "
        f"strptime('{day}', '%Y%m%d')::date as usage_date, '{day}' as _window_day "
        f"from range({models.start}, {models.stop}) as r(i)"
    )


def run_of(number: int) -> Run:
    window = Window.of_hour(START + number * HOUR)
    return Run(f"scheduled__{window.end.isoformat()}", window)


def stage(connection: DuckDBPyConnection, run: Run, days: list[str], *queries: str) -> None:
    """Stage days as a model's build does; all of the table if there is none yet."""
    begin_table(TABLE)
    live = open_table(TABLE)
    query = " union all ".join(queries)
    columns = connection.sql(query).to_arrow_table().schema
    files = write_files(connection, query, folder_of(TABLE), columns, ["_window_day"])
    schema = Schema.from_arrow(columns).to_json()
    replaced = Partitions("_window_day", tuple(days)) if live else Whole()
    plan = Plan(live.version() if live else None, {}, None)
    save(run, Build(TABLE, files, schema, ["_window_day"], replaced, plan, run.run_id))


def judge(run: Run) -> Verdict:
    """Judge what is staged, and publish it unless it is refused."""
    with gated(run, TABLE) as (gate, verdict):
        gate.publish()
    return verdict


def observed(verdict: Verdict) -> float | None:
    (found,) = (result for result in verdict.results if result.rule_id == RULE)
    return found.observed_value


@pytest.fixture
def history(connection: DuckDBPyConnection) -> None:
    """Publish two days of ten models each."""
    stage(connection, run_of(0), [], rows(FIRST, range(10)), rows(SECOND, range(10)))
    verdict = judge(run_of(0))
    assert (verdict.outcome, observed(verdict)) == ("passed", None)


@pytest.fixture
def limited(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Let a fifth of a past day's keys change."""
    configure(monkeypatch, tmp_path, TABLE, SHIPPED, "check: closed_hours, max: 0.2")


@pytest.mark.usefixtures("history", "limited")
def test_beyond_the_limit_a_version_is_refused_until_a_person_accepts_it(
    connection: DuckDBPyConnection,
) -> None:
    """Two keys cost more and one is gone, of ten; new ones and the run's own day don't count."""
    run, before = run_of(1), open_table(TABLE).version()
    stage(
        connection, run, [FIRST, SECOND],
        rows(FIRST, range(1, 12), dearer=range(1, 3)), rows(SECOND, range(10), dearer=range(10)),
    )  # fmt: skip
    with pytest.raises(GateFailedError, match=r"came closed_hours \(3 of 10\); 0 of 21 rows") as no:
        judge(run)
    assert "accept it" in str(no.value)
    assert CUSTOMERS not in str(no.value)
    assert open_table(TABLE).version() == before
    accept(TABLE, run.run_id, "the price list of the fourth was wrong")
    verdict = judge(run)
    assert (verdict.outcome, verdict.failed_rules) == ("accepted", (RULE,))
    found = version_difference(TABLE, before, open_table(TABLE).version())
    assert (found.partitions[FIRST], found.partitions[SECOND]) == ((2, 2, 1), (0, 10, 0))


@pytest.mark.usefixtures("history", "limited")
def test_late_rows_within_the_limit_are_published(connection: DuckDBPyConnection) -> None:
    run = run_of(1)
    stage(connection, run, [FIRST], rows(FIRST, range(20), dearer=range(2)))
    verdict = judge(run)
    assert (verdict.outcome, observed(verdict)) == ("passed", 0.2)
    stage(connection, run_of(2), [SECOND], rows(SECOND, range(10), dearer=range(10)))
    verdict = judge(run_of(2))
    assert (verdict.outcome, observed(verdict)) == ("passed", None)


@pytest.mark.usefixtures("history")
def test_as_shipped_most_of_a_past_day_is_told_and_published(
    connection: DuckDBPyConnection,
) -> None:
    stage(connection, run_of(1), [FIRST], rows(FIRST, range(10), dearer=range(6)))
    verdict = judge(run_of(1))
    assert (verdict.outcome, observed(verdict)) == ("warned", 0.6)
